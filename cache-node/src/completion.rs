//! Makes images whole: fetches, in the background, every blob of what someone asked for, and says so when it is done.
//!
//! Runtimes skip layers they have, so what clients read alone never completes an image. The owner of a manifest's digest
//! asks the owner of each blob to keep it, waits until the state says that all are present, and proposes that the
//! manifest is Complete; then tags whose candidate became whole are promoted. Everything is found again by a sweep over
//! the tags, so what this process forgets is not lost.

mod plan;
mod worker;

use std::sync::Arc;

use daemon::task::TaskSet;
use oci::{Digest, Repository, Tag};
use raft::MetaHandle;
use tokio::sync::mpsc;

use crate::blobs::Blobs;
use crate::control::Control;
use crate::tier::Tier;

/// Offers waiting. One pull makes a few; what does not fit is found by the sweep.
const OFFERS_MAX: usize = 4096;

/// Takes note of what is to be made whole. Clones share one worker.
#[derive(Clone)]
pub struct Completion {
    offers: mpsc::Sender<Offer>,
}

/// The worker's end of a [`Completion`], until it is started.
pub struct CompletionQueue {
    offers: mpsc::Receiver<Offer>,
}

/// What the worker needs.
pub struct CompletionParts {
    /// The replicated state.
    pub ledger: MetaHandle,
    /// Who owns what.
    pub tier: Arc<Tier>,
    /// Blobs this node fetches itself.
    pub blobs: Arc<Blobs>,
    /// Asks other nodes to fetch theirs.
    pub control: Control,
}

#[derive(Debug, Clone)]
enum Offer {
    Manifest {
        repository: Repository,
        digest: Digest,
    },
    Tag {
        repository: Repository,
        tag: Tag,
        candidate: Digest,
    },
}

impl Completion {
    /// Makes the queue; [`CompletionQueue::start`] starts working it off.
    pub fn new() -> (Self, CompletionQueue) {
        let (tx, rx) = mpsc::channel(OFFERS_MAX);
        (Self { offers: tx }, CompletionQueue { offers: rx })
    }

    /// Notes that someone was given a manifest of `repository`.
    pub fn offer(&self, repository: &Repository, digest: &Digest) {
        self.send(Offer::Manifest {
            repository: repository.clone(),
            digest: digest.clone(),
        });
    }

    /// Notes that a tag is to serve `candidate` once that is whole.
    pub fn promote_when_whole(&self, repository: &Repository, tag: &Tag, candidate: &Digest) {
        self.send(Offer::Tag {
            repository: repository.clone(),
            tag: tag.clone(),
            candidate: candidate.clone(),
        });
    }

    fn send(&self, offer: Offer) {
        if self.offers.try_send(offer).is_err() {
            tracing::debug!("offer to complete an image is left to the sweep");
        }
    }
}

impl CompletionQueue {
    /// Starts the worker in `tasks`.
    pub fn start(self, parts: CompletionParts, tasks: &TaskSet) {
        let worker = worker::Worker::new(parts, tasks.stop_token());
        tasks.spawn_critical("completion", worker.run(self.offers));
    }
}
