//! Reading files chunk by chunk, each checked before any byte of it is handed out.
//!
//! What the page cache holds is read where it is wanted: handing a chunk from one thread to another costs more than
//! copying it. Only what has to come from the disk goes through a blocking thread. Checked bytes lie in buffers of our
//! own, so what is sent is what was checked, whatever the disk says the second time.

use std::fs::{self, File};
use std::io::{self, IoSliceMut};
use std::num::NonZeroU64;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures::StreamExt;
use futures::stream;
use rustix::fs::{Advice, fadvise};
use rustix::io::{Errno, ReadWriteFlags, preadv2};
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::yield_now;

use super::patience;
use super::shared::Shared;
use crate::blob_store::checksum::{ChunkSum, ChunkSums, GrowingSums};
use crate::blob_store::{BlobKey, BlobReader, ByteStream, CHUNK_BYTES, ReadError};

/// Bytes read and hashed before other tasks of the thread get their turn: some 50 microseconds.
const STEP_BYTES: usize = 256 << 10;
/// How far the disk is told to read ahead of a reader that had to wait for it.
const AHEAD_BYTES: Option<NonZeroU64> = NonZeroU64::new(4 << 20);

/// An open file of a blob, with what its chunks must be.
#[derive(Debug)]
pub(super) struct BlobFile {
    key: BlobKey,
    file: File,
    sums: Sums,
    shared: Arc<Shared>,
    _descriptor: OwnedSemaphorePermit,
}

/// Checksums of a committed blob, or of one being written.
#[derive(Debug)]
pub(super) enum Sums {
    Whole(ChunkSums),
    Growing(Arc<Mutex<GrowingSums>>),
}

/// A reader over a [`BlobFile`] that others may share.
#[derive(Debug)]
pub(super) struct OpenBlob(Arc<BlobFile>);

impl OpenBlob {
    /// Opens a committed blob.
    pub(super) async fn open(shared: &Arc<Shared>, key: &BlobKey) -> Result<Self, ReadError> {
        if shared.index.get(key).is_none() {
            return Err(ReadError::NotFound(key.clone()));
        }
        if let Some(file) = shared.already_open(key) {
            return Ok(Self(file));
        }
        let descriptor = Arc::clone(&shared.descriptors)
            .try_acquire_owned()
            .map_err(|_| ReadError::Busy)?;
        let (at, store) = (key.clone(), Arc::clone(shared));
        let opening = move || BlobFile::open(store, at, descriptor);
        let opened = shared.reads.run(patience::STEP, opening).await;
        let file = opened.unwrap_or_else(|source| Err(io_error(key, source)))?;
        Ok(Self(shared.share_open(key, file)))
    }

    pub(super) fn new(file: Arc<BlobFile>) -> Self {
        Self(file)
    }
}

impl BlobReader for OpenBlob {
    fn readable_bytes(&self) -> u64 {
        self.0.sums.readable_bytes()
    }

    fn read(&self, range: Range<u64>) -> ByteStream {
        let readable_bytes = self.readable_bytes();
        if range.end > readable_bytes {
            let key = self.0.key.clone();
            return stream::iter([Err(ReadError::OutOfRange { key, readable_bytes })]).boxed();
        }
        let cursor = Cursor {
            file: Arc::clone(&self.0),
            range,
        };
        stream::try_unfold(cursor, Cursor::next).boxed()
    }
}

impl BlobFile {
    pub(super) fn growing(
        shared: Arc<Shared>,
        key: BlobKey,
        file: File,
        sums: Arc<Mutex<GrowingSums>>,
        descriptor: OwnedSemaphorePermit,
    ) -> Self {
        Self {
            key,
            file,
            sums: Sums::Growing(sums),
            shared,
            _descriptor: descriptor,
        }
    }

    pub(super) fn file(&self) -> &File {
        &self.file
    }

    fn open(shared: Arc<Shared>, key: BlobKey, descriptor: OwnedSemaphorePermit) -> Result<Self, ReadError> {
        let parts = || -> io::Result<(File, u64, Vec<u8>)> {
            let file = File::open(shared.layout.data(&key))?;
            let length = file.metadata()?.len();
            Ok((file, length, fs::read(shared.layout.sums(&key))?))
        };
        let (file, length, sums) = parts().map_err(|error| failed(&shared, &key, error))?;
        let sums = ChunkSums::decode(&sums).map_err(|error| corrupt(&shared, &key, &error.to_string()))?;
        if sums.length() != length {
            let reason = format!("it has {length} bytes instead of {}", sums.length());
            return Err(corrupt(&shared, &key, &reason));
        }
        Ok(Self {
            key,
            file,
            sums: Sums::Whole(sums),
            shared,
            _descriptor: descriptor,
        })
    }

    fn sum_of(&self, chunk: u64) -> Result<ChunkSum, ReadError> {
        self.sums.chunk(chunk).ok_or_else(|| ReadError::OutOfRange {
            key: self.key.clone(),
            readable_bytes: self.sums.readable_bytes(),
        })
    }

