//! Commands about cache nodes and the layout.

use std::collections::BTreeMap;

use minicbor::{Decode, Encode};

use crate::feature_level::FeatureLevel;
use crate::id::{JoinNonce, LogPosition, NodeId};
use crate::record::Addresses;

/// Most slots of a layout: one per node, far above what one Raft group serves.
pub const LAYOUT_SLOTS_MAX: usize = 1024;

/// Gives a new node its id: the next free one, and the same one again for the same nonce.
///
/// Answers [`Outcome::NodeRegistered`](crate::Outcome::NodeRegistered). The founder registers first and gets
/// [`NodeId::FIRST`].
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct RegisterNode {
    /// Drawn at random by the node when its disk was empty.
    #[n(0)]
    pub nonce: JoinNonce,
    /// Where it is reached.
    #[n(1)]
    pub addresses: Addresses,
    /// Failure domain; empty if unknown.
    #[n(2)]
    pub zone: String,
    /// What its binary understands.
    #[n(3)]
    pub feature_level: FeatureLevel,
}

/// Records that a node started, before it serves.
///
/// Rejected with [`Rejected::NodeWentBackwards`](crate::Rejected::NodeWentBackwards) if its boot count or its log is
/// behind what was recorded, or if that boot was recorded with another log: then its disk is an older copy and counts
/// as lost. A log whose tail was cut for a new leader, and which stopped before it got the new one, looks the same.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct BootNode {
    /// Which node.
    #[n(0)]
    pub node: NodeId,
    /// How often it started, this time included; from 1.
    #[n(1)]
    pub boot_count: u64,
    /// Where its log ended when it started.
    #[n(2)]
    pub last_log: Option<LogPosition>,
    /// What its binary understands now.
    #[n(3)]
    pub feature_level: FeatureLevel,
    /// Where it is reached now; `None` leaves what is recorded.
    #[n(4)]
    pub addresses: Option<Addresses>,
}

/// Replaces the layout, if it is still the one the proposer saw.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct SetLayout {
    /// Version of the layout that is replaced; 0 for none.
    #[n(0)]
    pub expected_version: u64,
    /// The node in each slot: registered ones, each in one slot at most.
    #[n(1)]
    pub slots: BTreeMap<u32, NodeId>,
}
