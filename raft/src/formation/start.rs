//! Starts consensus on a disk whose identity is settled.

use std::sync::{Arc, Mutex};

use meta::LogPosition;
use openraft::storage::RaftLogStorage;
use tokio::sync::{Semaphore, mpsc, watch};

use super::Founding;
use crate::error::FormationError;
use crate::fatal::OnFatal;
use crate::handle::{Inner, MetaHandle, Requests};
use crate::identity::Member;
use crate::log_io::LogIo;
use crate::log_store::LogStore;
use crate::membership::{self, JOINS_WAITING_MAX};
use crate::network::Network;
use crate::node::{Contact, Node, Raft};
use crate::runtime::Runtime;
use crate::state_store::StateStore;
use crate::status::RaftStatus;
use crate::types::TypeConfig;

/// A node that takes part.
pub(super) struct Started {
    pub(super) handle: MetaHandle,
    /// How far its log was known to be committed before it took part.
    pub(super) last_log: Option<LogPosition>,
    /// Whether a leader has sent it entries before, which it does to members only.
    pub(super) was_member: bool,
    pub(super) on_fatal: Arc<dyn OnFatal>,
    pub(super) tasks: daemon::task::TaskSet,
}

/// How far the log is known to be committed: that much of it is never taken back, unlike its end.
async fn committed_log<RT: Runtime, IO: LogIo>(log: &mut LogStore<IO>) -> std::io::Result<Option<LogPosition>> {
    let committed = RaftLogStorage::<TypeConfig<RT>>::read_committed(log).await?;
    Ok(committed.map(|last| LogPosition {
        term: last.leader_id.term,
        index: last.index,
    }))
}

impl<RT: Runtime, IO: LogIo, S: StateStore> Founding<RT, IO, S> {
    pub(super) async fn start(mut self, member: Member) -> Result<Started, FormationError> {
        let stopped = |error: &dyn std::fmt::Display| FormationError::Stopped {
            reason: error.to_string(),
        };
        let config = self.config.to_openraft().map_err(|error| FormationError::Config {
            reason: error.to_string(),
        })?;
        let last_log = committed_log::<RT, IO>(&mut self.log)
            .await
            .map_err(|error| stopped(&error))?;
        let state = RaftLogStorage::<TypeConfig<RT>>::get_log_state(&mut self.log).await;
        let was_member = state.map_err(|error| stopped(&error))?.last_log_id.is_some();
        let network = Network {
            peers: Arc::clone(&self.peers),
            member,
        };
        let raft: Raft<RT, S> = openraft::Raft::new(
            member.node.get(),
            Arc::new(config),
            network,
            self.log.clone(),
            self.state.clone(),
        )
        .await
        .map_err(|error| stopped(&error))?;
        let (learners, joins) = mpsc::channel(JOINS_WAITING_MAX);
        let node = Arc::new(Node {
            member,
            raft,
            state: self.state.clone(),
            clock: Arc::clone(&self.dependencies.clock),
            on_fatal: Arc::clone(&self.dependencies.on_fatal),
            disk: self.dependencies.disk.clone(),
            learners,
            contact: Contact::default(),
            contact_max: self.config.timing.contact_max(),
            stop: self.dependencies.tasks.stop_token().child_token(),
            closed: Mutex::new(Some(self.closed)),
        });
        let (status_tx, status) = watch::channel(RaftStatus::unknown(member.cluster, member.node));
        let handle = MetaHandle::new(Inner {
            service: self.service.clone(),
            peers: Arc::clone(&self.peers),
            status,
            applied: node.watch_applied(),
            boot_count: self.identity.boot_count,
            requests: Requests::new(self.dependencies.entropy.draw()),
            writes: Semaphore::new(self.config.limits.writes_max),
            limits: self.config.limits.clone(),
            replica: Arc::clone(&node) as _,
        });
        let tasks = self.dependencies.tasks.clone();
        let voters_expected = self.config.voters_expected();
        until_the_end(
            &tasks,
            "raft-membership",
            membership::run(Arc::clone(&node), joins, voters_expected),
        );
        until_the_end(&tasks, "raft-guard", Arc::clone(&node).guard());
        until_the_end(&tasks, "raft-status", node.publish(status_tx));
        self.service.set_handle(Some(handle.clone()));
        Ok(Started {
            handle,
            last_log,
            was_member,
            on_fatal: self.dependencies.on_fatal,
            tasks,
        })
    }
}

/// Runs a part of consensus as a task the process cannot do without. If the node is shut down before the process is,
/// that is no reason to end the process.
fn until_the_end(tasks: &daemon::task::TaskSet, name: &'static str, part: impl Future<Output = ()> + Send + 'static) {
    let stop = tasks.stop_token();
    tasks.spawn_critical(name, async move {
        part.await;
        stop.cancelled().await;
    });
}
