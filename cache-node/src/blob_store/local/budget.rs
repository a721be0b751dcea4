//! How much may still be written: the quota, and what the volume has left beyond the reserve.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::time::Instant;

use super::LocalOptions;
use super::refusals::Refusals;
use crate::blob_store::{Space, StoreError, WriteError};
use crate::disk::{Marks, Usage};

/// Counts bytes of blobs, committed and being written, against the quota and the volume.
#[derive(Debug)]
pub(super) struct Budget {
    quota_bytes: Option<u64>,
    reserve_bytes: Option<u64>,
    used_bytes: AtomicU64,
    /// Of those, what is set aside and not written yet: the volume counts it as free.
    promised_bytes: AtomicU64,
    /// What is written, beside all else in the data directory.
    usage: Usage,
    refusals: Refusals,
}

/// Bytes set aside for one blob being written; given back when dropped.
#[derive(Debug)]
pub(super) struct Reservation {
    budget: Arc<Budget>,
    bytes: u64,
    written: u64,
}

impl Budget {
    pub(super) fn new(options: &LocalOptions, used_bytes: u64) -> Self {
        Self {
            quota_bytes: options.quota_bytes,
            reserve_bytes: options.reserve_bytes,
            used_bytes: AtomicU64::new(used_bytes),
            promised_bytes: AtomicU64::new(0),
            usage: options.usage.clone(),
            refusals: Refusals::default(),
        }
    }

    pub(super) fn reserve(self: &Arc<Self>, root: &Path, bytes: u64) -> Result<Reservation, WriteError> {
        let mut reservation = Reservation {
            budget: Arc::clone(self),
            bytes: 0,
            written: 0,
        };
        reservation.grow_to(root, bytes)?;
        Ok(reservation)
    }

    /// Notes that a committed blob is gone.
    pub(super) fn release(&self, bytes: u64) {
        self.used_bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.usage.deleted(bytes);
    }

    /// Notes that so many bytes were not kept.
    pub(super) fn note_refusal(&self, bytes: u64) {
        self.refusals.note(bytes, Instant::now());
    }

    pub(super) fn space(&self, root: &Path) -> Result<Space, StoreError> {
        let mut space = self.volume(root, self.promised_bytes.load(Ordering::Relaxed))?;
        if let Some(quota) = self.quota_bytes {
            let left = quota.saturating_sub(self.used_bytes.load(Ordering::Relaxed));
            space.free_bytes = space.free_bytes.min(left);
            space.total_bytes = space.total_bytes.min(quota);
        }
        space.refused_bytes = self.refusals.larger_than(space.free_bytes, Instant::now());
        Ok(space)
    }

    fn volume(&self, root: &Path, promised: u64) -> Result<Space, StoreError> {
        let volume = self
            .usage
            .measure(root)
            .map_err(|error| StoreError::new("measure", root, error))?;
        let low = || Marks::of(volume.total_bytes).low_bytes;
        let reserve = self.reserve_bytes.unwrap_or_else(low);
        Ok(Space {
            free_bytes: volume.free_bytes.saturating_sub(reserve).saturating_sub(promised),
            total_bytes: volume.total_bytes,
            refused_bytes: None,
        })
    }
}

impl Reservation {
    /// Makes the reservation cover `bytes`.
    pub(super) fn grow_to(&mut self, root: &Path, bytes: u64) -> Result<(), WriteError> {
        let grown = self.try_grow_to(root, bytes);
        if grown.is_err() {
            self.budget.note_refusal(bytes);
        }
        grown
    }

    fn try_grow_to(&mut self, root: &Path, bytes: u64) -> Result<(), WriteError> {
        let no_space = |free_bytes| WriteError::NoSpace {
            path: root.to_owned(),
            free_bytes,
        };
        let more = bytes.saturating_sub(self.bytes);
        let before = self.budget.used_bytes.fetch_add(more, Ordering::Relaxed);
        self.budget.promised_bytes.fetch_add(more, Ordering::Relaxed);
        self.bytes += more;
        if let Some(quota) = self.budget.quota_bytes
            && before.saturating_add(more) > quota
        {
            self.shrink_by(more);
            return Err(no_space(quota.saturating_sub(before)));
        }
        let of_others = self.budget.promised_bytes.load(Ordering::Relaxed) - self.unwritten();
        // A volume that cannot be measured is left to the write itself to judge.
        match self.budget.volume(root, of_others) {
            Ok(volume) if volume.free_bytes < bytes.saturating_sub(self.written) => Err(no_space(volume.free_bytes)),
            _ => Ok(()),
        }
    }

