//! How many nodes really hold each blob of the desired images: every living node is asked to look.
//!
//! A blob that every node of the tier was asked for and none has, twice in a row, is reported lost, and completion
//! fetches it again.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use daemon::runtime::one_line;
use futures::future::join_all;
use meta::{Command, Gen, MarkLost};
use oci::Digest;
use tokio::time::Instant;

use crate::blobs::Blobs;
use crate::control::Control;
use crate::recorder::Recorder;
use crate::tier::Tier;

/// Blobs asked about at once.
const BATCH_MAX: usize = 2048;
/// How long a count serves, where it is as it should be.
const SERVES_FOR: Duration = Duration::from_secs(15);
/// How soon it is asked again where copies are missing.
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(1);
/// A count that could not be renewed for so long is none any more.
const TRUSTED_FOR: Duration = Duration::from_secs(120);

/// A blob to be counted.
pub(super) struct Wanted {
    pub(super) digest: Digest,
    pub(super) generation: Gen,
}

#[derive(Debug, Clone, Copy)]
struct Count {
    held: u32,
    at: Instant,
    /// Every node was asked, and none has it.
    is_nowhere: bool,
}

/// Counts of blobs.
pub(super) struct Copies {
    tier: Arc<Tier>,
    blobs: Arc<Blobs>,
    control: Control,
    recorder: Recorder,
    counts: HashMap<Digest, Count>,
}

impl Copies {
    pub(super) fn new(tier: Arc<Tier>, blobs: Arc<Blobs>, control: Control, recorder: Recorder) -> Self {
        Self {
            tier,
            blobs,
            control,
            recorder,
            counts: HashMap::new(),
        }
    }

    /// How many copies were confirmed lately.
    pub(super) fn of(&self, digest: &Digest) -> u32 {
        let count = self.counts.get(digest);
        count
            .filter(|count| count.at.elapsed() < TRUSTED_FOR)
            .map_or(0, |count| count.held)
    }

    /// Forgets blobs nobody wants any more.
    pub(super) fn retain(&mut self, wanted: &HashSet<Digest>) {
        self.counts.retain(|digest, _| wanted.contains(digest));
    }

    /// Counts those of `wanted` whose count is not known or too old, a batch of them.
    pub(super) async fn renew(&mut self, wanted: impl Iterator<Item = Wanted>) {
        let now = Instant::now();
        let due: Vec<Wanted> = wanted
            .filter(|wanted| self.is_due(&wanted.digest, now))
            .take(BATCH_MAX)
            .collect();
        if due.is_empty() {
            return;
        }
        let digests: Vec<Digest> = due.iter().map(|wanted| wanted.digest.clone()).collect();
        let answers = self.ask(&digests).await;
        let n_nodes = self.tier.others().count() + 1;
        for (place, wanted) in due.into_iter().enumerate() {
            let held = answers.iter().filter(|answer| answer.get(place) == Some(&true)).count();
            let is_nowhere = held == 0 && answers.len() == n_nodes;
            self.note(wanted, held, is_nowhere, now);
        }
    }

    fn is_due(&self, digest: &Digest, now: Instant) -> bool {
        let Some(count) = self.counts.get(digest) else {
            return true;
        };
        let is_short = (count.held as usize) < self.tier.copies();
        let due_after = if is_short { ASK_AGAIN_AFTER } else { SERVES_FOR };
        now.duration_since(count.at) >= due_after
    }

    fn note(&mut self, wanted: Wanted, held: usize, is_nowhere: bool, at: Instant) {
        let Wanted { digest, generation } = wanted;
        let was_nowhere = self.counts.get(&digest).is_some_and(|count| count.is_nowhere);
        if is_nowhere && was_nowhere {
            tracing::warn!(%digest, "no node holds a blob any more");
            self.recorder.record(Command::MarkLost(MarkLost {
                digest: digest.clone(),
                generation,
            }));
        }
        let held = u32::try_from(held).unwrap_or(u32::MAX);
        self.counts.insert(digest, Count { held, at, is_nowhere });
    }

    /// What each node that answers says, in the order of `digests`.
    async fn ask(&self, digests: &[Digest]) -> Vec<Vec<bool>> {
        let others = self.tier.others().filter(|peer| self.tier.is_alive(peer.ordinal));
        let asked = others.map(|peer| async {
            match self.control.held(peer.ordinal, digests).await {
                Ok(held) => Some(held),
                Err(error) => {
                    tracing::debug!(peer = peer.ordinal, error = one_line(&error), "copies were not counted");
                    None
                }
            }
        });
        let (own, others) = tokio::join!(self.blobs.held(digests), join_all(asked));
        own.into_iter().chain(others.into_iter().flatten()).collect()
    }
}
