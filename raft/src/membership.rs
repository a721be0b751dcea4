//! The one place that changes who is a member: takes joins in one by one, promotes learners while the cluster forms.
//!
//! It runs on every node and acts on the leader. Every change is tied to the membership it was decided on, so that two
//! leaders, or a change left half done by a crash, never add up to something nobody wanted.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use openraft::{ChangeMembers, Precondition, RaftMetrics};
use tokio::sync::{mpsc, oneshot};

use crate::node::{Node, NotDone};
use crate::runtime::Runtime;
use crate::state_store::StateStore;
use crate::types::{NodeInfo, TypeConfig};

/// Nodes that may wait to be added. They ask again.
pub(crate) const JOINS_WAITING_MAX: usize = 64;
/// How often the leader looks whether someone can be promoted.
const STEP_INTERVAL: Duration = Duration::from_millis(200);
/// A change that takes longer has no quorum; the next step looks at what became of it.
const CHANGE_DEADLINE: Duration = Duration::from_secs(5);
/// A learner this close to the leader's log is caught up: what is missing fits in one message.
const CAUGHT_UP_ENTRIES: u64 = 100;

/// A node that has its id on disk and wants to be a member.
pub(crate) struct AddLearner {
    pub(crate) node: u64,
    pub(crate) info: NodeInfo,
    pub(crate) done: oneshot::Sender<Result<(), NotDone>>,
}

/// Which learners to make voters now: as many as lead to the largest odd number of voters possible, and allowed.
fn promotion(voters: &BTreeSet<u64>, caught_up: &BTreeSet<u64>, expected: usize) -> Option<BTreeSet<u64>> {
    let possible = expected.min(voters.len() + caught_up.len());
    // An even number survives no more failures than the odd one below it.
    let target = possible - usize::from(possible.is_multiple_of(2));
    let wanted = target.checked_sub(voters.len()).filter(|wanted| *wanted > 0)?;
    Some(caught_up.iter().copied().take(wanted).collect())
}

/// Decides and carries out changes of membership until the node stops.
pub(crate) async fn run<RT: Runtime, S: StateStore>(
    node: Arc<Node<RT, S>>,
    mut joins: mpsc::Receiver<AddLearner>,
    voters_expected: usize,
) {
    let mut steps = tokio::time::interval(STEP_INTERVAL);
    steps.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            () = node.stop.cancelled() => return,
            Some(join) = joins.recv() => {
                let result = add_learner(&node, join.node, join.info).await;
                // Who asked may have given up; it asks again.
                join.done.send(result).ok();
            }
            _ = steps.tick() => step(&node, voters_expected).await,
        }
    }
}

async fn add_learner<RT: Runtime, S: StateStore>(node: &Node<RT, S>, id: u64, info: NodeInfo) -> Result<(), NotDone> {
    let metrics = node.metrics();
    if let Some(known) = metrics.membership_config.get_node(&id) {
        // A node that could move by asking could take another's place.
        let is_same = *known == info;
        return if is_same {
            Ok(())
        } else {
            Err(NotDone::Failed(format!("node {id} is known at {}", known.address)))
        };
    }
    let nodes = ChangeMembers::AddNodes([(id, info)].into());
    change(node, &metrics, nodes).await
}

async fn step<RT: Runtime, S: StateStore>(node: &Node<RT, S>, voters_expected: usize) {
    let metrics = node.metrics();
    if metrics.current_leader != Some(metrics.id) {
        return;
    }
    let Some(changes) = next_change(&metrics, voters_expected) else {
        return;
    };
    match change(node, &metrics, changes.clone()).await {
        Ok(()) => tracing::info!(?changes, "changed who votes"),
        Err(error) => tracing::debug!(?error, ?changes, "could not change who votes yet"),
    }
}

fn next_change<RT: Runtime>(
    metrics: &RaftMetrics<TypeConfig<RT>>,
    voters_expected: usize,
) -> Option<ChangeMembers<u64, NodeInfo>> {
    let membership = metrics.membership_config.membership();
    if membership.get_joint_config().len() > 1 {
        // Left behind by a leader that died in between: no one else would ever finish it.
        return Some(ChangeMembers::AddVoterIds(BTreeSet::new()));
    }
    let last = metrics.last_log_index?;
    let replication = metrics.replication.as_ref()?;
    let is_caught_up = |id: &u64| {
        let matched = replication.get(id).copied().flatten();
        matched.is_some_and(|matched| matched.index + CAUGHT_UP_ENTRIES >= last)
    };
    let voters: BTreeSet<u64> = membership.voter_ids().collect();
    let caught_up: BTreeSet<u64> = membership.learner_ids().filter(is_caught_up).collect();
    promotion(&voters, &caught_up, voters_expected).map(ChangeMembers::AddVoterIds)
}

async fn change<RT: Runtime, S: StateStore>(
    node: &Node<RT, S>,
    decided_on: &RaftMetrics<TypeConfig<RT>>,
    changes: ChangeMembers<u64, NodeInfo>,
) -> Result<(), NotDone> {
    let last_membership_log_id = *decided_on.membership_config.log_id();
    let unchanged = Precondition::LastMembershipLogId { last_membership_log_id };
    // Those who stop voting stay as learners.
    let retain = true;
    let change = node.raft.change_membership_if(changes, retain, [unchanged]);
    match tokio::time::timeout(CHANGE_DEADLINE, change).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(NotDone::Failed(error.to_string())),
        Err(_) => Err(NotDone::Failed("no quorum in time".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of<const N: usize>(ids: [u64; N]) -> BTreeSet<u64> {
        BTreeSet::from(ids)
    }

    #[test]
    fn learners_become_voters_in_pairs_up_to_the_expected_number() {
        assert_eq!(promotion(&of([1]), &of([2]), 3), None);
        assert_eq!(promotion(&of([1]), &of([2, 3]), 3), Some(of([2, 3])));
        assert_eq!(promotion(&of([1]), &of([2, 3, 4]), 5), Some(of([2, 3])));
        assert_eq!(promotion(&of([1, 2, 3]), &of([4, 5]), 5), Some(of([4, 5])));
    }

    #[test]
    fn a_full_set_takes_no_one_in() {
        assert_eq!(promotion(&of([1, 2, 3]), &of([4, 5]), 3), None);
        assert_eq!(promotion(&of([1]), &of([2, 3]), 1), None);
    }

    #[test]
    fn an_even_set_is_made_odd() {
        assert_eq!(promotion(&of([1, 2]), &of([3]), 3), Some(of([3])));
    }
}
