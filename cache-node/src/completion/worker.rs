//! The loop that works off what is to be made whole.

use daemon::runtime::one_line;
use std::collections::HashMap;
use std::time::Duration;

use meta::view::ImageCursor;
use meta::{Command, CompleteManifest, Outcome, PromoteTag, ReadError, view};
use oci::{Digest, Repository, Tag};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;

use super::plan::{MissingBlob, Next, next};
use super::{CompletionParts, Offer};
use crate::backoff::Backoff;
use crate::tier::Seat;
use crate::whole;

/// Images being made whole at once; more are found by the sweep later.
const OPEN_MAX: usize = 10_000;
/// How long an image stays open without becoming whole. The sweep or the next pull opens it again.
const OPEN_FOR: Duration = Duration::from_secs(3600);
/// How long after asking for a blob it is asked for again, at first and at most: one that its source does not have is
/// asked for less and less often.
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(10);
const ASK_AGAIN_AFTER_MAX: Duration = Duration::from_secs(120);
/// Blobs of one image whose asking is remembered: more than an image has.
const ASKED_MAX: usize = 4096;
/// Changes of the state are looked at together when they come within this time.
const SETTLE: Duration = Duration::from_millis(50);
/// How often everything is looked at again, and the sweep goes on.
const TICK: Duration = Duration::from_secs(1);
/// Tags the sweep looks at in one tick.
const SWEEP_PAGE: usize = 500;
/// Indexes that may name one child; the rest are found by the sweep.
const PARENTS_MAX: usize = 64;

pub(super) struct Worker {
    parts: CompletionParts,
    stop: CancellationToken,
    images: HashMap<Digest, OpenImage>,
    tags: HashMap<(Repository, Tag), OpenTag>,
    cursor: Option<ImageCursor>,
}

struct OpenImage {
    repository: Repository,
    since: Instant,
    asked: Backoff<Digest>,
}

struct OpenTag {
    candidate: Digest,
    since: Instant,
}

impl Worker {
    pub(super) fn new(parts: CompletionParts, stop: CancellationToken) -> Self {
        Self {
            parts,
            stop,
            images: HashMap::new(),
            tags: HashMap::new(),
            cursor: None,
        }
    }

