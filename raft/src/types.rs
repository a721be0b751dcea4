//! The types openraft runs on, and our own names for what leaves this crate.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;

use bytes::Bytes;
use openraft::impls::{BoxedErrorSource, InlineBatch, ProgressResponder, leader_id_std};
use openraft::vote::RaftLeaderId;
use serde::{Deserialize, Serialize};

use crate::runtime::Runtime;

/// A node's number as openraft sees it; [`meta::NodeId`] everywhere else.
pub(crate) type NodeId = u64;

/// Where a member can be reached, and which failure domain it is in.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct NodeInfo {
    /// Stable name of the node's gRPC endpoint (`host:port`); a [`crate::Connect`] resolves it.
    pub address: String,
    /// Failure domain; empty if not known.
    pub zone: String,
}

/// What openraft's log carries: an encoded [`meta::Envelope`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<u8>", into = "Vec<u8>")]
pub(crate) struct Proposal(pub(crate) Bytes);

impl fmt::Display for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "command of {} bytes", self.0.len())
    }
}

/// What applying a proposal answers: an encoded [`meta::Outcome`], empty for entries without a command.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<u8>", into = "Vec<u8>")]
pub(crate) struct Reply(pub(crate) Bytes);

// openraft demands serde of what it carries; we never use it, our own formats are in `codec`.
impl From<Vec<u8>> for Proposal {
    fn from(bytes: Vec<u8>) -> Self {
        Proposal(bytes.into())
    }
}

impl From<Proposal> for Vec<u8> {
    fn from(proposal: Proposal) -> Self {
        proposal.0.into()
    }
}

impl From<Vec<u8>> for Reply {
    fn from(bytes: Vec<u8>) -> Self {
        Reply(bytes.into())
    }
}

impl From<Reply> for Vec<u8> {
    fn from(reply: Reply) -> Self {
        reply.0.into()
    }
}

pub(crate) type LeaderId = leader_id_std::LeaderId<u64, NodeId>;
pub(crate) type CommittedLeaderId = <LeaderId as RaftLeaderId>::Committed;
pub(crate) type LogId = openraft::LogId<CommittedLeaderId>;
pub(crate) type Vote = openraft::Vote<LeaderId>;
pub(crate) type Payload = openraft::EntryPayload<Proposal, NodeId, NodeInfo>;
pub(crate) type Entry = openraft::Entry<CommittedLeaderId, Payload>;
pub(crate) type Membership = openraft::Membership<NodeId, NodeInfo>;
pub(crate) type StoredMembership = openraft::StoredMembership<CommittedLeaderId, NodeId, NodeInfo>;
pub(crate) type SnapshotMeta = openraft::SnapshotMeta<CommittedLeaderId, NodeId, NodeInfo>;

/// openraft's type configuration over any [`Runtime`]; only the runtime differs between production and simulation.
pub(crate) struct TypeConfig<RT>(PhantomData<fn() -> RT>);

impl<RT: Runtime> openraft::RaftTypeConfig for TypeConfig<RT> {
    type D = Proposal;
    type R = Reply;
    type NodeId = NodeId;
    type Node = NodeInfo;
    type Term = u64;
    type LeaderId = LeaderId;
    type Vote = Vote;
    type Payload = Payload;
    type Entry = Entry;
    type AsyncRuntime = RT;
    type Responder<T>
        = ProgressResponder<Self, T>
    where
        T: Send + 'static;
    type Batch<T>
        = InlineBatch<T>
    where
        T: Send + 'static;
    type ErrorSource = BoxedErrorSource;
}

// Derives would demand the same of RT, of which no value is ever held.
impl<RT> fmt::Debug for TypeConfig<RT> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TypeConfig")
    }
}
impl<RT> Clone for TypeConfig<RT> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<RT> Copy for TypeConfig<RT> {}
impl<RT> Default for TypeConfig<RT> {
    fn default() -> Self {
        TypeConfig(PhantomData)
    }
}
impl<RT> PartialEq for TypeConfig<RT> {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}
impl<RT> Eq for TypeConfig<RT> {}
impl<RT> PartialOrd for TypeConfig<RT> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl<RT> Ord for TypeConfig<RT> {
    fn cmp(&self, _: &Self) -> std::cmp::Ordering {
        std::cmp::Ordering::Equal
    }
}
impl<RT> Hash for TypeConfig<RT> {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}
