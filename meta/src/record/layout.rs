//! The layout: which node holds which slot.
//!
//! Key: empty; there is one.

use std::collections::{BTreeMap, BTreeSet};

use minicbor::{Decode, Encode};

use super::Record;
use crate::family::Family;
use crate::id::NodeId;

/// Slots are stable: a replacement takes over the slot of the node it replaces, so nothing else moves.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct LayoutRecord {
    /// Counts layouts; 0 before the first.
    #[n(0)]
    pub version: u64,
    /// The node in each slot.
    #[n(1)]
    pub slots: BTreeMap<u32, NodeId>,
}

impl LayoutRecord {
    /// The nodes that hold a slot.
    pub fn nodes(&self) -> BTreeSet<NodeId> {
        self.slots.values().copied().collect()
    }

    pub(crate) const KEY: &[u8] = b"";
}

impl Record for LayoutRecord {
    const FAMILY: Family = Family::Layout;
}
