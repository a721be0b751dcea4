//! Whom a fill asks, in which order. Each step looks at who lives now.
//!
//! What the state says is present somewhere is asked for where it should be. What is not is fetched by its first
//! living owner, and by everyone else from that owner, so that the source sees one fetch. When the owner dies, the next
//! in rank goes on from the bytes it has. An owner that has just come back asks the others first: one of them may
//! have gone on without it.

use std::collections::BTreeSet;
use std::sync::Arc;

use oci::{Digest, Repository};
use tokio::time::Duration;

use super::announce::Announcer;
use super::sources::{PeerSource, UpstreamSource};
use crate::asked::{HOPS_LOCAL_ONLY, HOPS_TO_OWNER};
use crate::fill::{Source, SourceError, SourceFailure, SourcePlan};
use crate::peers::Peers;
use crate::sources::Sources;
use crate::tier::{Ordinal, Tier};

/// Sources asked in a row that bring nothing.
const TRIES_MAX: u32 = 24;
/// What a node holds it gives at once; two nodes that want copies of each other must not wait for each other.
const COPY_PATIENCE: Duration = Duration::from_secs(3);
/// A fetch that went on without this node has bytes to give now; otherwise the source is not kept waiting for.
const JOIN_PATIENCE: Duration = Duration::from_secs(1);
/// An owner that waits for its own source is waited for somewhat longer than it waits itself.
const OWNER_PATIENCE: Duration = Duration::from_secs(35);
/// Tries of the source registry in a row that bring nothing.
const FRUITLESS_MAX: u32 = 3;
/// Without a byte from anyone for this long nobody else is asked: a direct pull would have ended by now.
const SILENCE_MAX: Duration = Duration::from_secs(29);

pub(super) struct PlanParts {
    pub(super) peers: Peers,
    pub(super) sources: Arc<Sources>,
    pub(super) repository: Repository,
    pub(super) digest: Digest,
    pub(super) size_bytes: Option<u64>,
    pub(super) announcer: Announcer,
    pub(super) scope: Scope,
}

/// Whom a fill may ask.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scope {
    /// The state says that someone has it, so nodes are asked for copies first.
    pub(super) present: bool,
    /// The owner may be asked to fetch it.
    pub(super) owner: bool,
    /// The source may be asked.
    pub(super) upstream: bool,
    /// Nodes may be at a fetch that they took over, and may be asked for it. They ask for no proof that the repository has
    /// the blob, so there has to be one here.
    pub(super) join: bool,
}

impl Scope {
    /// Only nodes that hold a whole copy.
    pub(super) const COPIES: Self = Self {
        present: true,
        owner: false,
        upstream: false,
        join: false,
    };
}

/// The plan of one fill.
pub(super) struct Plan {
    parts: PlanParts,
    progress: Progress,
}

/// What has been tried.
struct Progress {
    tries: u32,
    fruitless: u32,
    received_bytes: u64,
    asked_for_copies: BTreeSet<Ordinal>,
    failed: BTreeSet<Ordinal>,
    last: Option<Step>,
    is_announced: bool,
    /// A node was silent when it was asked for what it fetches.
    met_silence: bool,
}

/// Where to turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// Ask a node for what it holds.
    Copy(Ordinal),
    /// Ask a node for what it holds or is fetching, before the source is asked.
    Join(Ordinal),
    /// Ask the owner, who fetches.
    Owner(Ordinal),
    /// Fetch.
    Upstream,
}

impl Plan {
    pub(super) fn new(parts: PlanParts) -> Self {
        let progress = Progress::new();
        Self { parts, progress }
    }

    fn source(&self, step: Step) -> Box<dyn Source> {
        let (repository, digest) = (self.parts.repository.clone(), self.parts.digest.clone());
        let peer = |peer, hop, patience| PeerSource {
            peers: self.parts.peers.clone(),
            peer,
            repository: repository.clone(),
            digest: digest.clone(),
            hop,
            patience,
        };
        match step {
            Step::Copy(ordinal) => Box::new(peer(ordinal, HOPS_LOCAL_ONLY, COPY_PATIENCE)),
            Step::Join(ordinal) => Box::new(peer(ordinal, HOPS_LOCAL_ONLY, JOIN_PATIENCE)),
            Step::Owner(ordinal) => Box::new(peer(ordinal, HOPS_TO_OWNER, OWNER_PATIENCE)),
            Step::Upstream => Box::new(UpstreamSource {
                sources: Arc::clone(&self.parts.sources),
                repository,
                digest,
            }),
        }
    }
}

