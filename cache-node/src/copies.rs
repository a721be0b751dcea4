//! Compares what should be on this disk with what is: fetches missing copies from other nodes, counts them, and proposes
//! blobs that are here and that the cluster does not know of.
//!
//! It goes over everything again and again, a page at a time, so that whatever a crash, a lost proposal or a node that was
//! away left undone is done in the end.

use std::sync::Arc;
use std::time::Duration;

use daemon::runtime::one_line;
use daemon::task::TaskSet;
use meta::{Command, CommitBlob, ReadError, view};
use oci::{Digest, Repository};
use proto::report::{BlobCount, CopyCount};
use raft::MetaHandle;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::backoff::Backoff;
use crate::blob_store::{BlobKey, BlobStore, StoreError};
use crate::blobs::Blobs;
use crate::provenance::Provenance;
use crate::recorder::Recorder;
use crate::tier::Tier;

/// How often a page is looked at.
const TICK: Duration = Duration::from_secs(1);
/// Records looked at in one tick.
const PAGE: usize = 2000;
/// Fills in flight at which no further copies are begun: what clients wait for goes first.
const BUSY_FILLS: usize = 16;
/// A copy that could not be made is tried again after this long, and then less and less often: a disk that is full or a
/// blob that no living node has stays so for a while.
const TRY_AGAIN_AFTER: Duration = Duration::from_secs(5);
const TRY_AGAIN_AFTER_MAX: Duration = Duration::from_secs(300);
/// Missing copies whose tries are remembered.
const TRIES_MAX: usize = 100_000;
/// The host that no source registry has.
pub const RESERVED_HOST: &str = "kuik.local";
/// Where copies between nodes are accounted.
const COPIES: (&str, &str) = (RESERVED_HOST, "copies");

/// What the worker needs.
pub struct CopyParts {
    /// The replicated state.
    pub ledger: MetaHandle,
    /// Who should hold what.
    pub tier: Arc<Tier>,
    /// Fetches copies.
    pub blobs: Arc<Blobs>,
    /// What is on the disk.
    pub store: Arc<dyn BlobStore>,
    /// Whence it came.
    pub provenance: Arc<Provenance>,
    /// Takes proposals.
    pub recorder: Recorder,
}

/// What the last whole round found.
#[derive(Debug, Clone, Copy, Default)]
pub struct Inventory {
    /// Copies that should be here.
    pub copies: CopyCount,
    /// Blobs that are.
    pub blobs: BlobCount,
}

/// Starts the worker in `tasks`; what each round finds is published.
pub fn start(parts: CopyParts, tasks: &TaskSet) -> watch::Receiver<Inventory> {
    let (tx, rx) = watch::channel(Inventory::default());
    let stop = tasks.stop_token();
    let worker = Worker {
        parts,
        wanted: None,
        held: None,
        round: Inventory::default(),
        tries: Backoff::new(TRY_AGAIN_AFTER, TRY_AGAIN_AFTER_MAX, TRIES_MAX),
        published: tx,
    };
    tasks.spawn_critical("copies", async move {
        stop.run_until_cancelled_owned(worker.run()).await;
    });
    rx
}

struct Worker {
    parts: CopyParts,
    wanted: Option<Digest>,
    held: Option<BlobKey>,
    round: Inventory,
    tries: Backoff<Digest>,
    published: watch::Sender<Inventory>,
}

#[derive(Debug, thiserror::Error)]
enum SweepError {
    #[error("compare the disk with the state")]
    State(#[from] ReadError),
    #[error("compare the disk with the state")]
    Disk(#[from] StoreError),
}

impl Worker {
    async fn run(mut self) {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let swept = async {
                self.sweep_wanted().await?;
                self.sweep_held().await
            };
            if let Err(error) = swept.await {
                tracing::warn!(error = one_line(&error), "a sweep over the disk was cut short");
            }
        }
    }

    async fn sweep_wanted(&mut self) -> Result<(), SweepError> {
        let page = view::list_blobs(&self.parts.ledger.local(), self.wanted.as_ref(), PAGE)?;
        let is_last = page.len() < PAGE;
        self.wanted = page.last().map(|(digest, _)| digest.clone()).filter(|_| !is_last);
        for (digest, record) in page {
            if record.present().is_none() || !self.parts.tier.is_holder(digest.as_str()) {
                continue;
            }
            self.round.copies.expected += 1;
            if self.parts.blobs.find(&digest).await.is_none() {
                self.round.copies.missing += 1;
                self.copy(&digest, record.size).await;
            } else {
                self.tries.forget(&digest);
            }
        }
        if is_last {
            let copies = std::mem::take(&mut self.round.copies);
            self.published.send_modify(|inventory| inventory.copies = copies);
        }
        Ok(())
    }

    async fn copy(&mut self, digest: &Digest, size_bytes: u64) {
        if self.parts.blobs.fills().len() < BUSY_FILLS
            && let Some(repository) = copies_repository()
            && self.tries.try_now(digest, Instant::now())
        {
            self.parts.blobs.copy_if_missing(&repository, digest, size_bytes).await;
        }
    }

    async fn sweep_held(&mut self) -> Result<(), SweepError> {
        let page = self.parts.store.list(self.held.as_ref(), PAGE).await?;
        let is_last = page.len() < PAGE;
        self.held = page.last().map(|stat| stat.key.clone()).filter(|_| !is_last);
        let state = self.parts.ledger.local();
        for stat in page {
            self.round.blobs.count += 1;
            self.round.blobs.bytes += stat.size_bytes;
            let digest = &stat.key.digest;
            let known = view::blob(&state, digest)?.is_some_and(|blob| blob.present().is_some());
            if known {
                continue;
            }
            let origin = self.parts.provenance.of(digest);
            if let Some(repository) = origin.and_then(|origin| origin.repository.parse().ok()) {
                self.parts.recorder.record(Command::CommitBlob(CommitBlob {
                    digest: digest.clone(),
                    size: stat.size_bytes,
                    generation: stat.key.generation,
                    repository,
                }));
            }
        }
        if is_last {
            let blobs = std::mem::take(&mut self.round.blobs);
            self.published.send_modify(|inventory| inventory.blobs = blobs);
        }
        Ok(())
    }
}

fn copies_repository() -> Option<Repository> {
    Some(Repository::new(COPIES.0.parse().ok()?, COPIES.1.parse().ok()?))
}
