//! Names for what this node stores, unique without asking anyone: epoch, node, boot, counter.

use std::sync::atomic::{AtomicU64, Ordering};

use meta::{Gen, NodeId};

use crate::fill::GenerationSource;

/// Counts the storings of one boot of one node.
pub(crate) struct Generations {
    epoch: u64,
    node: NodeId,
    boot_count: u64,
    counter: AtomicU64,
}

impl Generations {
    /// Starts counting for this boot. The boot count must be on disk already, so that no later boot counts the same.
    pub(crate) fn new(epoch: u64, node: NodeId, boot_count: u64) -> Self {
        Self {
            epoch,
            node,
            boot_count,
            counter: AtomicU64::new(0),
        }
    }
}

impl GenerationSource for Generations {
    fn next(&self) -> Gen {
        let counter = self.counter.fetch_add(1, Ordering::Relaxed);
        Gen {
            epoch: self.epoch,
            node: self.node,
            boot_count: self.boot_count,
            counter,
        }
    }
}
