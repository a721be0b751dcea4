//! [`MetaHandle`]: how the rest of a node writes to and reads from the replicated state.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use meta::{Command, Outcome, RequestId, StateHash};
use proto::v1 as pb;
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;

use crate::config::Limits;
use crate::connect::{Lane, Peers};
use crate::error::{ReadError, WriteError};
use crate::identity::Member;
use crate::node::{NotDone, Replica};
use crate::server::RaftService;
use crate::state_store::LocalView;
use crate::status::RaftStatus;

/// Largest command: a manifest of the 4 MiB the specification allows, and what surrounds it.
pub(crate) const COMMAND_BYTES_MAX: usize = (4 << 20) + (64 << 10);
/// How long one attempt may take before another node is asked: an election takes about as long.
const ATTEMPT_MAX: Duration = Duration::from_secs(2);
/// Pause before the first retry; doubles up to the longest.
const RETRY_PAUSE: Duration = Duration::from_millis(20);
const RETRY_PAUSE_MAX: Duration = Duration::from_millis(320);

/// A member's access to the replicated state. Clones share it.
#[derive(Clone)]
pub struct MetaHandle {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) replica: Arc<dyn Replica>,
    pub(crate) service: RaftService,
    pub(crate) peers: Arc<Peers>,
    pub(crate) status: watch::Receiver<RaftStatus>,
    pub(crate) applied: watch::Receiver<u64>,
    pub(crate) boot_count: u64,
    pub(crate) requests: Requests,
    pub(crate) limits: Limits,
    pub(crate) writes: Semaphore,
}

/// Numbers the requests of this process.
pub(crate) struct Requests {
    client: u64,
    next: AtomicU64,
}

impl Requests {
    /// `random` tells this process from every other.
    pub(crate) fn new(random: u128) -> Self {
        // The low half of a random number is as random.
        Requests {
            client: random as u64,
            next: AtomicU64::new(1),
        }
    }

    fn next(&self) -> RequestId {
        RequestId {
            client: self.client,
            sequence: self.next.fetch_add(1, Ordering::Relaxed),
        }
    }
}

impl fmt::Debug for MetaHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MetaHandle")
            .field("status", &*self.inner.status.borrow())
            .finish()
    }
}

/// Who can be asked to do what only a leader does.
enum Leader {
    Here,
    At { node: u64, address: String },
    Unknown,
}

/// Why nothing is tried any more.
enum End {
    Stopped,
    NoRoom,
}

impl MetaHandle {
    pub(crate) fn new(inner: Inner) -> Self {
        MetaHandle { inner: Arc::new(inner) }
    }

    /// Commits `command`, wherever the leader is, and answers what applying it said. Once this returns, a later
    /// linearizable read anywhere sees its effect; a local read does where [`applied`](Self::applied) has caught up.
    ///
    /// # Errors
    /// [`WriteError`]. After `TimedOut` the command may still take effect.
    pub async fn write(&self, command: Command) -> Result<Outcome, WriteError> {
        let bytes = Bytes::from(command.encode());
        if bytes.len() > COMMAND_BYTES_MAX {
            return Err(WriteError::TooLarge {
                bytes: bytes.len(),
                max: COMMAND_BYTES_MAX,
            });
        }
        let _permit = self.inner.writes.try_acquire().map_err(|_| WriteError::Overloaded)?;
        let request = self.inner.requests.next();
        let deadline = self.inner.limits.write_deadline;
        let attempts = self.retry(|leader| self.attempt_write(leader, request, command.clone(), bytes.clone()));
        match tokio::time::timeout(deadline, attempts).await {
            Ok(Ok(outcome)) => Outcome::decode(&outcome).map_err(WriteError::Unreadable),
            Ok(Err(End::Stopped)) => Err(WriteError::Stopped),
            Ok(Err(End::NoRoom)) => Err(WriteError::NoRoom),
            Err(_) => Err(WriteError::TimedOut),
        }
    }

    /// The state of this node as it is now. Answers without a quorum, and may be behind the leader.
    pub fn local(&self) -> LocalView {
        self.inner.replica.view()
    }

    /// Waits until local reads see every write that was acknowledged, anywhere, before this was called.
    ///
    /// # Errors
    /// [`ReadError`] without a quorum.
    pub async fn linearizable(&self) -> Result<(), ReadError> {
        let read = async {
            let Ok(index) = self.retry(|leader| self.attempt_read_index(leader)).await else {
                return Err(ReadError::Stopped);
            };
            let mut applied = self.inner.applied.clone();
            applied
                .wait_for(|applied| *applied >= index)
                .await
                .map_err(|_| ReadError::Stopped)?;
            Ok(())
        };
        tokio::time::timeout(self.inner.limits.read_deadline, read)
            .await
            .map_err(|_| ReadError::TimedOut)?
    }

    /// What this node knows of its cluster, as it changes.
    pub fn status(&self) -> watch::Receiver<RaftStatus> {
        self.inner.status.clone()
    }

    /// Index of the last entry applied here, as it grows. A view taken after it reached an index holds that entry.
    pub fn applied(&self) -> watch::Receiver<u64> {
        self.inner.applied.clone()
    }

    /// Hash of the state here, and the index it belongs to. Replicas at the same index have the same hash.
    pub fn state_hash(&self) -> (u64, StateHash) {
        self.inner.replica.state_hash()
    }

    /// Hash of the state after entry `index`; `None` if that entry is not applied yet, or was long ago.
    pub fn state_hash_at(&self, index: u64) -> Option<StateHash> {
        self.inner.replica.state_hash_at(index)
    }

