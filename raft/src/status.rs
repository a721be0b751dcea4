//! What a node knows of its cluster, published as it changes.

use std::collections::{BTreeMap, BTreeSet};

use meta::{ClusterId, NodeId};

use crate::types::NodeInfo;

/// Part of a node in consensus.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Proposes entries.
    Leader,
    /// Votes, and follows a leader.
    Follower,
    /// Stands for election.
    Candidate,
    /// Follows without a vote.
    Learner,
    /// Consensus has stopped here.
    Stopped,
}

/// What a node knows of its cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RaftStatus {
    /// This node.
    pub node: NodeId,
    /// Its cluster.
    pub cluster: ClusterId,
    /// Its part.
    pub role: Role,
    /// Its term.
    pub term: u64,
    /// Who leads, as far as it knows; may be out of date.
    pub leader: Option<NodeId>,
    /// Index of the last entry in its log.
    pub last_log_index: u64,
    /// Index up to which it knows entries to be committed.
    pub committed: u64,
    /// Index up to which it has applied entries.
    pub applied: u64,
    /// Who votes. While the set of voters changes: who did and will.
    pub voters: BTreeSet<NodeId>,
    /// Who follows without a vote.
    pub learners: BTreeSet<NodeId>,
    /// Where each member is reached.
    pub members: BTreeMap<NodeId, NodeInfo>,
    /// How far each other node's log matches this one's. Only on the leader.
    pub matched: BTreeMap<NodeId, u64>,
    /// On a leader: a quorum has answered lately. On others: a leader was heard of lately.
    pub has_quorum: bool,
}

impl RaftStatus {
    /// A node that knows nothing yet.
    pub(crate) fn unknown(cluster: ClusterId, node: NodeId) -> Self {
        RaftStatus {
            node,
            cluster,
            role: Role::Learner,
            term: 0,
            leader: None,
            last_log_index: 0,
            committed: 0,
            applied: 0,
            voters: BTreeSet::new(),
            learners: BTreeSet::new(),
            members: BTreeMap::new(),
            matched: BTreeMap::new(),
            has_quorum: false,
        }
    }

    /// Whether this node leads.
    pub fn is_leader(&self) -> bool {
        self.role == Role::Leader
    }

    /// Where the leader is reached, if it is known.
    pub fn leader_address(&self) -> Option<&str> {
        let leader = self.members.get(&self.leader?)?;
        Some(&leader.address)
    }
}
