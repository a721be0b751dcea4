//! One running member: openraft with our stores, behind an interface that names neither.

mod guard;
mod publish;
mod successor;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use meta::{Command, Envelope, RequestId, StateHash};
use openraft::async_runtime::WatchReceiver;
use openraft::errors::{ClientWriteError, InitializeError, LinearizableReadError, RaftError};
use openraft::{RaftMetrics, ReadPolicy};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::environment::Clock;
use crate::fatal::OnFatal;
use crate::identity::Member;
use crate::log_disk::{LogDisk, LogRoom};
use crate::log_store::Closed;
use crate::membership::AddLearner;
use crate::runtime::Runtime;
use crate::state_machine::StateMachine;
use crate::state_store::{LocalView, StateStore};
use crate::types::{NodeInfo, Proposal, TypeConfig};
use successor::{Tried, could_elect, successor};

pub(crate) type Raft<RT, S> = openraft::Raft<TypeConfig<RT>, StateMachine<S>>;

/// How long giving leadership away may take: an election without a timeout, and the same again for a slow disk.
const HAND_OVER_DEADLINE: Duration = Duration::from_secs(3);
/// Between two attempts to give leadership away.
const HAND_OVER_RETRY: Duration = Duration::from_millis(500);
const HAND_OVER_POLL: Duration = Duration::from_millis(20);
/// How long the stores may take to close.
const CLOSE_DEADLINE: Duration = Duration::from_secs(5);

/// A command's outcome and where it stands in the log.
#[derive(Debug)]
pub(crate) struct Committed {
    pub(crate) outcome: Bytes,
    pub(crate) index: u64,
}

/// Why this node did not do what only a leader with a quorum can do.
#[derive(Debug)]
pub(crate) enum NotDone {
    /// Another node leads, or none is known to.
    NotLeader(Option<u64>),
    /// Not now; a later try may work.
    Failed(String),
    /// The leader's disk has no room for more.
    NoRoom,
    /// Never again on this node.
    Stopped,
}

/// What the handle and the gRPC service ask of a member. Hides the runtime and the stores it runs on.
#[tonic::async_trait]
pub(crate) trait Replica: crate::server::Protocol + Send + Sync + 'static {
    fn member(&self) -> Member;
    fn view(&self) -> LocalView;
    fn state_hash(&self) -> (u64, StateHash);
    fn state_hash_at(&self, index: u64) -> Option<StateHash>;
    /// Commits a command and waits until it is applied here.
    async fn propose(&self, request: RequestId, command: Command) -> Result<Committed, NotDone>;
    /// The index a linearizable read must have applied.
    async fn read_index(&self) -> Result<u64, NotDone>;
    async fn add_learner(&self, node: u64, info: NodeInfo) -> Result<(), NotDone>;
    /// Makes this node, reached at `info`, the only voter of a new log. Nothing happens if there is a log already.
    async fn initialize(&self, info: NodeInfo) -> Result<(), NotDone>;
    /// Gives leadership away. Returns whether this node does not lead any more.
    async fn hand_over(&self) -> bool;
    async fn shutdown(&self);
}

pub(crate) struct Node<RT: Runtime, S: StateStore> {
    pub(crate) member: Member,
    pub(crate) raft: Raft<RT, S>,
    pub(crate) state: StateMachine<S>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) on_fatal: Arc<dyn OnFatal>,
    pub(crate) disk: LogDisk,
    pub(crate) learners: mpsc::Sender<AddLearner>,
    pub(crate) contact: Contact,
    pub(crate) contact_max: Duration,
    pub(crate) stop: CancellationToken,
    pub(crate) closed: Mutex<Option<Closed>>,
}

/// When a leader was last heard of.
#[derive(Debug, Default)]
pub(crate) struct Contact(Mutex<Option<Instant>>);

impl Contact {
    pub(crate) fn note(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    fn is_within(&self, limit: Duration) -> bool {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_some_and(|at| at.elapsed() <= limit)
    }
}

impl<RT: Runtime, S: StateStore> Node<RT, S> {
    pub(crate) fn metrics(&self) -> RaftMetrics<TypeConfig<RT>> {
        self.raft.metrics().borrow_watched().clone()
    }

    pub(crate) fn watch_applied(&self) -> watch::Receiver<u64> {
        self.state.watch_applied()
    }

    fn leads(&self) -> bool {
        self.metrics().current_leader == Some(self.member.node.get())
    }

