//! How much may still be written: the quota, and what the volume has left beyond the reserve.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::statvfs;

use crate::blob_store::{Space, StoreError, WriteError};

/// Largest share of the volume kept free for the metadata beside it, unless told otherwise.
const RESERVE_DIVISOR: u64 = 20;
const RESERVE_BYTES_MAX: u64 = 1 << 30;

/// Counts bytes of blobs, committed and being written, against the quota.
#[derive(Debug)]
pub(super) struct Budget {
    quota_bytes: Option<u64>,
    reserve_bytes: Option<u64>,
    used_bytes: AtomicU64,
}

/// Bytes set aside for one blob being written; given back when dropped.
#[derive(Debug)]
pub(super) struct Reservation {
    budget: Arc<Budget>,
    bytes: u64,
}

impl Budget {
    pub(super) fn new(quota_bytes: Option<u64>, reserve_bytes: Option<u64>, used_bytes: u64) -> Self {
        Self {
            quota_bytes,
            reserve_bytes,
            used_bytes: AtomicU64::new(used_bytes),
        }
    }

    pub(super) fn reserve(self: &Arc<Self>, root: &Path, bytes: u64) -> Result<Reservation, WriteError> {
        let mut reservation = Reservation {
            budget: Arc::clone(self),
            bytes: 0,
        };
        reservation.grow_to(root, bytes, 0)?;
        Ok(reservation)
    }

    /// Notes that a committed blob is gone.
    pub(super) fn release(&self, bytes: u64) {
        self.used_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    pub(super) fn space(&self, root: &Path) -> Result<Space, StoreError> {
        let volume = self.volume(root)?;
        let Some(quota) = self.quota_bytes else {
            return Ok(volume);
        };
        let left = quota.saturating_sub(self.used_bytes.load(Ordering::Relaxed));
        Ok(Space {
            free_bytes: volume.free_bytes.min(left),
            total_bytes: volume.total_bytes.min(quota),
        })
    }

    fn volume(&self, root: &Path) -> Result<Space, StoreError> {
        let stat = statvfs(root).map_err(|error| StoreError::new("measure", root, error.into()))?;
        let total_bytes = stat.f_blocks.saturating_mul(stat.f_frsize);
        let reserve = self
            .reserve_bytes
            .unwrap_or_else(|| (total_bytes / RESERVE_DIVISOR).min(RESERVE_BYTES_MAX));
        let available = stat.f_bavail.saturating_mul(stat.f_frsize);
        Ok(Space {
            free_bytes: available.saturating_sub(reserve),
            total_bytes,
        })
    }
}

impl Reservation {
    /// Makes the reservation cover `bytes`, of which `written` are on the volume already.
    pub(super) fn grow_to(&mut self, root: &Path, bytes: u64, written: u64) -> Result<(), WriteError> {
        let no_space = |free_bytes| WriteError::NoSpace {
            path: root.to_owned(),
            free_bytes,
        };
        let more = bytes.saturating_sub(self.bytes);
        let before = self.budget.used_bytes.fetch_add(more, Ordering::Relaxed);
        self.bytes += more;
        if let Some(quota) = self.budget.quota_bytes
            && before.saturating_add(more) > quota
        {
            self.shrink_by(more);
            return Err(no_space(quota.saturating_sub(before)));
        }
        // A volume that cannot be measured is left to the write itself to judge.
        match self.budget.volume(root) {
            Ok(volume) if volume.free_bytes < bytes.saturating_sub(written) => Err(no_space(volume.free_bytes)),
            _ => Ok(()),
        }
    }

    /// The blob is committed: its bytes stay counted.
    pub(super) fn keep(mut self, bytes: u64) {
        self.shrink_by(self.bytes.saturating_sub(bytes));
        self.bytes = 0;
    }

    fn shrink_by(&mut self, bytes: u64) {
        self.bytes -= bytes;
        self.budget.release(bytes);
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.budget.release(self.bytes);
    }
}
