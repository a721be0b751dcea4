//! The bytes of a blob, as the registry port wants them: from the disk, or from a fill.

use bytes::Bytes;
use daemon::runtime::one_line;
use distribution::{BlobReader, BlobStream};
use futures::{StreamExt, TryStreamExt};
use oci::ByteRange;

use crate::blob_store;
use crate::fill::{FillError, FillReader, SourceError};
use crate::pull_error::{PullError, Wanted};

/// A blob on this node's disk.
pub(super) struct StoredAnswer {
    reader: Box<dyn blob_store::BlobReader>,
    size_bytes: u64,
}

/// A blob on its way.
pub(super) struct FillAnswer {
    fill: FillReader,
}

impl StoredAnswer {
    pub(super) fn new(reader: Box<dyn blob_store::BlobReader>, size_bytes: u64) -> Self {
        Self { reader, size_bytes }
    }
}

impl BlobReader for StoredAnswer {
    fn read(self: Box<Self>, range: Option<ByteRange>) -> BlobStream {
        let part = range.map_or(0..self.size_bytes, |range| range.start()..range.end_exclusive());
        self.reader.read(part).map_err(std::io::Error::from).boxed()
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
        let as_port = |error: FillError| std::io::Error::other(pull_error(error).answer(Wanted::Blob));
        self.fill
            .read(start, end)
            .map_err(as_port)
            .map_ok(|bytes: Bytes| bytes)
            .boxed()
    }
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
