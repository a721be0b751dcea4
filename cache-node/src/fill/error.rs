//! Why a fill's reader gets no more bytes.

use std::io;
use std::sync::Arc;

use oci::{DigestMismatch, UnsupportedAlgorithm};

use super::source::SourceError;
use crate::blob_store::ReadError;

/// A fill ended short for this reader. What it read before is right as far as it goes, except after
/// [`FillError::Corrupt`].
#[derive(Clone, Debug, thiserror::Error)]
pub enum FillError {
    /// No source is left; this is what the last of the reader's own plan said.
    #[error("fetch blob from {label}")]
    Source {
        /// The source.
        label: String,
        /// What it said.
        #[source]
        error: SourceError,
    },
    /// The plan had no source at all.
    #[error("no source for the blob")]
    NoSource,
    /// The sources' bytes are not the blob. Nothing was kept.
    #[error("fetch blob")]
    Corrupt(#[source] DigestMismatch),
    /// What cannot be verified is not passed on.
    #[error("fetch blob")]
    Unsupported(#[source] UnsupportedAlgorithm),
    /// The node cannot store the blob just now and this reader was too slow to be served without. Read elsewhere.
    #[error("the blob is not kept here and the reader fell behind")]
    Lagged,
    /// The bytes stored so far cannot be read back. Read elsewhere.
    #[error("read the blob while it is being stored")]
    Read(#[source] Arc<ReadError>),
    /// The range starts after the blob's end.
    #[error("the blob ends at {size_bytes} bytes")]
    OutOfRange {
        /// Its length.
        size_bytes: u64,
    },
    /// As many fills as allowed are in flight. Read elsewhere.
    #[error("too many fills")]
    Busy,
    /// The process is ending, or the fill hit a bug. Read elsewhere.
    #[error("the fill was stopped")]
    Stopped,
}

impl FillError {
    /// Whether a source said that there is no such blob.
    pub fn is_not_found(&self) -> bool {
        let not_found = SourceError::NotFound;
        matches!(self, Self::Source { error, .. } if *error == not_found)
    }
}

impl From<FillError> for io::Error {
    fn from(error: FillError) -> Self {
        let kind = match &error {
            FillError::Source { error, .. } => match error {
                SourceError::NotFound => io::ErrorKind::NotFound,
                SourceError::Denied { .. } => io::ErrorKind::PermissionDenied,
                SourceError::NoProgress(_) => io::ErrorKind::TimedOut,
                SourceError::Corrupt { .. } => io::ErrorKind::InvalidData,
                SourceError::Unavailable { .. } | SourceError::Dead => io::ErrorKind::ConnectionAborted,
            },
            FillError::Corrupt(_) => io::ErrorKind::InvalidData,
            FillError::OutOfRange { .. } => io::ErrorKind::InvalidInput,
            FillError::Unsupported(_) => io::ErrorKind::Unsupported,
            FillError::NoSource | FillError::Lagged | FillError::Read(_) | FillError::Busy | FillError::Stopped => {
                io::ErrorKind::ConnectionAborted
            }
        };
        Self::new(kind, error)
    }
}
