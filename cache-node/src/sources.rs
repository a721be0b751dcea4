//! The source registries as one node sees them: coalesced questions, and who is down.
//!
//! Nothing here waits longer than the caller allows for a source that does not answer, and a source that is known to be
//! down is asked again only in the background.

use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use daemon::task::TaskSet;
use oci::{Digest, ManifestReference, RawManifest, Repository, SourceHost, Tag};
use tokio::time::{Instant, timeout};
use upstream::{BlobHead, Budget, ManifestHead, RegistryClient, UpstreamError};

use crate::coalesce::Coalescer;
use crate::freshness::ANSWER_SHARED_FOR;
use crate::pull_error::PullError;
use crate::source_health::{Health, SourceHealth};

/// Questions to sources in flight or kept at once.
const QUESTIONS_MAX: usize = 10_000;
/// How long "there is no such thing" serves those who ask later. Short: images appear.
const NOT_FOUND_KEPT_FOR: Duration = Duration::from_secs(1);
/// A source that has not answered a question about a tag by then counts as down until it does.
const SLOW_AFTER: Duration = Duration::from_millis(1700);
/// Longest wait for an answer about something that is not cached; a direct pull waits about as long.
const ANSWER_DEADLINE: Duration = Duration::from_secs(30);

/// Share of a source's rate limit that is left to those who wait for an answer: a tenth, and at least a few pulls' worth.
const KEPT_DIVISOR: u64 = 10;
const KEPT_MIN: u64 = 20;

type HeadResult = Result<ManifestHead, UpstreamError>;
type ManifestResult = Result<RawManifest, UpstreamError>;

/// Asks source registries, once for everyone who wants to know.
pub struct Sources {
    client: RegistryClient,
    health: Arc<Mutex<SourceHealth>>,
    heads: Coalescer<(Repository, Tag), HeadResult>,
    manifests: Coalescer<(Repository, Digest), ManifestResult>,
    blobs: Coalescer<(Repository, Digest), Result<BlobHead, UpstreamError>>,
}

impl Sources {
    /// Makes one over `client`; its questions run in `tasks`.
    pub fn new(client: RegistryClient, tasks: &TaskSet) -> Self {
        Self {
            client,
            health: Arc::default(),
            heads: Coalescer::new("tag check", tasks.clone(), QUESTIONS_MAX),
            manifests: Coalescer::new("manifest fetch", tasks.clone(), QUESTIONS_MAX),
            blobs: Coalescer::new("blob check", tasks.clone(), QUESTIONS_MAX),
        }
    }

    /// The client itself, for bodies.
    pub fn client(&self) -> &RegistryClient {
        &self.client
    }

    /// Says whether `host` is known to be down. Of those who ask while a probe is due one gets [`Health::ProbeDue`].
    pub fn health(&self, host: &SourceHost) -> Health {
        self.lock().check(host, Instant::now())
    }

    /// Says whether `host` is down, for one who will not probe it.
    pub fn is_down(&self, host: &SourceHost) -> bool {
        self.lock().is_down(host)
    }

    /// Whether the rate limit of `host` leaves room for what nobody waits for.
    pub fn allows_background(&self, host: &SourceHost) -> bool {
        leaves_room(&self.client.budget(host), Instant::now())
    }

    /// Hosts that are down, for people.
    pub fn down(&self) -> Vec<SourceHost> {
        self.lock().down().cloned().collect()
    }

    /// Asks what `tag` is now, waiting at most `patience`. Answers are shared for a second.
    ///
    /// The question itself goes on after that, so a source that answers late is seen to live.
    ///
    /// # Errors
    /// What the source answered, or [`PullError::Timeout`].
    pub async fn head_tag(
        &self,
        repository: &Repository,
        tag: &Tag,
        patience: Duration,
    ) -> Result<ManifestHead, PullError> {
        let question = self.ask_head(repository, tag);
        match timeout(patience, question).await {
            Ok(answer) => answer,
            Err(_) => Err(PullError::Timeout(format!(
                "{} did not answer in {patience:?}",
                repository.host
            ))),
        }
    }

    /// Asks what `tag` is now without waiting for the answer, which only says whether the source lives.
    pub fn probe(self: &Arc<Self>, repository: &Repository, tag: &Tag, tasks: &TaskSet) {
        let (sources, repository, tag) = (Arc::clone(self), repository.clone(), tag.clone());
        tasks.spawn("source probe", async move {
            let _seen_by_health = sources.head_tag(&repository, &tag, ANSWER_DEADLINE).await;
        });
    }