    /// Reads and checks one chunk, wherever it is.
    async fn read_chunk(self: &Arc<Self>, chunk: u64) -> Result<Bytes, ReadError> {
        let sum = self.sum_of(chunk)?;
        if let Some(bytes) = self.read_cached(chunk, sum).await {
            return Ok(bytes);
        }
        let file = Arc::clone(self);
        let read = self
            .shared
            .reads
            .run(patience::STEP, move || file.read_blocking(chunk, sum));
        read.await.unwrap_or_else(|error| Err(io_error(&self.key, error)))
    }

    /// Reads a chunk that the page cache holds whole; anything else, errors included, is left to the thread that may
    /// wait for it.
    async fn read_cached(&self, chunk: u64, sum: ChunkSum) -> Option<Bytes> {
        let mut loan = self.shared.buffers.lend(sum.length);
        let (mut done, mut crc) = (0, 0);
        while done < sum.length {
            let step = done..sum.length.min(done + STEP_BYTES);
            let part = &mut loan.as_mut()[step];
            let at = chunk * CHUNK_BYTES + done as u64;
            let n = preadv2(&self.file, &mut [IoSliceMut::new(part)], at, ReadWriteFlags::NOWAIT).ok()?;
            crc = crc32c::crc32c_append(crc, &part[..n]);
            done += n;
            if n == 0 {
                return None;
            }
            yield_now().await;
        }
        sum.is(crc).then(|| loan.share())
    }

    fn read_blocking(&self, chunk: u64, sum: ChunkSum) -> Result<Bytes, ReadError> {
        let at = chunk * CHUNK_BYTES;
        let mut loan = self.shared.buffers.lend(sum.length);
        let read = self.file.read_exact_at(loan.as_mut(), at);
        read.map_err(|error| self.failed(error))?;
        // The disk works while this chunk is sent. Only advice: an error of it means nothing.
        let _ = fadvise(&self.file, at + CHUNK_BYTES, AHEAD_BYTES, Advice::WillNeed);
        if !sum.holds(loan.as_ref()) {
            return Err(self.corrupt(&format!("checksum of chunk {chunk} differs")));
        }
        Ok(loan.share())
    }

    fn failed(&self, error: io::Error) -> ReadError {
        match self.sums {
            Sums::Whole(_) => failed(&self.shared, &self.key, error),
            Sums::Growing(_) => io_error(&self.key, error),
        }
    }

    fn corrupt(&self, reason: &str) -> ReadError {
        match self.sums {
            Sums::Whole(_) => corrupt(&self.shared, &self.key, reason),
            // Not committed yet, so there is no copy to set aside.
            Sums::Growing(_) => ReadError::Corrupt {
                key: self.key.clone(),
                reason: reason.to_owned(),
            },
        }
    }
}

impl Sums {
    fn readable_bytes(&self) -> u64 {
        match self {
            Self::Whole(sums) => sums.length(),
            Self::Growing(sums) => sums.lock().unwrap_or_else(PoisonError::into_inner).readable_bytes(),
        }
    }

    fn chunk(&self, chunk: u64) -> Option<ChunkSum> {
        match self {
            Self::Whole(sums) => sums.chunk(chunk),
            Self::Growing(sums) => sums.lock().unwrap_or_else(PoisonError::into_inner).chunk(chunk),
        }
    }
}

/// What is left to read.
struct Cursor {
    file: Arc<BlobFile>,
    range: Range<u64>,
}

impl Cursor {
    async fn next(mut self) -> Result<Option<(Bytes, Self)>, ReadError> {
        if self.range.is_empty() {
            return Ok(None);
        }
        let chunk = self.range.start / CHUNK_BYTES;
        let bytes = self.file.read_chunk(chunk).await?;
        let chunk_start = chunk * CHUNK_BYTES;
        let within = |at: u64| usize::try_from(at - chunk_start).map_or(bytes.len(), |at| at.min(bytes.len()));
        let slice = bytes.slice(within(self.range.start)..within(self.range.end));
        self.range.start += slice.len() as u64;
        Ok(Some((slice, self)))
    }
}

/// Tells a copy that is bad from a system that cannot read just now.
fn failed(shared: &Shared, key: &BlobKey, error: io::Error) -> ReadError {
    let unreadable = error.raw_os_error() == Some(Errno::IO.raw_os_error());
    match error.kind() {
        io::ErrorKind::NotFound if shared.index.get(key).is_none() => ReadError::NotFound(key.clone()),
        io::ErrorKind::NotFound => corrupt(shared, key, "one of its files is gone"),
        io::ErrorKind::UnexpectedEof => corrupt(shared, key, "it has become shorter"),
        _ if unreadable => corrupt(shared, key, "the disk cannot read it"),
        _ => io_error(key, error),
    }
}

fn corrupt(shared: &Shared, key: &BlobKey, reason: &str) -> ReadError {
    if let Err(error) = shared.set_aside(key, reason) {
        tracing::warn!(blob = %key, error = &error as &dyn std::error::Error, "corrupt blob could not be moved away");
    }
    ReadError::Corrupt {
        key: key.clone(),
        reason: reason.to_owned(),
    }
}

fn io_error(key: &BlobKey, source: io::Error) -> ReadError {
    ReadError::Io {
        key: key.clone(),
        source,
    }
}
