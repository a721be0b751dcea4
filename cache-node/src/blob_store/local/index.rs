//! Which blobs are committed, in memory.

use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Unbounded};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use meta::{Gen, NodeId};
use oci::Digest;

use crate::blob_store::{BlobKey, BlobStat};

/// Before every generation.
const FIRST_GEN: Gen = Gen {
    epoch: 0,
    node: NodeId::new(0),
    boot_count: 0,
    counter: 0,
};
/// After every generation.
const LAST_GEN: Gen = Gen {
    epoch: u64::MAX,
    node: NodeId::new(u64::MAX),
    boot_count: u64::MAX,
    counter: u64::MAX,
};

/// Committed blobs in key order, with their sizes.
#[derive(Debug, Default)]
pub(super) struct Index {
    sizes: RwLock<BTreeMap<BlobKey, u64>>,
}

impl Index {
    pub(super) fn new(blobs: impl IntoIterator<Item = (BlobKey, u64)>) -> Self {
        Self {
            sizes: RwLock::new(blobs.into_iter().collect()),
        }
    }

    /// Adds a blob; `false` if it was there already.
    pub(super) fn insert(&self, key: BlobKey, size_bytes: u64) -> bool {
        self.write().insert(key, size_bytes).is_none()
    }

    /// Removes a blob and says how long it was.
    pub(super) fn remove(&self, key: &BlobKey) -> Option<u64> {
        self.write().remove(key)
    }

    pub(super) fn get(&self, key: &BlobKey) -> Option<BlobStat> {
        self.read().get_key_value(key).map(stat)
    }

    pub(super) fn newest(&self, digest: &Digest) -> Option<BlobStat> {
        let key = |generation| BlobKey {
            digest: digest.clone(),
            generation,
        };
        let (first, last) = (key(FIRST_GEN), key(LAST_GEN));
        self.read().range(first..=last).next_back().map(stat)
    }

    pub(super) fn page(&self, after: Option<&BlobKey>, limit: usize) -> Vec<BlobStat> {
        let from = after.map_or(Unbounded, Excluded);
        self.read().range((from, Unbounded)).take(limit).map(stat).collect()
    }

    pub(super) fn count(&self) -> u64 {
        self.read().len() as u64
    }

    pub(super) fn bytes(&self) -> u64 {
        self.read().values().sum()
    }

    // A panic elsewhere cannot leave the map between two states: each change is one call.
    fn read(&self) -> RwLockReadGuard<'_, BTreeMap<BlobKey, u64>> {
        self.sizes.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, BTreeMap<BlobKey, u64>> {
        self.sizes.write().unwrap_or_else(PoisonError::into_inner)
    }
}

fn stat((key, size_bytes): (&BlobKey, &u64)) -> BlobStat {
    BlobStat {
        key: key.clone(),
        size_bytes: *size_bytes,
    }
}
