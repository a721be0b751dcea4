//! A blob as a registry answers it: what is known of it, and a reader for its bytes.

use std::fmt;
use std::io;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use oci::{ByteRange, Digest};

use crate::notes::Notes;

/// Bytes of a blob in order. An error, or fewer bytes than announced, ends the connection visibly.
///
/// Chunks of 256 KiB to 1 MiB go out fastest; empty ones are skipped.
pub type BlobStream = BoxStream<'static, io::Result<Bytes>>;

/// A blob that is there or on its way.
pub struct BlobAnswer {
    /// Digest of the whole blob.
    pub digest: Digest,
    /// Length of the whole blob in bytes. Unknown lengths are sent chunked, and ranges of them as the whole.
    pub size: Option<u64>,
    /// Remarks for the client.
    pub notes: Notes,
    /// Where the bytes come from; not read for `head`.
    pub reader: Box<dyn BlobReader>,
}

impl fmt::Debug for BlobAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlobAnswer")
            .field("digest", &self.digest)
            .field("size", &self.size)
            .field("notes", &self.notes)
            .finish_non_exhaustive()
    }
}

/// The bytes of one blob answer, read at most once.
pub trait BlobReader: Send {
    /// Streams the whole blob, or the given part of it, which lies within the announced size.
    ///
    /// The server sends the response's head only with the stream's first item in hand. If that is an error it
    /// becomes the response: a [`RegistryError`](crate::RegistryError) inside the `io::Error` is answered as
    /// itself, otherwise the kind decides (`NotFound`, `PermissionDenied`, `TimedOut`, and 503 for the rest).
    ///
    /// The announced length must be exact: a stream that ends early must end in an error, and the last bytes
    /// of a blob must not be given out before its digest is known to be right.
    fn read(self: Box<Self>, range: Option<ByteRange>) -> BlobStream;
}

/// A blob that is whole in memory.
#[derive(Debug, Clone)]
pub struct InMemoryBlob(pub Bytes);

impl BlobReader for InMemoryBlob {
    fn read(self: Box<Self>, range: Option<ByteRange>) -> BlobStream {
        let part = range.map_or(Some(0..self.0.len()), |range| {
            let start = usize::try_from(range.start()).ok()?;
            let end = usize::try_from(range.end_exclusive()).ok()?;
            (start <= end && end <= self.0.len()).then_some(start..end)
        });
        let chunk = part
            .map(|part| self.0.slice(part))
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "range beyond the blob"));
        stream::iter([chunk]).boxed()
    }
}

/// The reader of an answer to `head`: there is nothing to read, and reading it is an error.
#[derive(Debug, Clone, Copy, Default)]
pub struct UnreadBlob;

impl BlobReader for UnreadBlob {
    fn read(self: Box<Self>, _range: Option<ByteRange>) -> BlobStream {
        stream::iter([Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "a HEAD answer has no bytes",
        ))])
        .boxed()
    }
}