    /// Notes that `bytes` of it are on the volume.
    pub(super) fn wrote(&mut self, bytes: u64) {
        let newly = bytes.min(self.bytes).saturating_sub(self.written);
        self.budget.usage.wrote(newly);
        self.budget.promised_bytes.fetch_sub(newly, Ordering::Relaxed);
        self.written += newly;
    }

    /// The blob is committed: its bytes stay counted.
    pub(super) fn keep(mut self, bytes: u64) {
        self.wrote(bytes);
        self.budget.usage.committed();
        self.shrink_by(self.unwritten());
        (self.bytes, self.written) = (0, 0);
    }

    fn unwritten(&self) -> u64 {
        self.bytes - self.written
    }

    /// Gives back what was never written.
    fn shrink_by(&mut self, bytes: u64) {
        self.bytes -= bytes;
        self.budget.promised_bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.budget.used_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.shrink_by(self.unwritten());
        self.budget.used_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        self.budget.usage.dropped(self.written);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::Volume;

    fn budget(quota_bytes: Option<u64>, reserve_bytes: u64, usage: &Usage) -> Arc<Budget> {
        let options = LocalOptions {
            quota_bytes,
            reserve_bytes: Some(reserve_bytes),
            usage: usage.clone(),
            ..LocalOptions::default()
        };
        Arc::new(Budget::new(&options, 0))
    }

    #[test]
    fn what_is_promised_to_one_is_not_free_for_another() {
        let dir = tempfile::tempdir().unwrap();
        let free = Volume::measure(dir.path()).unwrap().free_bytes;
        // Half of what is free may be used; two thirds of that are promised twice.
        let budget = budget(None, free / 2, &Usage::default());
        let first = budget.reserve(dir.path(), free / 3).unwrap();
        let second = budget.reserve(dir.path(), free / 3);
        assert!(matches!(second, Err(WriteError::NoSpace { .. })), "{second:?}");
        assert!(budget.space(dir.path()).unwrap().free_bytes < free / 3);
        drop(first);
        budget.reserve(dir.path(), free / 3).unwrap();
    }

    #[test]
    fn a_reservation_gives_back_exactly_what_it_took() {
        let dir = tempfile::tempdir().unwrap();
        let budget = budget(Some(1000), 0, &Usage::default());
        let mut kept = budget.reserve(dir.path(), 600).unwrap();
        kept.wrote(200);
        kept.grow_to(dir.path(), 700).unwrap();
        assert!(kept.grow_to(dir.path(), 1001).is_err());
        kept.wrote(500);
        kept.keep(500);
        let mut dropped = budget.reserve(dir.path(), 500).unwrap();
        dropped.wrote(100);
        drop(dropped);
        let counts = [&budget.used_bytes, &budget.promised_bytes].map(|count| count.load(Ordering::Relaxed));
        assert_eq!(counts, [500, 0]);
    }

    #[test]
    fn what_lies_beside_the_blobs_leaves_them_less_of_the_quota() {
        const MIB: u64 = 1 << 20;
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("log"), vec![1; 4 << 20]).unwrap();
        let usage = Usage::new(Some(10 * MIB));
        usage.look_beside_blobs(dir.path()).unwrap();
        // A tenth of the quota is left alone, as of a volume.
        let options = LocalOptions {
            usage: usage.clone(),
            ..LocalOptions::default()
        };
        let budget = Arc::new(Budget::new(&options, 0));
        let refused = budget.reserve(dir.path(), 6 * MIB);
        assert!(matches!(refused, Err(WriteError::NoSpace { free_bytes, .. }) if free_bytes == 5 * MIB));
        let mut kept = budget.reserve(dir.path(), 3 * MIB).unwrap();
        kept.wrote(3 * MIB);
        kept.keep(3 * MIB);
        let space = budget.space(dir.path()).unwrap();
        assert_eq!((space.total_bytes, space.refused_bytes), (10 * MIB, Some(6 * MIB)));
        assert!(space.free_bytes < 2 * MIB && space.free_bytes > MIB, "{space:?}");
        let mut dropped = budget.reserve(dir.path(), MIB).unwrap();
        dropped.wrote(MIB);
        drop(dropped);
        assert_eq!(budget.space(dir.path()).unwrap(), space);
        budget.release(3 * MIB);
        assert_eq!(budget.space(dir.path()).unwrap().free_bytes, 5 * MIB);
    }
}
