//! Tags: what is served for one, how it is checked against its source, and what happens when that does not answer.
//!
//! A tag is answered with what the source says while the source lives, and with the newest image that is whole when it
//! does not. Nothing here waits for a commit.

mod moved;

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use daemon::runtime::one_line;
use daemon::task::TaskSet;
use distribution::{CacheIndex, Source, Warning};
use meta::{Candidate, Command, TagCheck, TagChecked, TagRecord, view};
use oci::{Digest, ManifestReference, RawManifest, Repository, Tag};
use raft::MetaHandle;
use tokio::time::{Instant, timeout_at};
use upstream::ManifestHead;

use self::moved::{Hanging, Waiting};
use crate::asked::Asked;
use crate::completion::Completion;
use crate::freshness::{CachedTag, Freshness, FreshnessPolicies, TagDecision, decide};
use crate::manifests::Manifests;
use crate::peers::{PeerAnswer, Peers};
use crate::pull_error::PullError;
use crate::recorder::Recorder;
use crate::source_health::Health;
use crate::sources::Sources;
use crate::tier::{Ordinal, Seat};
use crate::whole;

/// How long a source may take where something is cached: what is cached is served within 2 s, all told.
const CACHED_PATIENCE: Duration = Duration::from_millis(1800);
/// How long a source may take where nothing is: a direct pull waits about as long.
const UNCACHED_PATIENCE: Duration = Duration::from_secs(30);
/// How long a node that is behind what the client has seen waits to catch up.
const CATCH_UP: Duration = Duration::from_millis(200);
/// Entries a node that hears of a leader may be behind and still answer tags: some seconds of a busy cluster.
pub const LAG_ENTRIES_MAX: u64 = 5000;
/// How often at most a check that changed nothing is recorded.
const CHECK_RECORDED_EVERY: Duration = Duration::from_secs(600);

/// The answer to a request for a tag.
#[derive(Debug, Clone)]
pub struct TagAnswer {
    /// The manifest.
    pub raw: RawManifest,
    /// Where it came from.
    pub source: Source,
    /// Whether it could not be checked.
    pub warning: Option<Warning>,
    /// The tag's monotonic token.
    pub cache_index: Option<CacheIndex>,
}

/// Answers tags.
pub struct Tags {
    parts: TagParts,
    hanging: Hanging,
}

/// What [`Tags`] works with.
pub struct TagParts {
    /// The replicated state.
    pub ledger: MetaHandle,
    /// Who owns what, and how to ask them.
    pub peers: Peers,
    /// Asks source registries.
    pub sources: Arc<Sources>,
    /// Manifests by digest.
    pub manifests: Arc<Manifests>,
    /// How fresh tags must be.
    pub policies: FreshnessPolicies,
    /// Takes what is learned.
    pub recorder: Recorder,
    /// Promotes candidates once they are whole.
    pub completion: Completion,
    /// Where probes run.
    pub tasks: TaskSet,
}

/// What the state says of a tag.
struct Known {
    record: TagRecord,
    /// What to serve if the source cannot be asked.
    whole: Digest,
    cache_index: CacheIndex,
}

impl Tags {
    /// Puts the parts together.
    pub fn new(parts: TagParts) -> Self {
        let hanging = Hanging::new(Arc::clone(&parts.manifests), parts.tasks.clone());
        Self { parts, hanging }
    }

    /// Answers a request for a tag.
    ///
    /// # Errors
    /// [`PullError`] where neither the source nor the cache has an answer.
    pub async fn by_tag(&self, repository: &Repository, tag: &Tag, asked: Asked) -> Result<TagAnswer, PullError> {
        self.refuse_if_behind()?;
        let known = self.known_at(repository, tag, asked.cache_index).await?;
        let policy = self.parts.policies.policy(repository, tag);
        let health = self.parts.sources.health(&repository.host);
        if health == Health::ProbeDue {
            self.parts.sources.probe(repository, tag, &self.parts.tasks);
        }
        let cached = known.as_ref().map(|known| CachedTag {
            checked_ago: checked_ago(&known.record),
            is_outdated: known
                .record
                .candidate
                .as_ref()
                .is_some_and(|candidate| *candidate != known.whole),
        });
        match (decide(policy, cached, health != Health::Up), known) {
            (TagDecision::ServeCached, Some(known)) => self.serve(repository, &known, self.unchecked(), asked).await,
            (TagDecision::ServeStale, Some(known)) => self.serve(repository, &known, Some(Warning::Stale), asked).await,
            (TagDecision::CheckThenServe, Some(known)) => {
                self.check_or_stale(repository, tag, &known, policy, asked).await
            }
            (TagDecision::Ask, _) | (_, None) => {
                let deadline = Instant::now() + UNCACHED_PATIENCE;
                self.check(repository, tag, None, policy, asked, deadline).await
            }
        }
    }

