//! Which repository was seen to own which blob, remembered until the state says so.

use std::num::NonZeroUsize;
use std::sync::{Mutex, MutexGuard, PoisonError};

use lru::LruCache;
use oci::{Digest, Manifest, RawManifest, Repository};

/// Proofs remembered. A manifest names some 10 blobs; one that is forgotten costs its source a question.
const PROOFS_MAX: NonZeroUsize = NonZeroUsize::new(16_384).expect("not zero");

/// What repositories were seen to own.
pub(super) struct Proofs(Mutex<LruCache<(Repository, Digest), ()>>);

impl Proofs {
    /// Remembers that `repository` owns the blobs a manifest names that it gave out.
    pub(super) fn of_manifest(&self, repository: &Repository, raw: &RawManifest) {
        let Ok(manifest @ Manifest::Image(_)) = raw.parse() else {
            return;
        };
        let mut proofs = self.lock();
        for blob in manifest.blobs() {
            proofs.put((repository.clone(), blob.digest.clone()), ());
        }
    }

    /// Remembers that `repository` owns a blob.
    pub(super) fn note(&self, repository: &Repository, digest: &Digest) {
        self.lock().put((repository.clone(), digest.clone()), ());
    }

    /// Whether `repository` was seen to own a blob.
    pub(super) fn has(&self, repository: &Repository, digest: &Digest) -> bool {
        self.lock().get(&(repository.clone(), digest.clone())).is_some()
    }

    fn lock(&self) -> MutexGuard<'_, LruCache<(Repository, Digest), ()>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Proofs {
    fn default() -> Self {
        Self(Mutex::new(LruCache::new(PROOFS_MAX)))
    }
}