    async fn ask_head(&self, repository: &Repository, tag: &Tag) -> Result<ManifestHead, PullError> {
        let (client, health) = (self.client.clone(), Arc::clone(&self.health));
        let key = (repository.clone(), tag.clone());
        let (repository, reference) = (repository.clone(), ManifestReference::Tag(tag.clone()));
        let fetch = async move {
            let mut question = pin!(client.head_manifest(&repository, &reference));
            let answer = match timeout(SLOW_AFTER, &mut question).await {
                Ok(answer) => answer,
                Err(_) => {
                    lock(&health).failed(&repository.host, Instant::now());
                    question.await
                }
            };
            record(&health, &repository.host, answer.as_ref().err());
            answer
        };
        let keep = |answer: &HeadResult| {
            if answer.is_ok() {
                ANSWER_SHARED_FOR
            } else {
                keep_error(answer)
            }
        };
        landed(self.heads.get(key, fetch, keep).await)
    }

    /// Fetches a manifest by digest, verified. One fetch for all who ask.
    ///
    /// # Errors
    /// What the source answered, or [`PullError::Timeout`] after the longest wait of a direct pull.
    pub async fn fetch_manifest(&self, repository: &Repository, digest: &Digest) -> Result<RawManifest, PullError> {
        let (client, health) = (self.client.clone(), Arc::clone(&self.health));
        let key = (repository.clone(), digest.clone());
        let (repository, reference) = (repository.clone(), ManifestReference::Digest(digest.clone()));
        let host = repository.host.clone();
        let fetch = async move {
            let answer = client.get_manifest(&repository, &reference).await;
            record(&health, &repository.host, answer.as_ref().err());
            answer
        };
        match timeout(ANSWER_DEADLINE, self.manifests.get(key, fetch, keep_error)).await {
            Ok(answer) => landed(answer),
            Err(_) => Err(PullError::Timeout(format!(
                "{host} did not answer in {ANSWER_DEADLINE:?}"
            ))),
        }
    }

    /// Asks `repository` itself for a blob, without its bytes: an answer proves that whoever may read the one may read
    /// the other.
    ///
    /// # Errors
    /// What the source answered, or [`PullError::Timeout`] after `patience`.
    pub async fn head_blob(
        &self,
        repository: &Repository,
        digest: &Digest,
        patience: Duration,
    ) -> Result<BlobHead, PullError> {
        let (client, health) = (self.client.clone(), Arc::clone(&self.health));
        let key = (repository.clone(), digest.clone());
        let (repository, digest) = (repository.clone(), digest.clone());
        let host = repository.host.clone();
        let fetch = async move {
            let answer = client.head_blob(&repository, &digest).await;
            record(&health, &repository.host, answer.as_ref().err());
            answer
        };
        match timeout(patience, self.blobs.get(key, fetch, keep_error)).await {
            Ok(answer) => landed(answer),
            Err(_) => Err(PullError::Timeout(format!("{host} did not answer in {patience:?}"))),
        }
    }

    fn lock(&self) -> MutexGuard<'_, SourceHealth> {
        lock(&self.health)
    }
}

fn leaves_room(budget: &Budget, now: Instant) -> bool {
    let kept = budget
        .limit()
        .map_or(KEPT_MIN, |limit| (limit / KEPT_DIVISOR).max(KEPT_MIN));
    budget.blocked_until(now).is_none() && budget.remaining(now).is_none_or(|remaining| remaining > kept)
}

fn lock(health: &Mutex<SourceHealth>) -> MutexGuard<'_, SourceHealth> {
    health.lock().unwrap_or_else(PoisonError::into_inner)
}

fn landed<T>(answer: Option<Result<T, UpstreamError>>) -> Result<T, PullError> {
    match answer {
        Some(answer) => answer.map_err(PullError::from),
        None => Err(PullError::Internal(
            "a question to a source ended without an answer".into(),
        )),
    }
}

fn keep_error<T>(answer: &Result<T, UpstreamError>) -> Duration {
    match answer {
        Err(UpstreamError::NotFound { .. }) => NOT_FOUND_KEPT_FOR,
        _ => Duration::ZERO,
    }
}

fn record(health: &Mutex<SourceHealth>, host: &SourceHost, error: Option<&UpstreamError>) {
    let mut health = lock(health);
    match error {
        Some(UpstreamError::Unavailable { .. } | UpstreamError::Timeout { .. } | UpstreamError::RateLimited { .. }) => {
            health.failed(host, Instant::now());
        }
        _ => health.answered(host),
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use http::{HeaderMap, StatusCode};

    use super::*;

    #[test]
    fn the_rest_of_a_rate_limit_is_for_those_who_wait() {
        let now = Instant::now();
        for (status, name, value, expected) in [
            (200, "date", "unlimited", true),
            (200, "ratelimit-remaining", "21;w=3600", true),
            (200, "ratelimit-remaining", "20;w=3600", false),
            (429, "retry-after", "60", false),
        ] {
            let mut budget = Budget::default();
            let headers = HeaderMap::from_iter([(name.parse().unwrap(), value.parse().unwrap())]);
            budget.observe(StatusCode::from_u16(status).unwrap(), &headers, now, SystemTime::now());
            assert_eq!(leaves_room(&budget, now), expected, "{status} {name} {value}");
            assert!(leaves_room(&budget, now + Duration::from_secs(3601)), "for ever");
        }
    }
}
