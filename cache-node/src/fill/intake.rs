//! Where a fill's bytes go: into the store, or nowhere but through the hash once the store is full.

use bytes::Bytes;
use oci::Verifier;
use tokio::task::spawn_blocking;

use super::error::FillError;
use crate::blob_store::{BlobWriter, VerifiedBlob, WriteError};

/// Takes all bytes in order and knows at the end whether they are the blob.
pub(super) enum Intake {
    Storing(Box<dyn BlobWriter>),
    Hashing(Box<Verifier>),
    /// The runtime is ending; nothing can be verified any more.
    Ended,
}

/// What became of a batch.
pub(super) enum Taken {
    Stored,
    Hashed,
    /// From here on bytes are only hashed.
    StoppedStoring(WriteError),
    Ended,
}

impl Intake {
    pub(super) async fn append(&mut self, batch: Vec<Bytes>) -> Taken {
        match std::mem::replace(self, Self::Ended) {
            Self::Storing(mut writer) => match writer.append(batch).await {
                Ok(()) => {
                    *self = Self::Storing(writer);
                    Taken::Stored
                }
                Err(error) => {
                    *self = Self::Hashing(Box::new(writer.into_verifier()));
                    Taken::StoppedStoring(error)
                }
            },
            Self::Hashing(verifier) => match spawn_blocking(move || hash(verifier, &batch)).await {
                Ok(verifier) => {
                    *self = Self::Hashing(verifier);
                    Taken::Hashed
                }
                Err(_) => Taken::Ended,
            },
            Self::Ended => Taken::Ended,
        }
    }

    /// Compares everything with the digest, and gives what can be committed if there is such.
    ///
    /// # Errors
    /// [`FillError::Corrupt`], or [`FillError::Stopped`] where bytes escaped the hash.
    pub(super) fn verify(self) -> Result<Option<Box<dyn VerifiedBlob>>, FillError> {
        match self {
            Self::Storing(writer) => writer.verify().map(Some).map_err(FillError::Corrupt),
            Self::Hashing(verifier) => verifier.finish().map(|()| None).map_err(FillError::Corrupt),
            Self::Ended => Err(FillError::Stopped),
        }
    }
}

fn hash(mut verifier: Box<Verifier>, batch: &[Bytes]) -> Box<Verifier> {
    for bytes in batch {
        verifier.update(bytes);
    }
    verifier
}
