//! How full a volume is, and what follows from it. Pure, but for the measuring.
//!
//! Every mark is a share of the volume, so that small volumes work, and at most a number of bytes, so that large ones
//! are used.

use std::io;
use std::path::Path;

use raft::LogRoom;
use rustix::fs::statvfs;

/// A volume, as the system tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Volume {
    /// What may still be written.
    pub free_bytes: u64,
    /// Its size.
    pub total_bytes: u64,
}

/// Free bytes below which something changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marks {
    /// No blob is stored below this: a tenth, at most 2 GiB. The rest is for the log, the state and snapshots.
    pub low_bytes: u64,
    /// Nothing is proposed below this: half of it.
    pub critical_bytes: u64,
    /// No entry is taken in below this: an eighth of it, as large as what the databases may write at once.
    pub exhausted_bytes: u64,
    /// Size of the ballast, as large, so that letting it go makes room for those writes once more.
    pub ballast_bytes: u64,
}

/// Largest bytes kept free of blobs: two rounds of both databases' write-ahead logs and a state of a million tags.
const LOW_BYTES_MAX: u64 = 2 << 30;
const LOW_DIVISOR: u64 = 10;
/// Who left a state comes back only with this much more than its mark (an eighth), so that nothing flaps.
const RETURN_DIVISOR: u64 = 8;

/// How full a volume is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fullness {
    /// There is room.
    #[default]
    Ample,
    /// Blobs are streamed and not kept.
    Low,
    /// As a leader, nothing is proposed either.
    Critical,
    /// Nothing is written but votes.
    Exhausted,
}

impl Volume {
    /// Asks the system about the volume that `path` lies on. Blocks.
    ///
    /// # Errors
    /// What the system said.
    pub fn measure(path: &Path) -> io::Result<Self> {
        let stat = statvfs(path)?;
        Ok(Self {
            free_bytes: stat.f_bavail.saturating_mul(stat.f_frsize),
            total_bytes: stat.f_blocks.saturating_mul(stat.f_frsize),
        })
    }

    /// The part of it that may be used under a quota of which `used_bytes` are taken.
    pub fn within(self, quota_bytes: u64, used_bytes: u64) -> Self {
        Self {
            free_bytes: self.free_bytes.min(quota_bytes.saturating_sub(used_bytes)),
            total_bytes: self.total_bytes.min(quota_bytes),
        }
    }
}

impl Marks {
    /// The marks of a volume of that size.
    pub fn of(total_bytes: u64) -> Self {
        let low_bytes = (total_bytes / LOW_DIVISOR).min(LOW_BYTES_MAX);
        Self {
            low_bytes,
            critical_bytes: low_bytes / 2,
            exhausted_bytes: low_bytes / 8,
            ballast_bytes: low_bytes / 8,
        }
    }
}

impl Fullness {
    /// How full `volume` is, having been `self` full before.
    pub fn next(self, volume: Volume) -> Self {
        let marks = Marks::of(volume.total_bytes);
        let is = |state: Self, mark: u64| {
            let margin = if self >= state { mark / RETURN_DIVISOR } else { 0 };
            volume.free_bytes < mark + margin
        };
        match () {
            () if is(Self::Exhausted, marks.exhausted_bytes) => Self::Exhausted,
            () if is(Self::Critical, marks.critical_bytes) => Self::Critical,
            () if is(Self::Low, marks.low_bytes) => Self::Low,
            () => Self::Ample,
        }
    }

    /// What that leaves for the log.
    pub fn log_room(self) -> LogRoom {
        match self {
            Self::Ample | Self::Low => LogRoom::Enough,
            Self::Critical => LogRoom::Scarce,
            Self::Exhausted => LogRoom::Exhausted,
        }
    }

    /// What a node says of itself, if there is something to say.
    pub fn reason(self) -> Option<&'static str> {
        match self {
            Self::Ample => None,
            Self::Low => Some("disk full: new blobs are streamed and not kept here"),
            Self::Critical => Some("disk full: new blobs are not kept here and this node proposes nothing new"),
            Self::Exhausted => Some("disk full: nothing new is kept or recorded here, make room on the volume"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;
    const MIB: u64 = 1 << 20;

    fn with(total_bytes: u64, free_bytes: u64) -> Volume {
        Volume {
            free_bytes,
            total_bytes,
        }
    }

    #[test]
    fn marks_are_shares_of_small_volumes_and_bytes_of_large_ones() {
        for (total, low, ballast) in [
            (100 * MIB, 10 * MIB, 10 * MIB / 8),
            (10 * GIB, GIB, 128 * MIB),
            (20 * GIB, 2 * GIB, 256 * MIB),
            (4096 * GIB, 2 * GIB, 256 * MIB),
        ] {
            let marks = Marks::of(total);
            assert_eq!((marks.low_bytes, marks.ballast_bytes), (low, ballast), "{total}");
            assert_eq!(marks.critical_bytes, low / 2, "{total}");
        }
    }

    #[test]
    fn a_volume_fills_in_steps_and_returns_only_with_a_margin() {
        use Fullness::{Ample, Critical, Exhausted, Low};
        // Marks at 1024, 512 and 128 MiB.
        let total = 10 * GIB;
        for (before, free_mib, after) in [
            (Ample, 1024, Ample),
            (Ample, 1023, Low),
            (Low, 1100, Low),
            (Low, 1152, Ample),
            (Ample, 511, Critical),
            (Low, 512, Low),
            (Critical, 512, Critical),
            (Critical, 575, Critical),
            (Critical, 576, Low),
            (Ample, 127, Exhausted),
            (Critical, 127, Exhausted),
            (Exhausted, 143, Exhausted),
            (Exhausted, 144, Critical),
            (Exhausted, 5000, Ample),
        ] {
            let found = before.next(with(total, free_mib * MIB));
            assert_eq!(found, after, "{before:?} with {free_mib} MiB");
        }
    }

    #[test]
    fn under_a_quota_a_large_volume_is_a_small_one() {
        use Fullness::{Ample, Exhausted, Low};
        // Marks of 10 GiB: 1024, 512 and 128 MiB.
        let quota = 10 * GIB;
        for (free, used, fullness) in [
            (900 * GIB, 8 * GIB, Ample),
            (900 * GIB, quota - 1023 * MIB, Low),
            (900 * GIB, quota + GIB, Exhausted),
            (1023 * MIB, GIB, Low),
        ] {
            let volume = with(1000 * GIB, free).within(quota, used);
            assert_eq!(volume.total_bytes, quota);
            assert_eq!(Ample.next(volume), fullness, "{free} free, {used} used");
        }
        assert_eq!(with(GIB, MIB).within(quota, 0), with(GIB, MIB));
    }

    #[test]
    fn a_volume_that_says_nothing_of_its_size_is_not_full() {
        assert_eq!(Fullness::Ample.next(with(0, 0)), Fullness::Ample);
    }
}
