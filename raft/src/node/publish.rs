//! Watches openraft: publishes the status, and ends the node when consensus has failed.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use meta::NodeId;
use openraft::async_runtime::WatchReceiver;
use openraft::{Instant, RaftMetrics, ServerState};
use tokio::sync::watch;

use super::Node;
use crate::metrics;
use crate::runtime::Runtime;
use crate::state_store::StateStore;
use crate::status::{RaftStatus, Role};
use crate::types::{StoredMembership, TypeConfig};

/// How often time alone can change the status: contact that is no longer recent.
const REFRESH: Duration = Duration::from_millis(200);

impl<RT: Runtime, S: StateStore> Node<RT, S> {
    /// Publishes the status until the node stops.
    pub(crate) async fn publish(self: Arc<Self>, status: watch::Sender<RaftStatus>) {
        let mut changes = self.raft.metrics();
        loop {
            let metrics = self.metrics();
            let current = self.status(&metrics);
            metrics::report(&current);
            status.send_if_modified(|published| {
                let is_new = *published != current;
                *published = current;
                is_new
            });
            if let Err(error) = &metrics.running_state
                && !self.stop.is_cancelled()
            {
                self.on_fatal.fatal(&format!("consensus has failed: {error}"));
                return;
            }
            let refresh = tokio::time::timeout(REFRESH, changes.changed());
            tokio::select! {
                biased;
                () = self.stop.cancelled() => break,
                // Over time or changed: look again either way. A channel that is gone shows as a failed state.
                _ = refresh => {}
            }
        }
        status.send_modify(|status| status.role = Role::Stopped);
    }

    pub(crate) fn status(&self, metrics: &RaftMetrics<TypeConfig<RT>>) -> RaftStatus {
        let membership = &metrics.membership_config;
        let voters = voters(membership);
        let members: std::collections::BTreeMap<NodeId, _> = membership
            .nodes()
            .map(|(id, info)| (NodeId::new(*id), info.clone()))
            .collect();
        let index = |log_id: Option<u64>| log_id.unwrap_or(0);
        let matched = metrics.replication.iter().flatten();
        RaftStatus {
            node: self.member.node,
            cluster: self.member.cluster,
            role: role(metrics),
            term: metrics.current_term,
            leader: metrics.current_leader.map(NodeId::new),
            last_log_index: index(metrics.last_log_index),
            committed: index(metrics.local_committed.map(|log_id| log_id.index)),
            applied: index(metrics.last_applied.map(|log_id| log_id.index)),
            learners: membership.membership().learner_ids().map(NodeId::new).collect(),
            has_quorum: self.has_quorum(metrics),
            matched: matched
                .filter_map(|(id, log_id)| Some((NodeId::new(*id), log_id.as_ref()?.index)))
                .collect(),
            voters,
            members,
        }
    }

    fn has_quorum(&self, metrics: &RaftMetrics<TypeConfig<RT>>) -> bool {
        if metrics.state != ServerState::Leader {
            return metrics.current_leader.is_some() && self.contact.is_within(self.contact_max);
        }
        let only_voter = metrics.membership_config.voter_ids().eq([self.member.node.get()]);
        only_voter
            || metrics
                .last_quorum_acked
                .is_some_and(|at| at.elapsed() <= self.contact_max)
    }
}

/// Who votes in every configuration: while one set of voters replaces another, neither counts as formed.
fn voters(membership: &StoredMembership) -> BTreeSet<NodeId> {
    let mut configs = membership.get_joint_config().iter().cloned();
    let first = configs.next().unwrap_or_default();
    let in_all = configs.fold(first, |in_all, config| &in_all & &config);
    in_all.into_iter().map(NodeId::new).collect()
}

fn role<RT: Runtime>(metrics: &RaftMetrics<TypeConfig<RT>>) -> Role {
    match metrics.state {
        ServerState::Leader => Role::Leader,
        ServerState::Follower => Role::Follower,
        ServerState::Candidate => Role::Candidate,
        ServerState::Learner => Role::Learner,
        ServerState::Shutdown => Role::Stopped,
    }
}
