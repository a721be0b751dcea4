//! The port [`BlobStore`]: what a cache node needs from the place where its blobs lie.
//!
//! A blob has a physical name of digest and generation ([`BlobKey`]), so a late delete never hits bytes that were
//! stored again. Adapters: [`local`] files and [`memory`]; one suite (`suite.rs`) runs against all of them.
//! What blobs mean to the cluster (present, condemned, lost) is the log's business and not known here.

mod checksum;
mod error;
pub mod local;
pub mod memory;
#[cfg(test)]
pub(crate) mod suite;

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use meta::Gen;
use oci::{Digest, DigestMismatch, Verifier};

pub use error::{ReadError, StoreError, WriteError};

/// Bytes of a blob in order. After an error the stream ends; what came before it was checked.
pub type ByteStream = BoxStream<'static, Result<Bytes, ReadError>>;

/// Bytes under one checksum. Larger would make a short range read more than it sends, smaller costs more calls.
pub const CHUNK_BYTES: u64 = 1 << 20;

/// The physical name of one stored copy.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlobKey {
    /// What the bytes hash to.
    pub digest: Digest,
    /// Which storing of them this is.
    pub generation: Gen,
}

impl fmt::Display for BlobKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.digest, self.generation)
    }
}

/// A committed blob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlobStat {
    /// Its physical name.
    pub key: BlobKey,
    /// Its length.
    pub size_bytes: u64,
}

/// Room on the volume, or under the quota where that is less.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// What may still be written.
    pub free_bytes: u64,
    /// Size of the volume, or the quota.
    pub total_bytes: u64,
    /// The largest write that was refused of late and does not fit now either.
    pub refused_bytes: Option<u64>,
}

/// Holds committed blobs and takes new ones.
///
/// Duties of an implementation:
/// - A blob is visible whole or not at all; what [`VerifiedBlob::commit`] returned for survives a crash.
/// - Blobs never change. No byte leaves unless the checksum of its chunk was checked in the same read.
/// - A copy that fails its check is set aside as by [`BlobStore::quarantine`] before the error is returned.
/// - A reader that is open keeps working when its blob is deleted or set aside.
/// - No call blocks the async workers; all are bounded in memory and open files. What the device does not answer ends in
///   an error within seconds (a commit: within minutes), and at once while it is known to hang.
#[async_trait]
pub trait BlobStore: Send + Sync + 'static {
    /// Says whether this copy is committed here.
    async fn stat(&self, key: &BlobKey) -> Result<Option<BlobStat>, StoreError>;

    /// Finds a committed copy of `digest`, of the newest generation if there are several.
    async fn find(&self, digest: &Digest) -> Result<Option<BlobStat>, StoreError>;

    /// Opens a committed copy for reading.
    ///
    /// # Errors
    /// [`ReadError::NotFound`] if there is none; [`ReadError::Corrupt`] if its checksums do not hold together (it has
    /// been set aside); [`ReadError::Busy`] at the bound of open files; [`ReadError::Io`].
    async fn open(&self, key: &BlobKey) -> Result<Box<dyn BlobReader>, ReadError>;

    /// Starts writing a copy. `expected_bytes` lets a full volume say so before the first byte.
    ///
    /// # Errors
    /// [`WriteError::NoSpace`], [`WriteError::Unsupported`] for a digest that cannot be verified,
    /// [`WriteError::Busy`] at the bound of open files, [`WriteError::Io`].
    async fn begin_write(&self, key: &BlobKey, expected_bytes: Option<u64>) -> Result<Box<dyn BlobWriter>, WriteError>;

    /// Removes a copy; `false` if there was none. Its name stays free for ever (generations are not reused).
    async fn delete(&self, key: &BlobKey) -> Result<bool, StoreError>;

    /// One page of the inventory in key order: at most `limit` copies after `after`.
    async fn list(&self, after: Option<&BlobKey>, limit: usize) -> Result<Vec<BlobStat>, StoreError>;

    /// Sets a bad copy aside: it is no longer found, and a few are kept for whoever investigates.
    async fn quarantine(&self, key: &BlobKey, reason: &str) -> Result<(), StoreError>;

    /// Room left.
    async fn space(&self) -> Result<Space, StoreError>;

    /// Says whether so many bytes could be written now. A store that remembers refusals counts a "no" as one.
    ///
    /// # Errors
    /// As [`BlobStore::space`].
    async fn has_room(&self, bytes: u64) -> Result<bool, StoreError> {
        Ok(self.space().await?.free_bytes >= bytes)
    }
}

/// Reads one blob, or the part of one that was written so far.
pub trait BlobReader: Send + Sync {
    /// Bytes that can be read now: the whole length of a committed blob; for one being written the whole chunks.
    fn readable_bytes(&self) -> u64;

    /// Streams `range`, which must lie within [`readable_bytes`](Self::readable_bytes), in slices of at most
    /// [`CHUNK_BYTES`]. Each was checked before it is handed out; one ends where a chunk does.
    ///
    /// The stream's errors are [`ReadError::Corrupt`] (the copy has been set aside: go elsewhere),
    /// [`ReadError::OutOfRange`] and [`ReadError::Io`].
    fn read(&self, range: Range<u64>) -> ByteStream;
}

/// A copy being written. Dropping it leaves nothing behind.
#[async_trait]
pub trait BlobWriter: Send {
    /// Adds the next bytes, hashing them on the way.
    ///
    /// # Errors
    /// [`WriteError::NoSpace`] or [`WriteError::Io`]: nothing more can be stored, and only
    /// [`into_verifier`](Self::into_verifier) and readers made before are of further use. That the disk hangs is such an
    /// error.
    async fn append(&mut self, batch: Vec<Bytes>) -> Result<(), WriteError>;

    /// Bytes stored so far.
    fn bytes_so_far(&self) -> u64;

    /// Reads what is written while it is being written. It works on after the writer is gone.
    fn partial(&self) -> Arc<dyn BlobReader>;

    /// Compares the bytes with the digest; only what passes can be committed.
    ///
    /// # Errors
    /// [`DigestMismatch`], after which nothing is kept.
    fn verify(self: Box<Self>) -> Result<Box<dyn VerifiedBlob>, DigestMismatch>;

    /// Gives up storing and hands over the hash of every byte given to `append`, those of a failed one included.
    fn into_verifier(self: Box<Self>) -> Verifier;
}

/// Bytes that are what their digest says and not yet committed. Dropping it leaves nothing behind.
#[async_trait]
pub trait VerifiedBlob: Send {
    /// Makes the bytes readable under their key, all at once.
    ///
    /// Returns after bytes, checksums and directory entries are on disk. Committing what is already there succeeds.
    /// Dropping the future lets a commit under way finish: the blob may be there or not, but never in part.
    ///
    /// # Errors
    /// [`WriteError::NoSpace`] or [`WriteError::Io`]: nothing is kept.
    async fn commit(self: Box<Self>) -> Result<BlobStat, WriteError>;
}