    /// Asks the source what a tag is now, whatever the policy, and takes in what it says.
    ///
    /// # Errors
    /// [`PullError`] if the source has no answer; a cached tag is then noted as stale.
    pub async fn refresh(&self, repository: &Repository, tag: &Tag) -> Result<(), PullError> {
        let known = self.known(repository, tag)?;
        let deadline = Instant::now() + UNCACHED_PATIENCE;
        let asked = Asked::by_this_node_of_the_source();
        // Every answer is recorded, as for tags that are seldom asked for.
        let policy = Freshness::After(Duration::ZERO);
        let checked = self
            .check(repository, tag, known.as_ref(), policy, asked, deadline)
            .await;
        let is_new = known.is_some_and(|known| known.record.stale_since_ms.is_none());
        if checked.is_err() && is_new {
            self.record_check(repository, tag, TagCheck::Failed);
        }
        checked.map(|_| ())
    }

    /// A node that hears of a leader and is far behind it would answer with tags that moved long ago.
    fn refuse_if_behind(&self) -> Result<(), PullError> {
        let status = self.parts.ledger.status();
        let status = status.borrow();
        let behind = status.committed.saturating_sub(status.applied);
        if status.leader.is_some() && behind > LAG_ENTRIES_MAX {
            return Err(PullError::unavailable(format!(
                "this node is behind the cluster by {behind} entries"
            )));
        }
        Ok(())
    }

    /// What to say of a tag that is answered without asking its source.
    fn unchecked(&self) -> Option<Warning> {
        let knows_a_leader = self.parts.ledger.status().borrow().leader.is_some();
        (!knows_a_leader).then_some(Warning::Stale)
    }

    async fn known_at(
        &self,
        repository: &Repository,
        tag: &Tag,
        seen: Option<CacheIndex>,
    ) -> Result<Option<Known>, PullError> {
        let deadline = Instant::now() + CATCH_UP;
        let mut applied = self.parts.ledger.applied();
        loop {
            applied.borrow_and_update();
            let known = self.known(repository, tag)?;
            let behind = seen.is_some_and(|seen| known.as_ref().is_none_or(|known| known.cache_index < seen));
            if !behind {
                return Ok(known);
            }
            if !matches!(timeout_at(deadline, applied.changed()).await, Ok(Ok(()))) {
                return Err(PullError::unavailable(
                    "this node is behind what the client has seen of the tag",
                ));
            }
        }
    }

    fn known(&self, repository: &Repository, tag: &Tag) -> Result<Option<Known>, PullError> {
        let state = self.parts.ledger.local();
        let read = || {
            let Some(id) = view::repository_id(&state, repository)? else {
                return Ok(None);
            };
            let Some(record) = view::tag(&state, id, tag)? else {
                return Ok(None);
            };
            let Some(whole) = whole::newest(&state, &record)? else {
                return Ok(None);
            };
            let epoch = view::cluster(&state)?.map_or(0, |cluster| cluster.epoch);
            let cache_index = CacheIndex {
                epoch,
                index: record.serving_index,
            };
            Ok(Some(Known {
                record,
                whole,
                cache_index,
            }))
        };
        read().map_err(|error: meta::ReadError| PullError::Internal(one_line(&error)))
    }

    async fn serve(
        &self,
        repository: &Repository,
        known: &Known,
        warning: Option<Warning>,
        asked: Asked,
    ) -> Result<TagAnswer, PullError> {
        let found = self.parts.manifests.by_digest(repository, &known.whole, asked).await?;
        Ok(TagAnswer {
            raw: found.raw,
            source: found.source,
            warning,
            cache_index: Some(known.cache_index),
        })
    }

