//! Writing one blob: a temporary file, its checksums, then both renamed into place.

use std::fs::{self, File};
use std::io::{self, IoSlice, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use oci::{DigestMismatch, Verifier};
use tokio::runtime::Handle;

use super::budget::Reservation;
use super::layout::sync_directory;
use super::patience::{self, Patience};
use super::reader::{BlobFile, OpenBlob};
use super::shared::Shared;
use crate::blob_store::checksum::{ChunkSums, GrowingSums};
use crate::blob_store::{BlobKey, BlobReader, BlobStat, BlobWriter, VerifiedBlob, WriteError};

/// Slices given to one write; the kernel takes at most 1024.
const SLICES_MAX: usize = 256;

/// A blob being written.
pub(super) struct LocalWriter {
    sink: Arc<Sink>,
    /// The last batch, until it is stored.
    last: Vec<Bytes>,
    given_bytes: u64,
    stored_bytes: u64,
}

/// A blob whose digest was found right.
struct Verified {
    sink: Arc<Sink>,
    sums: ChunkSums,
}

/// The temporary file and what is known of its content. A method that does IO blocks.
struct Sink {
    shared: Arc<Shared>,
    key: BlobKey,
    temporary: Temporary,
    file: Arc<BlobFile>,
    sums: Arc<Mutex<GrowingSums>>,
    // Never held while the disk works.
    hash: Mutex<Hash>,
    // Held for the length of an append, which nothing else waits for.
    reservation: Mutex<Option<Reservation>>,
}

struct Hash {
    verifier: Verifier,
    bytes: u64,
}

/// A path in `tmp/` whose file goes when this is dropped.
struct Temporary {
    path: PathBuf,
    patience: Arc<Patience>,
}

impl LocalWriter {
    pub(super) async fn begin(
        shared: &Arc<Shared>,
        key: &BlobKey,
        expected_bytes: Option<u64>,
    ) -> Result<Self, WriteError> {
        let verifier = key.digest.verifier()?;
        let (store, key) = (Arc::clone(shared), key.clone());
        let create = move || Sink::create(store, key, verifier, expected_bytes);
        let sink = shared.writes.run(patience::BEGIN, create).await;
        let sink =
            sink.unwrap_or_else(|error| Err(write_error(shared, "start writing in", shared.layout.root(), error)))?;
        Ok(Self {
            sink: Arc::new(sink),
            last: Vec::new(),
            given_bytes: 0,
            stored_bytes: 0,
        })
    }
}

#[async_trait]
impl BlobWriter for LocalWriter {
    async fn append(&mut self, batch: Vec<Bytes>) -> Result<(), WriteError> {
        let before = self.given_bytes;
        self.given_bytes += batch.iter().map(|bytes| bytes.len() as u64).sum::<u64>();
        // Whether it is hashed before the disk is given up is not known.
        self.last.clone_from(&batch);
        let sink = Arc::clone(&self.sink);
        let append = move || sink.append(&batch, before);
        let appended = self.sink.shared.writes.run(patience::STEP, append).await;
        appended.unwrap_or_else(|error| Err(self.sink.error("write", error)))?;
        self.stored_bytes = self.given_bytes;
        self.last.clear();
        Ok(())
    }

    fn bytes_so_far(&self) -> u64 {
        self.stored_bytes
    }

    fn partial(&self) -> Arc<dyn BlobReader> {
        Arc::new(OpenBlob::new(Arc::clone(&self.sink.file)))
    }

    fn verify(self: Box<Self>) -> Result<Box<dyn VerifiedBlob>, DigestMismatch> {
        self.sink.hash().verifier.clone().finish()?;
        let sums = self.sink.sums().close();
        Ok(Box::new(Verified { sink: self.sink, sums }))
    }

    fn into_verifier(self: Box<Self>) -> Verifier {
        let mut hash = self.sink.hash();
        hash.cover(&self.last, self.given_bytes);
        hash.verifier.clone()
    }
}

#[async_trait]
impl VerifiedBlob for Verified {
    async fn commit(self: Box<Self>) -> Result<BlobStat, WriteError> {
        let sink = Arc::clone(&self.sink);
        let commit = move || self.sink.commit(&self.sums);
        let committed = sink.shared.writes.run(patience::COMMIT, commit).await;
        committed.unwrap_or_else(|error| Err(sink.error("commit", error)))
    }
}

impl Sink {
    fn create(
        shared: Arc<Shared>,
        key: BlobKey,
        verifier: Verifier,
        expected_bytes: Option<u64>,
    ) -> Result<Self, WriteError> {
        let descriptor = Arc::clone(&shared.descriptors)
            .try_acquire_owned()
            .map_err(|_| WriteError::Busy)?;
        let reservation = shared
            .budget
            .reserve(shared.layout.root(), expected_bytes.unwrap_or(0))?;
        let temporary = Temporary::new(&shared, shared.layout.temporary(&shared.temporary_name()));
        let file = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&temporary.path);
        let file = file.map_err(|error| write_error(&shared, "create", &temporary.path, error))?;
        let sums = Arc::new(Mutex::new(GrowingSums::default()));
        let file = BlobFile::growing(Arc::clone(&shared), key.clone(), file, Arc::clone(&sums), descriptor);
        Ok(Self {
            shared,
            key,
            temporary,
            file: Arc::new(file),
            sums,
            hash: Mutex::new(Hash { verifier, bytes: 0 }),
            reservation: Mutex::new(Some(reservation)),
        })
    }

    /// Adds what follows the first `before` bytes.
    fn append(&self, batch: &[Bytes], before: u64) -> Result<(), WriteError> {
        let end = before + batch.iter().map(|bytes| bytes.len() as u64).sum::<u64>();
        self.hash().cover(batch, end);
        let mut reservation = self.reservation();
        if let Some(reservation) = &mut *reservation {
            reservation.grow_to(self.shared.layout.root(), end)?;
        }
        write_all(self.file.file(), batch).map_err(|error| self.error("write", error))?;
        // Only now: what has a checksum can be read.
        for bytes in batch {
            self.sums().add(bytes);
        }
        if let Some(reservation) = &mut *reservation {
            reservation.wrote(end);
        }
        Ok(())
    }

    fn commit(&self, sums: &ChunkSums) -> Result<BlobStat, WriteError> {
        let shared = &self.shared;
        self.file
            .file()
            .sync_data()
            .map_err(|error| self.error("sync", error))?;
        let sums_file = Temporary::new(shared, self.temporary.path.with_added_extension("sums"));
        write_durably(&sums_file.path, &sums.encode())
            .map_err(|error| write_error(shared, "write", &sums_file.path, error))?;
        self.publish(&sums_file.path).inspect_err(|_| self.unpublish())?;
        if shared.index.insert(self.key.clone(), sums.length())
            && let Some(reservation) = self.reservation().take()
        {
            reservation.keep(sums.length());
        }
        Ok(BlobStat {
            key: self.key.clone(),
            size_bytes: sums.length(),
        })
    }

    /// Checksums first, so that data under its final name always has them.
    fn publish(&self, sums_file: &Path) -> Result<(), WriteError> {
        let layout = &self.shared.layout;
        let data = layout.data(&self.key);
        let rename = || -> io::Result<()> {
            let directory = layout.make_directory(&self.key)?;
            fs::rename(sums_file, layout.sums(&self.key))?;
            fs::rename(&self.temporary.path, &data)?;
            sync_directory(&directory)
        };
        rename().map_err(|error| write_error(&self.shared, "rename to", &data, error))
    }

    fn unpublish(&self) {
        // A copy of the same name that was committed before stays: it is whole.
        if self.shared.index.get(&self.key).is_none() {
            let _ = fs::remove_file(self.shared.layout.data(&self.key));
            let _ = fs::remove_file(self.shared.layout.sums(&self.key));
        }
    }

    fn error(&self, action: &'static str, error: io::Error) -> WriteError {
        write_error(&self.shared, action, &self.temporary.path, error)
    }

    fn hash(&self) -> MutexGuard<'_, Hash> {
        self.hash.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reservation(&self) -> MutexGuard<'_, Option<Reservation>> {
        self.reservation.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sums(&self) -> MutexGuard<'_, GrowingSums> {
        self.sums.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Hash {
    /// Adds `batch`, which ends at byte `end`, unless it was added before.
    fn cover(&mut self, batch: &[Bytes], end: u64) {
        if self.bytes < end {
            batch.iter().for_each(|bytes| self.verifier.update(bytes));
            self.bytes = end;
        }
    }
}

impl Temporary {
    fn new(shared: &Shared, path: PathBuf) -> Self {
        let patience = Arc::clone(&shared.writes);
        Self { path, patience }
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if self.patience.is_lost() {
            // Removed at the next open; trying now would take another thread.
            return;
        }
        let path = std::mem::take(&mut self.path);
        // What was renamed away is gone already; anything else is removed at the next open at the latest.
        let remove = move || drop(fs::remove_file(path));
        match Handle::try_current() {
            // Removing a large file takes the file system a while.
            Ok(runtime) => drop(runtime.spawn_blocking(remove)),
            Err(_) => remove(),
        }
    }
}

fn write_all(mut file: &File, batch: &[Bytes]) -> io::Result<()> {
    for run in batch.chunks(SLICES_MAX) {
        let mut slices: Vec<IoSlice<'_>> = run.iter().map(|bytes| IoSlice::new(bytes)).collect();
        let mut left = &mut slices[..];
        IoSlice::advance_slices(&mut left, 0);
        while !left.is_empty() {
            match file.write_vectored(left) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => IoSlice::advance_slices(&mut left, n),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}

fn write_durably(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    file.sync_data()
}

fn write_error(shared: &Shared, action: &'static str, path: &Path, source: io::Error) -> WriteError {
    let full = matches!(
        source.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
    );
    if !full {
        let path = path.to_owned();
        return WriteError::Io { action, path, source };
    }
    // Only after a write that said so: this does not wait for a disk that hangs.
    let space = shared.budget.space(shared.layout.root());
    WriteError::NoSpace {
        path: path.to_owned(),
        free_bytes: space.map_or(0, |space| space.free_bytes),
    }
}
