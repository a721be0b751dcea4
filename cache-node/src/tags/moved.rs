//! Remembers which moved tags' manifests hang at their source, so that only one pull waits for each.
//!
//! A source may say at once where a tag points and then not give the manifest. The first pull waits for it as long as a
//! cached tag is worth waiting for; an attempt in the background takes over, and while that lasts all others are served
//! what is cached at once.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use daemon::task::TaskSet;
use oci::{Digest, Repository};
use tokio::time::{Instant, timeout};

use crate::asked::Asked;
use crate::manifests::Manifests;

/// A pull that was let go sooner than this may have been given up by its client.
const HANGS_AFTER: Duration = Duration::from_secs(1);
/// Longest attempt in the background; a direct pull waits about as long.
const ATTEMPT_MAX: Duration = Duration::from_secs(30);
/// Attempts at once; beyond it each pull waits for itself.
const ATTEMPTS_MAX: usize = 256;

type Key = (Repository, Digest);

/// The manifests that hang. Clones share them.
#[derive(Clone)]
pub(super) struct Hanging {
    attempts: Arc<Mutex<HashSet<Key>>>,
    manifests: Arc<Manifests>,
    tasks: TaskSet,
}

/// A pull that waits for a manifest. Dropped before [`arrived`](Waiting::arrived), it leaves an attempt behind.
pub(super) struct Waiting {
    hanging: Hanging,
    key: Option<Key>,
    since: Instant,
}

impl Hanging {
    pub(super) fn new(manifests: Arc<Manifests>, tasks: TaskSet) -> Self {
        Self {
            attempts: Arc::default(),
            manifests,
            tasks,
        }
    }

    /// Whether an attempt is waiting for this manifest.
    pub(super) fn has(&self, repository: &Repository, digest: &Digest) -> bool {
        self.lock().contains(&(repository.clone(), digest.clone()))
    }

    /// Begins to wait for a manifest.
    pub(super) fn wait_for(&self, repository: &Repository, digest: &Digest) -> Waiting {
        Waiting {
            hanging: self.clone(),
            key: Some((repository.clone(), digest.clone())),
            since: Instant::now(),
        }
    }

    fn attempt(&self, key: Key) {
        let mut attempts = self.lock();
        if attempts.len() >= ATTEMPTS_MAX || !attempts.insert(key.clone()) {
            return;
        }
        drop(attempts);
        let attempt = Attempt {
            hanging: self.clone(),
            key,
        };
        self.tasks.spawn("moved manifest", async move {
            let (repository, digest) = &attempt.key;
            let fetch = attempt
                .hanging
                .manifests
                .by_digest(repository, digest, Asked::by_this_node());
            // What came of it is seen by the next pull.
            timeout(ATTEMPT_MAX, fetch).await.ok();
        });
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<Key>> {
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An attempt in the background, over however it ends: pulls are served what is cached as long as it lasts.
struct Attempt {
    hanging: Hanging,
    key: Key,
}

impl Drop for Attempt {
    fn drop(&mut self) {
        self.hanging.lock().remove(&self.key);
    }
}

impl Waiting {
    /// The source answered, whatever it said.
    pub(super) fn arrived(mut self) {
        self.key = None;
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(key) = self.key.take()
            && self.since.elapsed() >= HANGS_AFTER
        {
            self.hanging.attempt(key);
        }
    }
}