    async fn check_or_stale(
        &self,
        repository: &Repository,
        tag: &Tag,
        known: &Known,
        policy: Freshness,
        asked: Asked,
    ) -> Result<TagAnswer, PullError> {
        let deadline = Instant::now() + CACHED_PATIENCE;
        let check = self.check(repository, tag, Some(known), policy, asked, deadline);
        match timeout_at(deadline, check).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) => tracing::debug!(%repository, %tag, error = one_line(&error), "serving a stale tag"),
            Err(_) => tracing::debug!(%repository, %tag, "serving a stale tag: its source is slow"),
        }
        if known.record.stale_since_ms.is_none() {
            self.record_check(repository, tag, TagCheck::Failed);
        }
        self.serve(repository, known, Some(Warning::Stale), asked).await
    }

    async fn check(
        &self,
        repository: &Repository,
        tag: &Tag,
        known: Option<&Known>,
        policy: Freshness,
        asked: Asked,
        deadline: Instant,
    ) -> Result<TagAnswer, PullError> {
        if asked.may_ask_owner()
            && let Seat::Peer(owner) = self.parts.peers.tier().owner(&format!("{repository}:{tag}"))
            && let Some(answer) = self.ask_owner(owner, repository, tag, asked).await
        {
            return answer;
        }
        let patience = deadline.saturating_duration_since(Instant::now());
        let head = self.parts.sources.head_tag(repository, tag, patience).await?;
        let has_another = known.is_some_and(|known| known.whole != head.digest);
        if has_another && self.hanging.has(repository, &head.digest) {
            let why = format!("{} does not give {}", repository.host, head.digest);
            return Err(PullError::Timeout(why));
        }
        let waiting = has_another.then(|| self.hanging.wait_for(repository, &head.digest));
        let found = self.parts.manifests.by_digest(repository, &head.digest, asked).await;
        waiting.into_iter().for_each(Waiting::arrived);
        let found = found?;
        self.note(repository, tag, known, policy, &head, &found.raw);
        let cache_index = known.map(|known| known.cache_index);
        Ok(TagAnswer {
            raw: found.raw,
            source: found.source,
            warning: None,
            cache_index,
        })
    }

    async fn ask_owner(
        &self,
        owner: Ordinal,
        repository: &Repository,
        tag: &Tag,
        asked: Asked,
    ) -> Option<Result<TagAnswer, PullError>> {
        let reference = ManifestReference::Tag(tag.clone());
        match self.parts.peers.manifest(owner, repository, &reference, asked).await {
            PeerAnswer::Found((raw, notes)) => {
                let cache_index = notes.cache_index.as_deref().and_then(|index| index.parse().ok());
                let warning = notes.stale.then_some(Warning::Stale);
                Some(Ok(TagAnswer {
                    raw,
                    source: Source::Peer,
                    warning,
                    cache_index,
                }))
            }
            PeerAnswer::Refused(error) => Some(Err(error)),
            PeerAnswer::Unable(why) => {
                tracing::debug!(peer = owner, %repository, %tag, why, "owner could not answer a tag");
                None
            }
        }
    }

    fn note(
        &self,
        repository: &Repository,
        tag: &Tag,
        known: Option<&Known>,
        policy: Freshness,
        head: &ManifestHead,
        raw: &RawManifest,
    ) {
        let record = known.map(|known| &known.record);
        let serving = record.and_then(|record| record.serving.as_ref());
        if serving == Some(raw.digest()) {
            let record = record.expect("a serving digest comes from a record");
            let due = matches!(policy, Freshness::After(_)) || checked_ago(record) >= CHECK_RECORDED_EVERY;
            if due || record.stale_since_ms.is_some() || record.candidate.is_some() {
                let check = TagCheck::Confirmed {
                    digest: raw.digest().clone(),
                    upstream_etag: head.etag.clone(),
                };
                self.record_check(repository, tag, check);
            }
            return;
        }
        let candidate = record.and_then(|record| record.candidate.as_ref());
        if candidate != Some(raw.digest()) {
            let of = Candidate {
                tag: tag.clone(),
                upstream_etag: head.etag.clone(),
            };
            self.parts.manifests.learned(repository, raw, Some(of));
        }
        self.parts.completion.promote_when_whole(repository, tag, raw.digest());
    }

    fn record_check(&self, repository: &Repository, tag: &Tag, check: TagCheck) {
        let checked = TagChecked {
            repository: repository.clone(),
            tag: tag.clone(),
            at_ms: now_ms(),
            check,
        };
        self.parts.recorder.record(Command::TagChecked(checked));
    }
}

fn checked_ago(record: &TagRecord) -> Duration {
    Duration::from_millis(now_ms().saturating_sub(record.checked_at_ms))
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
