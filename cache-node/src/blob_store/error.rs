//! What can go wrong in a blob store, by what the caller can do about it.

use std::io;
use std::path::{Path, PathBuf};

use oci::UnsupportedAlgorithm;

use super::BlobKey;

/// Looking at, listing or removing blobs failed; the store is not well.
#[derive(Debug, thiserror::Error)]
#[error("{action} {}", path.display())]
pub struct StoreError {
    action: &'static str,
    path: PathBuf,
    source: io::Error,
}

impl StoreError {
    pub(super) fn new(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self {
            action,
            path: path.to_owned(),
            source,
        }
    }

    /// What the system said.
    pub fn kind(&self) -> io::ErrorKind {
        self.source.kind()
    }
}

/// A blob could not be read here. Every variant means: read it elsewhere, from the bytes in hand.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// No such copy is committed here.
    #[error("blob {0} is not here")]
    NotFound(BlobKey),
    /// The stored bytes are not what was stored. The copy has been set aside; fetch it again.
    #[error("blob {key} is corrupt: {reason}")]
    Corrupt {
        /// The copy.
        key: BlobKey,
        /// Which check failed.
        reason: String,
    },
    /// The range ends after the last readable byte.
    #[error("range of blob {key} ends beyond {readable_bytes} bytes")]
    OutOfRange {
        /// The copy.
        key: BlobKey,
        /// What there was to read.
        readable_bytes: u64,
    },
    /// As many blobs as allowed are open already.
    #[error("too many open blobs")]
    Busy,
    /// The system refused. Whether the copy is good is not known.
    #[error("read blob {key}")]
    Io {
        /// The copy.
        key: BlobKey,
        /// What the system said.
        source: io::Error,
    },
}

impl From<ReadError> for io::Error {
    fn from(error: ReadError) -> Self {
        let kind = match &error {
            ReadError::NotFound(_) => io::ErrorKind::NotFound,
            ReadError::Corrupt { .. } => io::ErrorKind::InvalidData,
            ReadError::OutOfRange { .. } => io::ErrorKind::InvalidInput,
            ReadError::Busy => io::ErrorKind::ResourceBusy,
            ReadError::Io { source, .. } => source.kind(),
        };
        Self::new(kind, error)
    }
}

/// A blob could not be stored here. Nothing of it is kept.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The volume or the quota is full.
    #[error("no space for blob in {} ({free_bytes} bytes free)", path.display())]
    NoSpace {
        /// Where it was to go.
        path: PathBuf,
        /// What was left when it was noticed; a reserve for the metadata is not counted as free.
        free_bytes: u64,
    },
    /// What cannot be verified is not stored.
    #[error("store blob")]
    Unsupported(#[from] UnsupportedAlgorithm),
    /// As many blobs as allowed are open already.
    #[error("too many open blobs")]
    Busy,
    /// The system refused.
    #[error("{action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}