    pub(super) async fn run(mut self, mut offers: mpsc::Receiver<Offer>) {
        let mut applied = self.parts.ledger.applied();
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = self.stop.cancelled() => return,
                offer = offers.recv() => match offer {
                    Some(offer) => self.open(offer),
                    None => return,
                },
                changed = applied.changed() => if changed.is_err() { return },
                _ = ticks.tick() => self.sweep(),
            }
            sleep(SETTLE).await;
            while let Ok(offer) = offers.try_recv() {
                self.open(offer);
            }
            applied.borrow_and_update();
            self.work().await;
        }
    }

    fn open(&mut self, offer: Offer) {
        let since = Instant::now();
        match offer {
            Offer::Manifest { repository, digest } if self.images.len() < OPEN_MAX => {
                let asked = Backoff::new(ASK_AGAIN_AFTER, ASK_AGAIN_AFTER_MAX, ASKED_MAX);
                let open = self.images.entry(digest).or_insert_with(|| OpenImage {
                    repository: repository.clone(),
                    since,
                    asked,
                });
                // Whoever was given the manifest last may have credentials that the one before lacked.
                open.repository = repository;
            }
            Offer::Tag {
                repository,
                tag,
                candidate,
            } if self.tags.len() < OPEN_MAX => {
                self.tags.insert((repository, tag), OpenTag { candidate, since });
            }
            Offer::Manifest { .. } | Offer::Tag { .. } => {}
        }
    }

    fn sweep(&mut self) {
        if let Err(error) = self.sweep_page() {
            tracing::error!(error = one_line(&error), "the state cannot be read");
        }
    }

    fn sweep_page(&mut self) -> Result<(), ReadError> {
        let state = self.parts.ledger.local();
        let page = view::list_images(&state, self.cursor.as_ref(), SWEEP_PAGE)?;
        self.cursor = (page.len() == SWEEP_PAGE)
            .then(|| page.last().map(|image| image.cursor.clone()))
            .flatten();
        for image in page {
            let Some(digest) = image.record.candidate.as_ref().or(image.record.serving.as_ref()) else {
                continue;
            };
            if self.parts.tier.owner(digest.as_str()) != Seat::Own {
                continue;
            }
            if let Some(candidate) = &image.record.candidate {
                let (repository, tag) = (image.repository.clone(), image.tag.clone());
                self.open(Offer::Tag {
                    repository,
                    tag,
                    candidate: candidate.clone(),
                });
            }
            if !whole::is_whole(&state, digest)? {
                self.open_with_children(&state, &image.repository, digest)?;
            }
        }
        Ok(())
    }

    fn open_with_children(
        &mut self,
        state: &impl meta::Read,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<(), ReadError> {
        let children = match view::manifest(state, digest)? {
            Some(record) => whole::wanted_children(state, &record)?,
            None => Vec::new(),
        };
        for digest in children.into_iter().chain([digest.clone()]) {
            self.open(Offer::Manifest {
                repository: repository.clone(),
                digest,
            });
        }
        Ok(())
    }

    async fn work(&mut self) {
        let now = Instant::now();
        self.images
            .retain(|_, image| now.duration_since(image.since) < OPEN_FOR);
        self.tags.retain(|_, tag| now.duration_since(tag.since) < OPEN_FOR);
        let open: Vec<Digest> = self.images.keys().cloned().collect();
        for digest in open {
            if let Err(error) = self.step(&digest).await {
                tracing::error!(digest = %digest, error = one_line(&error), "the state cannot be read");
            }
        }
        let open: Vec<(Repository, Tag)> = self.tags.keys().cloned().collect();
        for key in open {
            if let Err(error) = self.promote(&key).await {
                tracing::error!(repository = %key.0, tag = %key.1, error = one_line(&error), "the state cannot be read");
            }
        }
    }

    async fn step(&mut self, digest: &Digest) -> Result<(), ReadError> {
        let step = next(&self.parts.ledger.local(), digest)?;
        match step {
            Next::AwaitManifest | Next::AwaitChildren(_) => {}
            Next::Fetch(blobs) => self.fetch(digest, blobs).await,
            Next::Complete(children) => self.complete(digest, children).await?,
            Next::Done => {
                self.images.remove(digest);
            }
        }
        Ok(())
    }

    async fn fetch(&mut self, image: &Digest, blobs: Vec<MissingBlob>) {
        let Some(open) = self.images.get_mut(image) else { return };
        let now = Instant::now();
        let mut by_owner: HashMap<Seat, Vec<(Digest, Option<u64>)>> = HashMap::new();
        for blob in blobs {
            if !open.asked.try_now(&blob.digest, now) {
                continue;
            }
            let owner = self.parts.tier.owner(blob.digest.as_str());
            by_owner
                .entry(owner)
                .or_default()
                .push((blob.digest, Some(blob.size_bytes)));
        }
        let repository = open.repository.clone();
        for (seat, blobs) in by_owner {
            self.ask(seat, &repository, blobs).await;
        }
    }

    async fn ask(&self, seat: Seat, repository: &Repository, blobs: Vec<(Digest, Option<u64>)>) {
        let unreached = match seat {
            Seat::Peer(owner) => match self.parts.control.keep(owner, repository, &blobs).await {
                Ok(_) => return,
                Err(error) => {
                    tracing::debug!(
                        peer = owner,
                        error = one_line(&error),
                        "peer was not asked to keep blobs"
                    );
                    blobs
                }
            },
            Seat::Own => blobs,
        };
        for (digest, size_bytes) in unreached {
            self.parts.blobs.keep(repository, &digest, size_bytes);
        }
    }

    async fn complete(&mut self, digest: &Digest, children: Vec<Digest>) -> Result<(), ReadError> {
        let command = CompleteManifest {
            digest: digest.clone(),
            children: children.clone(),
        };
        if !self.propose(Command::CompleteManifest(command)).await {
            return Ok(());
        }
        if children.is_empty() {
            let parents = view::list_parents(&self.parts.ledger.local(), digest, PARENTS_MAX)?;
            for parent in parents {
                let command = CompleteManifest {
                    digest: parent,
                    children: vec![digest.clone()],
                };
                self.propose(Command::CompleteManifest(command)).await;
            }
        }
        Ok(())
    }

    async fn promote(&mut self, key: &(Repository, Tag)) -> Result<(), ReadError> {
        let Some(open) = self.tags.get(key) else { return Ok(()) };
        let candidate = open.candidate.clone();
        let state = self.parts.ledger.local();
        let Some(id) = view::repository_id(&state, &key.0)? else {
            return Ok(());
        };
        let Some(record) = view::tag(&state, id, &key.1)? else {
            return Ok(());
        };
        if record.candidate.as_ref() != Some(&candidate) {
            if record.serving.as_ref() == Some(&candidate) {
                self.tags.remove(key);
            }
            return Ok(());
        }
        if !whole::is_whole(&state, &candidate)? {
            return Ok(());
        }
        let children = match view::manifest(&state, &candidate)? {
            Some(record) => whole::wanted_children(&state, &record)?,
            None => return Ok(()),
        };
        let promote = PromoteTag {
            repository: key.0.clone(),
            tag: key.1.clone(),
            candidate,
            children,
        };
        if self.propose(Command::PromoteTag(promote)).await {
            tracing::info!(repository = %key.0, tag = %key.1, "tag serves a new image");
            self.tags.remove(key);
        }
        Ok(())
    }

    async fn propose(&self, command: Command) -> bool {
        let name = command.name();
        match self.parts.ledger.write(command).await {
            Ok(Outcome::Rejected(reason)) => {
                tracing::debug!(command = name, reason = %reason, "proposal was rejected");
                false
            }
            Ok(_) => true,
            Err(error) => {
                tracing::debug!(command = name, error = one_line(&error), "proposal failed");
                false
            }
        }
    }
}
