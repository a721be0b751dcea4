//! What happens when a blob has been stored: where it came from is noted, and the cluster is told.

use std::sync::Arc;

use async_trait::async_trait;
use meta::{Command, CommitBlob};

use crate::blobs::UPSTREAM;
use crate::fill::{CommittedSink, Filled};
use crate::provenance::Provenance;
use crate::recorder::Recorder;

/// Takes in stored blobs.
pub(crate) struct StoredBlobs {
    recorder: Recorder,
    provenance: Arc<Provenance>,
}

impl StoredBlobs {
    /// Tells `recorder` and `provenance`.
    pub(crate) fn new(recorder: Recorder, provenance: Arc<Provenance>) -> Self {
        Self { recorder, provenance }
    }
}

#[async_trait]
impl CommittedSink for StoredBlobs {
    async fn committed(&self, filled: Filled) {
        let digest = &filled.blob.key.digest;
        self.provenance.note(digest, &filled.source, &filled.origin);
        tracing::debug!(digest = %digest, source = filled.source, size_bytes = filled.blob.size_bytes, "blob stored");
        if filled.source != UPSTREAM {
            // Whoever fetched it proposes it; should that be lost, the sweep over the disk does.
            return;
        }
        let Ok(repository) = filled.origin.parse() else {
            return;
        };
        self.recorder.record(Command::CommitBlob(CommitBlob {
            digest: digest.clone(),
            size: filled.blob.size_bytes,
            generation: filled.blob.key.generation,
            repository,
        }));
    }
}