    /// Tries to give leadership to somebody not tried within `again_after`. Returns whether there was anybody.
    async fn hand_over_once(&self, tried: &mut Tried, again_after: Duration) -> bool {
        let (metrics, myself) = (self.metrics(), self.member.node.get());
        let Some(successor) = successor(&metrics, myself, self.contact_max, tried, again_after) else {
            return false;
        };
        tried.note(successor);
        // Whether it came to pass is for the caller to look at. Consensus that has stopped does not lead.
        self.raft.trigger().transfer_leader(successor).await.ok();
        tokio::time::timeout(HAND_OVER_RETRY, self.wait_until_led_by_another())
            .await
            .ok();
        true
    }

    /// Whether the others would have a leader if this node ended.
    fn is_replaceable(&self) -> bool {
        could_elect(&self.metrics(), self.member.node.get(), self.contact_max)
    }

    fn is_only_voter(&self) -> bool {
        self.metrics()
            .membership_config
            .voter_ids()
            .eq([self.member.node.get()])
    }

    async fn wait_until_led_by_another(&self) {
        while self.leads() {
            tokio::time::sleep(HAND_OVER_POLL).await;
        }
    }
}

#[tonic::async_trait]
impl<RT: Runtime, S: StateStore> Replica for Node<RT, S> {
    fn member(&self) -> Member {
        self.member
    }

    fn view(&self) -> LocalView {
        self.state.store().view()
    }

    fn state_hash(&self) -> (u64, StateHash) {
        self.state.state_hash()
    }

    fn state_hash_at(&self, index: u64) -> Option<StateHash> {
        self.state.state_hash_at(index)
    }

    async fn propose(&self, request: RequestId, command: Command) -> Result<Committed, NotDone> {
        if self.disk.room() > LogRoom::Enough && self.leads() {
            return Err(NotDone::NoRoom);
        }
        let envelope = Envelope {
            request,
            now_ms: self.clock.now_ms(),
            command,
        };
        match self.raft.client_write(Proposal(envelope.encode().into())).await {
            Ok(written) => Ok(Committed {
                outcome: written.data.0,
                index: written.log_id.index,
            }),
            Err(RaftError::Fatal(_)) => Err(NotDone::Stopped),
            Err(RaftError::APIError(
                ClientWriteError::ForwardToLeader(forward) | ClientWriteError::LogEntryDiscarded(forward),
            )) => Err(NotDone::NotLeader(forward.leader_id)),
            Err(RaftError::APIError(error)) => Err(NotDone::Failed(error.to_string())),
        }
    }

    async fn read_index(&self) -> Result<u64, NotDone> {
        match self.raft.get_read_log_id(ReadPolicy::ReadIndex).await {
            Ok((read, _applied)) => Ok(read.index()),
            Err(RaftError::Fatal(_)) => Err(NotDone::Stopped),
            Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(forward))) => {
                Err(NotDone::NotLeader(forward.leader_id))
            }
            Err(RaftError::APIError(error)) => Err(NotDone::Failed(error.to_string())),
        }
    }

    async fn add_learner(&self, node: u64, info: NodeInfo) -> Result<(), NotDone> {
        if !self.leads() {
            return Err(NotDone::NotLeader(self.metrics().current_leader));
        }
        let (done, answer) = oneshot::channel();
        let request = AddLearner { node, info, done };
        self.learners
            .try_send(request)
            .map_err(|_| NotDone::Failed("membership is busy".to_owned()))?;
        answer.await.map_err(|_| NotDone::Stopped)?
    }

    async fn initialize(&self, info: NodeInfo) -> Result<(), NotDone> {
        match self
            .raft
            .initialize(BTreeMap::from([(self.member.node.get(), info)]))
            .await
        {
            Ok(()) | Err(RaftError::APIError(InitializeError::NotAllowed(_))) => Ok(()),
            Err(RaftError::APIError(error)) => Err(NotDone::Failed(error.to_string())),
            Err(RaftError::Fatal(_)) => Err(NotDone::Stopped),
        }
    }

    async fn hand_over(&self) -> bool {
        let deadline = Instant::now() + HAND_OVER_DEADLINE;
        let mut tried = Tried::default();
        while self.leads() && !self.is_only_voter() && Instant::now() < deadline {
            if !self.hand_over_once(&mut tried, Duration::ZERO).await {
                tokio::time::sleep(HAND_OVER_POLL).await;
            }
        }
        !self.leads()
    }

    async fn shutdown(&self) {
        self.stop.cancel();
        if let Err(error) = self.raft.shutdown().await {
            tracing::warn!(%error, "consensus did not stop cleanly");
        }
        let closed = self.closed.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(closed) = closed
            && tokio::time::timeout(CLOSE_DEADLINE, closed.wait()).await.is_err()
        {
            tracing::warn!("the log is still open");
        }
    }
}
