//! The bytes of a blob, as the registry port wants them: from the disk, or from a fill.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use daemon::runtime::one_line;
use distribution::{BlobReader, BlobStream};
use futures::{StreamExt, TryStreamExt, stream};
use oci::{ByteRange, Digest, Repository};

use super::Blobs;
use crate::blob_store;
use crate::fill::{FillError, FillReader, SourceError};
use crate::pull_error::{PullError, Wanted};

/// A blob on this node's disk. Where the disk fails, its bytes come from wherever else they are.
pub(super) struct StoredAnswer {
    reader: Box<dyn blob_store::BlobReader>,
    size_bytes: u64,
    elsewhere: Elsewhere,
}

/// How to get a blob that this disk turns out not to have.
pub(super) struct Elsewhere {
    pub(super) blobs: Arc<Blobs>,
    pub(super) repository: Repository,
    pub(super) digest: Digest,
}

/// The rest of a [`StoredAnswer`].
struct Reading {
    from: BlobStream,
    left: Range<u64>,
    /// Absent once it has been used.
    elsewhere: Option<Elsewhere>,
}

/// A blob on its way.
pub(super) struct FillAnswer {
    fill: FillReader,
}

impl StoredAnswer {
    pub(super) fn new(reader: Box<dyn blob_store::BlobReader>, size_bytes: u64, elsewhere: Elsewhere) -> Self {
        Self {
            reader,
            size_bytes,
            elsewhere,
        }
    }
}

impl BlobReader for StoredAnswer {
    fn read(self: Box<Self>, range: Option<ByteRange>) -> BlobStream {
        let part = range.map_or(0..self.size_bytes, |range| range.start()..range.end_exclusive());
        let reading = Reading {
            from: self.reader.read(part.clone()).map_err(io::Error::from).boxed(),
            left: part,
            elsewhere: Some(self.elsewhere),
        };
        stream::try_unfold(reading, Reading::next).boxed()
    }
}

impl Reading {
    async fn next(mut self) -> io::Result<Option<(Bytes, Self)>> {
        loop {
            let error = match self.from.next().await {
                Some(Ok(bytes)) => {
                    self.left.start += bytes.len() as u64;
                    return Ok(Some((bytes, self)));
                }
                None => return Ok(None),
                Some(Err(error)) => error,
            };
            let Some(elsewhere) = self.elsewhere.take() else {
                return Err(error);
            };
            tracing::warn!(digest = %elsewhere.digest, error = one_line(&error), "a blob on this disk is read elsewhere");
            self.from = elsewhere.read(self.left.clone())?;
        }
    }
}

impl Elsewhere {
    fn read(self, part: Range<u64>) -> io::Result<BlobStream> {
        let fill = self.blobs.attach_to_copies(&self.repository, &self.digest);
        let fill = fill.map_err(|error| io::Error::other(error.answer(Wanted::Blob)))?;
        Ok(part_of(fill, part.start, Some(part.end)))
    }
}

impl FillAnswer {
    pub(super) fn new(fill: FillReader) -> Self {
        Self { fill }
    }
}

impl BlobReader for FillAnswer {
    fn read(self: Box<Self>, range: Option<ByteRange>) -> BlobStream {
        let (start, end) = range.map_or((0, None), |range| (range.start(), Some(range.end_exclusive())));
        part_of(self.fill, start, end)
    }
}

fn part_of(fill: FillReader, start: u64, end: Option<u64>) -> BlobStream {
    let as_port = |error: FillError| io::Error::other(pull_error(error).answer(Wanted::Blob));
    fill.read(start, end).map_err(as_port).boxed()
}

/// What a fill that failed means for the pull.
pub(super) fn pull_error(error: FillError) -> PullError {
    let why = one_line(&error);
    match error {
        FillError::Source {
            error: SourceError::NotFound,
            ..
        } => PullError::NotFound,
        FillError::Source {
            error: SourceError::Denied { .. },
            ..
        } => PullError::Denied(why),
        FillError::Source {
            error: SourceError::Unavailable { after, .. },
            ..
        } => PullError::Unavailable { why, after },
        FillError::Source {
            error: SourceError::NoProgress(_) | SourceError::Dead,
            ..
        } => PullError::Timeout(why),
        _ => PullError::unavailable(why),
    }
}
