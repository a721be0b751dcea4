//! Cache nodes.
//!
//! Keys: `nodes` big-endian node id; `node_nonces` the join nonce, big-endian.

use minicbor::{Decode, Encode};

use super::Record;
use crate::family::Family;
use crate::feature_level::FeatureLevel;
use crate::id::{JoinNonce, LogPosition, NodeId};

/// What is known of a cache node. Never deleted, so its id is never given to another.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct NodeRecord {
    /// What it joined with.
    #[n(0)]
    pub nonce: JoinNonce,
    /// Where it is reached.
    #[n(1)]
    pub addresses: Addresses,
    /// Failure domain it runs in; empty if unknown.
    #[n(2)]
    pub zone: String,
    /// What its binary understands.
    #[n(3)]
    pub feature_level: FeatureLevel,
    /// How often it started; 0 until its first boot is recorded.
    #[n(4)]
    pub boot_count: u64,
    /// Where its log ended at its latest boot.
    #[n(5)]
    pub last_log: Option<LogPosition>,
    /// Generations of boots below this one are abandoned: never to be committed.
    #[n(6)]
    pub abandoned_below: u64,
}

/// Where a node is reached: `host:port` each.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub struct Addresses {
    /// OCI registry port.
    #[n(0)]
    pub registry: String,
    /// Control port.
    #[n(1)]
    pub grpc: String,
    /// Health, metrics and status port.
    #[n(2)]
    pub admin: String,
}

impl Record for NodeRecord {
    const FAMILY: Family = Family::Nodes;
}

impl Record for NodeId {
    const FAMILY: Family = Family::NodeNonces;
}

pub(crate) fn nonce_key(nonce: JoinNonce) -> [u8; 16] {
    nonce.to_key()
}
