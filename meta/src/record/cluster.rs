//! The cluster: who it is, and the counters of the log.
//!
//! Key: empty; there is one.

use minicbor::{Decode, Encode};

use super::Record;
use crate::family::Family;
use crate::feature_level::FeatureLevel;
use crate::id::{ClusterId, NodeId, RepositoryId, StorageId};

/// Identity and counters of the cluster. Absent until genesis.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct ClusterRecord {
    /// Drawn at genesis.
    #[n(0)]
    pub cluster_id: ClusterId,
    /// Counts geneses and recoveries of this cluster.
    #[n(1)]
    pub epoch: u64,
    /// Names the object-store prefix; survives epochs.
    #[n(2)]
    pub storage_id: StorageId,
    /// What every node is known to understand.
    #[n(3)]
    pub feature_level: FeatureLevel,
    /// Latest time a leader stamped, milliseconds since the Unix epoch. Never goes back.
    #[n(4)]
    pub logical_now_ms: u64,
    /// The next node to register gets this id.
    #[n(5)]
    pub next_node_id: NodeId,
    /// The next repository to be named gets this id.
    #[n(6)]
    pub next_repository_id: RepositoryId,
    /// How often any tag changed what it serves; a tag's share of it is its monotonic token.
    #[n(7)]
    pub serving_changes: u64,
    /// How many requests were remembered so far; decides which one is forgotten next.
    #[n(8)]
    pub requests_remembered: u64,
}

impl ClusterRecord {
    pub(crate) const KEY: &[u8] = b"";
}

impl Record for ClusterRecord {
    const FAMILY: Family = Family::Cluster;
}
