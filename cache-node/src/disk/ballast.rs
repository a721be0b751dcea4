//! A file that only takes up room, so that there is some to let go of when the volume is full.
//!
//! A database on a full volume cannot even be opened to be made smaller. Letting the ballast go gives it the room for
//! that once; the file is made again when there is room for it beside everything else.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{FallocateFlags, fallocate};

use super::volume::{Fullness, Marks, Volume};

const NAME: &str = "ballast";

/// The ballast of a data directory. Its methods block.
#[derive(Clone, Debug)]
pub(super) struct Ballast {
    path: PathBuf,
    set_aside: fn(&File, u64) -> io::Result<()>,
    /// Whether the file system cannot set bytes aside: it will not learn to.
    given_up: Arc<AtomicBool>,
}

/// What is to be done with a ballast.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trim {
    /// Nothing.
    Leave,
    /// Make it, of this many bytes.
    Load(u64),
    /// Let it go.
    Drop,
}

/// Decides about a ballast of which `there_bytes` exist.
pub(super) fn trim(fullness: Fullness, volume: Volume, there_bytes: u64) -> Trim {
    let marks = Marks::of(volume.total_bytes);
    let fits = || {
        let after = volume.free_bytes.saturating_sub(marks.ballast_bytes);
        after > marks.low_bytes.saturating_add(marks.ballast_bytes)
    };
    match fullness {
        Fullness::Exhausted if there_bytes > 0 => Trim::Drop,
        Fullness::Ample if there_bytes == 0 && marks.ballast_bytes > 0 && fits() => Trim::Load(marks.ballast_bytes),
        _ => Trim::Leave,
    }
}

impl Ballast {
    /// The ballast of `data_dir`.
    pub(super) fn of(data_dir: &Path) -> Self {
        Self {
            path: data_dir.join(NAME),
            set_aside,
            given_up: Arc::default(),
        }
    }

    /// Its size; zero if there is none.
    pub(super) fn bytes(&self) -> u64 {
        std::fs::metadata(&self.path).map_or(0, |metadata| metadata.len())
    }

    /// Carries out a decision.
    ///
    /// # Errors
    /// What the system said. Where bytes cannot be set aside nothing is left behind, and it is said once.
    pub(super) fn carry_out(&self, trim: Trim) -> io::Result<()> {
        match trim {
            Trim::Leave => Ok(()),
            Trim::Drop => std::fs::remove_file(&self.path),
            Trim::Load(_) if self.given_up.load(Ordering::Relaxed) => Ok(()),
            Trim::Load(bytes) => self.load(bytes).inspect_err(|error| {
                drop(std::fs::remove_file(&self.path));
                self.give_up_if_unsupported(error);
            }),
        }
    }

    fn load(&self, bytes: u64) -> io::Result<()> {
        let file = File::create(&self.path)?;
        (self.set_aside)(&file, bytes)
    }

    fn give_up_if_unsupported(&self, error: &io::Error) {
        if error.kind() == io::ErrorKind::Unsupported && !self.given_up.swap(true, Ordering::Relaxed) {
            let path = self.path.display();
            tracing::warn!(%path, "the file system cannot set bytes aside, there is no ballast file: keep the volume from filling up");
        }
    }
}

/// Sets bytes aside really: a file with a hole in it would take up nothing, and neither do zeros where they are compressed.
fn set_aside(file: &File, bytes: u64) -> io::Result<()> {
    Ok(fallocate(file, FallocateFlags::empty(), 0, bytes)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn it_goes_when_all_is_lost_and_returns_when_all_is_well() {
        let volume = |free_mib: u64| Volume {
            free_bytes: free_mib * MIB,
            total_bytes: 10 << 30,
        };
        for (fullness, free_mib, there, expected) in [
            (Fullness::Ample, 5000, 0, Trim::Load(128 * MIB)),
            (Fullness::Ample, 5000, 1, Trim::Leave),
            (Fullness::Ample, 1280, 0, Trim::Leave),
            (Fullness::Ample, 1281, 0, Trim::Load(128 * MIB)),
            (Fullness::Critical, 300, 1, Trim::Leave),
            (Fullness::Exhausted, 100, 1, Trim::Drop),
            (Fullness::Exhausted, 100, 0, Trim::Leave),
        ] {
            assert_eq!(
                trim(fullness, volume(free_mib), there),
                expected,
                "{fullness:?} {free_mib} {there}"
            );
        }
    }

    #[test]
    fn a_ballast_takes_up_the_room_it_says() {
        use std::os::unix::fs::MetadataExt;
        let dir = tempfile::tempdir().unwrap();
        let ballast = Ballast::of(dir.path());
        ballast.carry_out(Trim::Load(3 * MIB)).unwrap();
        assert_eq!(ballast.bytes(), 3 * MIB);
        let blocks = std::fs::metadata(dir.path().join(NAME)).unwrap().blocks();
        assert!(blocks * 512 >= 3 * MIB, "{blocks}");
        ballast.carry_out(Trim::Drop).unwrap();
        assert_eq!(ballast.bytes(), 0);
    }

    #[test]
    fn where_bytes_cannot_be_set_aside_it_is_tried_once() {
        let dir = tempfile::tempdir().unwrap();
        let ballast = Ballast {
            set_aside: |_, _| Err(rustix::io::Errno::OPNOTSUPP.into()),
            ..Ballast::of(dir.path())
        };
        let load = Trim::Load(3 * MIB);
        assert_eq!(ballast.carry_out(load).unwrap_err().kind(), io::ErrorKind::Unsupported);
        assert!(!dir.path().join(NAME).exists());
        // Whatever it still did would fail.
        drop(dir);
        ballast.clone().carry_out(load).unwrap();
    }

    #[test]
    fn where_there_was_no_room_it_is_tried_again() {
        let dir = tempfile::tempdir().unwrap();
        let mut ballast = Ballast {
            set_aside: |_, _| Err(rustix::io::Errno::NOSPC.into()),
            ..Ballast::of(dir.path())
        };
        assert!(ballast.carry_out(Trim::Load(3 * MIB)).is_err());
        ballast.set_aside = set_aside;
        ballast.carry_out(Trim::Load(3 * MIB)).unwrap();
        assert_eq!(ballast.bytes(), 3 * MIB);
    }
}
