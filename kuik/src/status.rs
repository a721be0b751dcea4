//! `kuik status`: members, leader, lag, copies, and fills in flight, as the living nodes tell them.

mod view;

use daemon::runtime::Failure;
use daemon::shutdown::Ended;
use proto::report::{CopyCount, FillProgress, NodeStatus, Role};
use serde::Serialize;

use crate::args::AskArguments;
use crate::ask::{self, Answer};
use crate::cluster::Cluster;
use crate::port_owner::PortOwner;

/// The cluster as its nodes describe it. This is also the JSON form, which is a promise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct ClusterStatus {
    pub(crate) cluster_id: Option<String>,
    /// Node id of the leader, if a node that answers is or follows one in the newest term.
    pub(crate) leader: Option<u64>,
    pub(crate) term: Option<u64>,
    /// Whether the leader and a majority of the voters answer: new metadata can be written.
    pub(crate) quorum: bool,
    pub(crate) voters: Vec<u64>,
    pub(crate) learners: Vec<u64>,
    pub(crate) copies: CopiesStatus,
    /// Images that someone wants kept, filled ahead and again.
    pub(crate) desired_images: u64,
    pub(crate) nodes: Vec<MemberStatus>,
    pub(crate) fills: Vec<FillStatus>,
}

/// Copies over all nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct CopiesStatus {
    pub(crate) expected: u64,
    pub(crate) missing: u64,
    /// Every node answered and none misses a copy.
    pub(crate) complete: bool,
}

/// One node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct MemberStatus {
    pub(crate) name: String,
    /// Its process, where it is on this machine and this user may see it.
    pub(crate) pid: Option<u32>,
    pub(crate) state: MemberState,
    /// Why it does not answer as it should.
    pub(crate) error: Option<String>,
    /// Log entries it is behind the newest one any node has.
    pub(crate) lag: Option<u64>,
    /// What it says of itself.
    pub(crate) status: Option<NodeStatus>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum MemberState {
    Ok,
    /// It serves, but says what it lacks.
    Degraded,
    /// It answers, but not to this.
    Failing,
    Unreachable,
}

/// A fill in flight and the node that fetches.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct FillStatus {
    pub(crate) node: String,
    #[serde(flatten)]
    pub(crate) progress: FillProgress,
}

pub(crate) async fn run(arguments: AskArguments) -> Result<Ended, Failure> {
    let answers = ask::every_node(&arguments, "/status").await.map_err(Failure::failed)?;
    let mut status = merge(answers);
    status.find_processes(&ask::cluster(&arguments).map_err(Failure::failed)?);
    ask::print(&status, arguments.output)
}

impl ClusterStatus {
    /// Fills in the processes, of which the nodes themselves say nothing. Both lists are in the order of ordinals.
    fn find_processes(&mut self, cluster: &Cluster) {
        for (member, node) in self.nodes.iter_mut().zip(&cluster.nodes) {
            member.pid = PortOwner::of(node.listen.admin.port()).our_pid();
        }
    }
}

/// One picture of what the nodes said. Pure.
pub(crate) fn merge(answers: Vec<Answer<NodeStatus>>) -> ClusterStatus {
    let statuses: Vec<&NodeStatus> = answers
        .iter()
        .filter_map(|answer| answer.result.as_ref().ok())
        .collect();
    let newest = newest_view(&statuses);
    let leader = newest.and_then(|status| status.leader);
    let voters = newest.map_or_else(Vec::new, |status| status.voters.clone());
    let last_log_index = statuses.iter().map(|status| status.last_log_index).max().unwrap_or(0);
    ClusterStatus {
        cluster_id: statuses.iter().find_map(|status| status.cluster_id.clone()),
        leader,
        term: newest.map(|status| status.term),
        quorum: has_quorum(&statuses, leader, &voters),
        learners: newest.map_or_else(Vec::new, |status| status.learners.clone()),
        voters,
        copies: copies(&statuses, answers.len()),
        desired_images: newest.map_or(0, |status| status.desired_images),
        fills: fills(&answers),
        nodes: answers
            .into_iter()
            .map(|answer| member(answer, last_log_index))
            .collect(),
    }
}

/// Of two nodes that name a leader, the one in the newer term knows better; the leader itself knows best.
fn newest_view<'status>(statuses: &[&'status NodeStatus]) -> Option<&'status NodeStatus> {
    let rank = |status: &&&NodeStatus| (status.term, status.leader.is_some(), status.role == Role::Leader);
    statuses.iter().max_by_key(rank).copied()
}

fn has_quorum(statuses: &[&NodeStatus], leader: Option<u64>, voters: &[u64]) -> bool {
    let answers = |id: u64| statuses.iter().any(|status| status.node_id == Some(id));
    let n_answering = voters.iter().filter(|voter| answers(**voter)).count();
    leader.is_some_and(answers) && n_answering > voters.len() / 2
}

fn copies(statuses: &[&NodeStatus], n_nodes: usize) -> CopiesStatus {
    let sum = |of: fn(&CopyCount) -> u64| statuses.iter().map(|status| of(&status.copies)).sum();
    let missing = sum(|copies| copies.missing);
    CopiesStatus {
        expected: sum(|copies| copies.expected),
        missing,
        complete: missing == 0 && statuses.len() == n_nodes,
    }
}

fn fills(answers: &[Answer<NodeStatus>]) -> Vec<FillStatus> {
    let of_node = |answer: &Answer<NodeStatus>| {
        let fills = answer.result.as_ref().map_or(&[][..], |status| &status.fills);
        let fill = |progress: &FillProgress| FillStatus {
            node: answer.node.clone(),
            progress: progress.clone(),
        };
        fills.iter().map(fill).collect::<Vec<_>>()
    };
    answers.iter().flat_map(of_node).collect()
}

fn member(answer: Answer<NodeStatus>, last_log_index: u64) -> MemberStatus {
    let reachable = answer.is_reachable();
    let (status, error) = match answer.result {
        Ok(status) => (Some(status), None),
        Err(error) => (None, Some(error.to_string())),
    };
    let state = match &status {
        Some(status) if status.degraded.is_empty() => MemberState::Ok,
        Some(_) => MemberState::Degraded,
        None if reachable => MemberState::Failing,
        None => MemberState::Unreachable,
    };
    MemberStatus {
        name: answer.node,
        pid: None,
        state,
        error,
        lag: status
            .as_ref()
            .map(|status| last_log_index.saturating_sub(status.applied_index)),
        status,
    }
}

#[cfg(test)]
pub(crate) mod tests;