impl SourcePlan for Plan {
    fn next(&mut self, failed: Option<&SourceFailure>) -> Option<Box<dyn Source>> {
        if let Some(failure) = failed
            && !self.progress.learn(failure)
        {
            return None;
        }
        self.progress.tries += 1;
        if self.progress.tries > TRIES_MAX {
            return None;
        }
        let step = self
            .progress
            .step(self.parts.peers.tier(), &self.parts.digest, self.parts.scope)?;
        if let Step::Copy(peer) | Step::Join(peer) = step {
            self.progress.asked_for_copies.insert(peer);
        }
        if step == Step::Upstream && !std::mem::replace(&mut self.progress.is_announced, true) {
            let PlanParts {
                repository,
                digest,
                size_bytes,
                ..
            } = &self.parts;
            self.parts.announcer.fetching(repository, digest, *size_bytes);
        }
        self.progress.last = Some(step);
        Some(self.source(step))
    }
}

impl Progress {
    fn new() -> Self {
        Self {
            tries: 0,
            fruitless: 0,
            received_bytes: 0,
            asked_for_copies: BTreeSet::new(),
            failed: BTreeSet::new(),
            last: None,
            is_announced: false,
            met_silence: false,
        }
    }

    /// Takes in how the last source ended. Returns whether to go on.
    fn learn(&mut self, failure: &SourceFailure) -> bool {
        if failure.received_bytes > self.received_bytes {
            self.received_bytes = failure.received_bytes;
            self.fruitless = 0;
            self.tries = 0;
        }
        let in_time = failure.silent_for < SILENCE_MAX;
        match (self.last, &failure.error) {
            (Some(Step::Upstream), SourceError::Unavailable { .. } | SourceError::Dead) => {
                self.fruitless += 1;
                self.fruitless < FRUITLESS_MAX && in_time
            }
            (Some(Step::Join(_)), SourceError::NoProgress(_)) => {
                self.met_silence = true;
                true
            }
            // A node that does not hold a copy, or not yet, may still be the owner that fetches it.
            (Some(Step::Copy(_) | Step::Join(_)), SourceError::NotFound | SourceError::NoProgress(_)) => true,
            (Some(Step::Owner(_)), SourceError::NotFound | SourceError::Denied { .. } | SourceError::NoProgress(_)) => {
                false
            }
            (Some(Step::Copy(peer) | Step::Join(peer) | Step::Owner(peer)), _) => {
                self.failed.insert(peer);
                in_time
            }
            (Some(Step::Upstream) | None, _) => false,
        }
    }

    /// Whether nothing came yet and nobody failed or was silent. Later on others may be waiting for this node, and two must
    /// not wait for each other.
    fn is_at_the_beginning(&self) -> bool {
        self.received_bytes == 0 && self.failed.is_empty() && !self.is_announced && !self.met_silence
    }

    fn step(&self, tier: &Tier, digest: &Digest, scope: Scope) -> Option<Step> {
        let ranking = tier.ranking(digest.as_str());
        let usable = |ordinal: &Ordinal| tier.is_alive(*ordinal) && !self.failed.contains(ordinal);
        let not_asked =
            |ordinal: &&Ordinal| **ordinal != tier.own() && usable(ordinal) && !self.asked_for_copies.contains(ordinal);
        let other = ranking.iter().find(not_asked).copied();
        if let Some(other) = other.filter(|_| scope.present) {
            return Some(Step::Copy(other));
        }
        if scope.owner
            && let Some(owner) = ranking.iter().copied().find(usable)
            && owner != tier.own()
        {
            return Some(Step::Owner(owner));
        }
        if let Some(other) = other.filter(|_| scope.join && self.is_at_the_beginning()) {
            return Some(Step::Join(other));
        }
        scope.upstream.then_some(Step::Upstream)
    }
}

#[cfg(test)]
mod tests;