    /// The cluster, and this node's id in it.
    pub fn member(&self) -> Member {
        self.inner.replica.member()
    }

    /// How often a node started on this disk, this time included.
    pub fn boot_count(&self) -> u64 {
        self.inner.boot_count
    }

    /// Gives leadership to another voter, if this node has it. Called before a planned end, so that nobody has to wait
    /// for an election. Returns within a few seconds whether this node does not lead any more.
    pub async fn hand_over(&self) -> bool {
        self.inner.replica.hand_over().await
    }

    /// Stops consensus on this node and closes its log. Handles of this node answer `Stopped` from then on.
    pub async fn shutdown(&self) {
        self.inner.service.set_handle(None);
        self.inner.replica.shutdown().await;
    }

    pub(crate) fn replica(&self) -> Arc<dyn Replica> {
        Arc::clone(&self.inner.replica)
    }

    fn leader(&self, hint: Option<u64>) -> Leader {
        let status = self.inner.status.borrow();
        let Some(leader) = hint.map(meta::NodeId::new).or(status.leader) else {
            return Leader::Unknown;
        };
        match status.members.get(&leader) {
            _ if leader == status.node => Leader::Here,
            Some(info) => Leader::At {
                node: leader.get(),
                address: info.address.clone(),
            },
            None => Leader::Unknown,
        }
    }

    /// Tries at the leader, whoever it is by then, until it works or never will. The caller sets the deadline.
    async fn retry<T, F>(&self, attempt: impl Fn(Leader) -> F) -> Result<T, End>
    where
        F: Future<Output = Result<T, NotDone>>,
    {
        let mut pause = RETRY_PAUSE;
        let mut hint = None;
        loop {
            let leader = self.leader(hint.take());
            match tokio::time::timeout(ATTEMPT_MAX, attempt(leader)).await {
                Ok(Ok(done)) => return Ok(done),
                Ok(Err(NotDone::Stopped)) => return Err(End::Stopped),
                Ok(Err(NotDone::NoRoom)) => return Err(End::NoRoom),
                Ok(Err(NotDone::NotLeader(leader))) => hint = leader,
                Ok(Err(NotDone::Failed(reason))) => tracing::debug!(reason, "leader did not answer, trying again"),
                Err(_) => tracing::debug!("leader did not answer in time, trying again"),
            }
            self.wait_for_news(pause).await;
            pause = (pause * 2).min(RETRY_PAUSE_MAX);
        }
    }

    /// Waits for `pause`, or less if the status changes meanwhile.
    async fn wait_for_news(&self, pause: Duration) {
        let started = Instant::now();
        let mut status = self.inner.status.clone();
        status.borrow_and_update();
        if tokio::time::timeout(pause, status.changed()).await.is_ok() {
            // Changes can come in bursts, of which most say nothing about leadership.
            tokio::time::sleep_until(started + RETRY_PAUSE.min(pause)).await;
        }
    }

    async fn attempt_write(
        &self,
        leader: Leader,
        request: RequestId,
        command: Command,
        bytes: Bytes,
    ) -> Result<Bytes, NotDone> {
        let (node, address) = match leader {
            Leader::Here => {
                return self
                    .inner
                    .replica
                    .propose(request, command)
                    .await
                    .map(|done| done.outcome);
            }
            Leader::At { node, address } => (node, address),
            Leader::Unknown => return Err(NotDone::NotLeader(None)),
        };
        let message = pb::WriteRequest {
            route: self.route(node),
            request_client: request.client,
            request_sequence: request.sequence,
            command: bytes,
        };
        let response = self.client(&address)?.write(message).await.map_err(failed)?;
        match response.into_inner().result {
            Some(pb::write_response::Result::NoRoom(_)) => Err(NotDone::NoRoom),
            Some(pb::write_response::Result::Written(written)) => Ok(written.outcome),
            Some(pb::write_response::Result::NotLeader(other)) => Err(elsewhere(&other)),
            None => Err(NotDone::Failed("an answer without a result".to_owned())),
        }
    }

    async fn attempt_read_index(&self, leader: Leader) -> Result<u64, NotDone> {
        let (node, address) = match leader {
            Leader::Here => return self.inner.replica.read_index().await,
            Leader::At { node, address } => (node, address),
            Leader::Unknown => return Err(NotDone::NotLeader(None)),
        };
        let message = pb::ReadIndexRequest {
            route: self.route(node),
        };
        let response = self.client(&address)?.read_index(message).await.map_err(failed)?;
        match response.into_inner().result {
            Some(pb::read_index_response::Result::ReadIndex(read)) => Ok(read.log_index),
            Some(pb::read_index_response::Result::NotLeader(other)) => Err(elsewhere(&other)),
            None => Err(NotDone::Failed("an answer without a result".to_owned())),
        }
    }

    fn route(&self, to: u64) -> Option<pb::Route> {
        let member = self.member();
        Some(pb::Route {
            cluster_id: member.cluster.to_string(),
            from: member.node.get(),
            to,
        })
    }

    fn client(&self, address: &str) -> Result<pb::raft_client::RaftClient<tonic::transport::Channel>, NotDone> {
        self.inner
            .peers
            .client(address, Lane::Control)
            .map_err(|error| NotDone::Failed(error.to_string()))
    }
}

fn failed(status: tonic::Status) -> NotDone {
    NotDone::Failed(status.to_string())
}

fn elsewhere(other: &pb::NotLeader) -> NotDone {
    NotDone::NotLeader((other.leader != 0).then_some(other.leader))
}
