//! What a data directory takes of its volume, against the most it may take.
//!
//! Blobs are counted as they are written and deleted. What lies beside them, the few files of the databases, is looked
//! up every second: nobody could say how large a database is without looking.

use std::fs::DirEntry;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::volume::Volume;

/// Where blobs lie in a data directory. Thousands of files, so they are not looked at every second.
pub const STORE_DIRECTORY: &str = "store";
/// Where in the store bad copies lie, which it does not count.
const CORRUPT_DIRECTORY: &str = "corrupt";
/// What a blob takes beside its bytes: its checksums and the ends of two files, each of whole blocks of 4 KiB.
const BESIDE_EACH_BLOB: u64 = 8 << 10;
/// What `stat` calls a block.
const BLOCK_BYTES: u64 = 512;

/// Counts what a data directory takes. Cheap to clone; all clones count together.
#[derive(Clone, Debug, Default)]
pub struct Usage {
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    quota_bytes: Option<u64>,
    blob_bytes: AtomicU64,
    beside_bytes: AtomicU64,
}

impl Usage {
    /// Nothing counted yet. Without a quota only the volume bounds it.
    pub fn new(quota_bytes: Option<u64>) -> Self {
        Self {
            counts: Arc::new(Counts {
                quota_bytes,
                ..Counts::default()
            }),
        }
    }

    /// The most it may take.
    pub fn quota_bytes(&self) -> Option<u64> {
        self.counts.quota_bytes
    }

    /// The volume that `path` lies on, as far as the quota lets it be used. Blocks.
    ///
    /// # Errors
    /// What the system said.
    pub fn measure(&self, path: &Path) -> io::Result<Volume> {
        let volume = Volume::measure(path)?;
        let Some(quota_bytes) = self.counts.quota_bytes else {
            return Ok(volume);
        };
        let [blobs, beside] =
            [&self.counts.blob_bytes, &self.counts.beside_bytes].map(|count| count.load(Ordering::Relaxed));
        Ok(volume.within(quota_bytes, blobs.saturating_add(beside)))
    }

    /// Looks up what lies in `data_dir` beside the blobs, if a quota asks for it. Blocks.
    ///
    /// # Errors
    /// What the system said. Files that go meanwhile are not there.
    pub fn look_beside_blobs(&self, data_dir: &Path) -> io::Result<()> {
        if self.counts.quota_bytes.is_some() {
            let bytes = bytes_below(data_dir, &|entry| entry.file_name() != STORE_DIRECTORY)?;
            let corrupt = bytes_below(&data_dir.join(STORE_DIRECTORY).join(CORRUPT_DIRECTORY), &|_| true)?;
            self.counts.beside_bytes.store(bytes + corrupt, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Looks up all there is, blobs too, as long as no store counts them. Blocks, for a while.
    ///
    /// # Errors
    /// What the system said.
    pub fn look_at_all(&self, data_dir: &Path) -> io::Result<()> {
        if self.counts.quota_bytes.is_some() {
            let blobs = bytes_below(&data_dir.join(STORE_DIRECTORY), &|_| true)?;
            self.counts.blob_bytes.store(blobs, Ordering::Relaxed);
        }
        self.look_beside_blobs(data_dir)
    }

    /// From now on a store counts the blobs, and holds so many.
    pub(crate) fn set_blobs(&self, n_blobs: u64, bytes: u64) {
        let all = bytes.saturating_add(n_blobs.saturating_mul(BESIDE_EACH_BLOB));
        self.counts.blob_bytes.store(all, Ordering::Relaxed);
    }

    /// A blob that is not whole yet has grown.
    pub(crate) fn wrote(&self, bytes: u64) {
        self.counts.blob_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// A blob is whole: its checksums are there as well.
    pub(crate) fn committed(&self) {
        self.wrote(BESIDE_EACH_BLOB);
    }

    /// A blob that was never whole is gone.
    pub(crate) fn dropped(&self, bytes: u64) {
        let less = |count: u64| Some(count.saturating_sub(bytes));
        let counted = &self.counts.blob_bytes;
        counted.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).ok();
    }

    /// A whole blob is gone.
    pub(crate) fn deleted(&self, bytes: u64) {
        self.dropped(bytes.saturating_add(BESIDE_EACH_BLOB));
    }
}

/// What the files below `directory` take up, without the entries of `directory` itself that are not `wanted`.
fn bytes_below(directory: &Path, wanted: &dyn Fn(&DirEntry) -> bool) -> io::Result<u64> {
    let entries = match std::fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        entries => entries?,
    };
    let mut bytes = 0;
    for entry in entries {
        let entry = entry?;
        if !wanted(&entry) {
            continue;
        }
        // Of the entry itself: links are not followed, so this ends.
        match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => bytes += bytes_below(&entry.path(), &|_| true)?,
            Ok(metadata) => bytes += metadata.blocks() * BLOCK_BYTES,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn free(usage: &Usage, path: &Path) -> u64 {
        usage.measure(path).unwrap().free_bytes
    }

    #[test]
    fn databases_and_blobs_count_against_the_quota() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, mib: usize| {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, vec![1; mib << 20]).unwrap();
        };
        write("raft/log/000001.sst", 2);
        write("store/blobs/sha256/ab/blob", 3);
        let usage = Usage::new(Some(10 * MIB));
        assert_eq!(usage.measure(dir.path()).unwrap().total_bytes, 10 * MIB);
        usage.look_at_all(dir.path()).unwrap();
        assert_eq!(free(&usage, dir.path()), 5 * MIB);

        usage.set_blobs(1, 3 * MIB);
        assert_eq!(free(&usage, dir.path()), 5 * MIB - BESIDE_EACH_BLOB);
        usage.wrote(MIB);
        usage.committed();
        write("raft/log/000002.sst", 1);
        write("store/corrupt/blob", 1);
        usage.look_beside_blobs(dir.path()).unwrap();
        assert_eq!(free(&usage, dir.path()), 2 * MIB - 2 * BESIDE_EACH_BLOB);
        usage.deleted(MIB);
        usage.deleted(3 * MIB);
        assert_eq!(free(&usage, dir.path()), 6 * MIB);
    }

    #[test]
    fn without_a_quota_the_volume_is_taken_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let usage = Usage::new(None);
        usage.wrote(u64::MAX / 2);
        let measured = usage.measure(dir.path()).unwrap();
        assert_eq!(measured.total_bytes, Volume::measure(dir.path()).unwrap().total_bytes);
        assert!(measured.free_bytes > 0);
    }
}
