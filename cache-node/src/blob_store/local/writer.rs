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
use super::reader::{BlobFile, OpenBlob};
use super::shared::{Shared, blocking};
use crate::blob_store::checksum::{ChunkSums, GrowingSums};
use crate::blob_store::{BlobKey, BlobReader, BlobStat, BlobWriter, VerifiedBlob, WriteError};

/// Slices given to one write; the kernel takes at most 1024.
const SLICES_MAX: usize = 256;

/// A blob being written.
pub(super) struct LocalWriter(Arc<Sink>);

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
    // Held for the length of an append, which nothing else waits for.
    state: Mutex<State>,
}

struct State {
    verifier: Verifier,
    reservation: Option<Reservation>,
    bytes_so_far: u64,
}

/// A path in `tmp/` whose file goes when this is dropped.
struct Temporary(PathBuf);

impl LocalWriter {
    pub(super) async fn begin(
        shared: &Arc<Shared>,
        key: &BlobKey,
        expected_bytes: Option<u64>,
    ) -> Result<Self, WriteError> {
        let verifier = key.digest.verifier()?;
        let (store, key) = (Arc::clone(shared), key.clone());
        let sink = blocking(move || Sink::create(store, key, verifier, expected_bytes))
            .await
            .unwrap_or_else(|error| Err(write_error(shared, "start writing in", shared.layout.root(), error)))?;
        Ok(Self(Arc::new(sink)))
    }
}

#[async_trait]
impl BlobWriter for LocalWriter {
    async fn append(&mut self, batch: Vec<Bytes>) -> Result<(), WriteError> {
        let sink = Arc::clone(&self.0);
        blocking(move || sink.append(&batch))
            .await
            .unwrap_or_else(|error| Err(self.0.error("write", error)))
    }

    fn bytes_so_far(&self) -> u64 {
        self.0.state().bytes_so_far
    }

    fn partial(&self) -> Arc<dyn BlobReader> {
        Arc::new(OpenBlob::new(Arc::clone(&self.0.file)))
    }

    fn verify(self: Box<Self>) -> Result<Box<dyn VerifiedBlob>, DigestMismatch> {
        self.0.state().verifier.clone().finish()?;
        let sums = self.0.sums().close();
        Ok(Box::new(Verified { sink: self.0, sums }))
    }

    fn into_verifier(self: Box<Self>) -> Verifier {
        self.0.state().verifier.clone()
    }
}

#[async_trait]
impl VerifiedBlob for Verified {
    async fn commit(self: Box<Self>) -> Result<BlobStat, WriteError> {
        let sink = Arc::clone(&self.sink);
        blocking(move || self.sink.commit(&self.sums))
            .await
            .unwrap_or_else(|error| Err(sink.error("commit", error)))
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
        let path = shared.layout.temporary(&shared.temporary_name());
        let file = File::options().read(true).write(true).create_new(true).open(&path);
        let file = file.map_err(|error| write_error(&shared, "create", &path, error))?;
        let sums = Arc::new(Mutex::new(GrowingSums::default()));
        let file = BlobFile::growing(Arc::clone(&shared), key.clone(), file, Arc::clone(&sums), descriptor);
        Ok(Self {
            shared,
            key,
            temporary: Temporary(path),
            file: Arc::new(file),
            sums,
            state: Mutex::new(State {
                verifier,
                reservation: Some(reservation),
                bytes_so_far: 0,
            }),
        })
    }

    fn append(&self, batch: &[Bytes]) -> Result<(), WriteError> {
        let mut state = self.state();
        for bytes in batch {
            state.verifier.update(bytes);
        }
        let before = state.bytes_so_far;
        let end = before + batch.iter().map(|bytes| bytes.len() as u64).sum::<u64>();
        if let Some(reservation) = &mut state.reservation {
            reservation.grow_to(self.shared.layout.root(), end, before)?;
        }
        write_all(self.file.file(), batch).map_err(|error| self.error("write", error))?;
        // Only now: what has a checksum can be read.
        for bytes in batch {
            self.sums().add(bytes);
        }
        state.bytes_so_far = end;
        Ok(())
    }

    fn commit(&self, sums: &ChunkSums) -> Result<BlobStat, WriteError> {
        let shared = &self.shared;
        self.file
            .file()
            .sync_data()
            .map_err(|error| self.error("sync", error))?;
        let sums_file = Temporary(self.temporary.0.with_added_extension("sums"));
        write_durably(&sums_file.0, &sums.encode())
            .map_err(|error| write_error(shared, "write", &sums_file.0, error))?;
        self.publish(&sums_file.0).inspect_err(|_| self.unpublish())?;
        if shared.index.insert(self.key.clone(), sums.length())
            && let Some(reservation) = self.state().reservation.take()
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
            fs::rename(&self.temporary.0, &data)?;
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
        write_error(&self.shared, action, &self.temporary.0, error)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sums(&self) -> MutexGuard<'_, GrowingSums> {
        self.sums.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let path = std::mem::take(&mut self.0);
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
    let space = shared.budget.space(shared.layout.root());
    WriteError::NoSpace {
        path: path.to_owned(),
        free_bytes: space.map_or(0, |space| space.free_bytes),
    }
}
