//! Lists: tags of a repository and what refers to a manifest. The source answers; tags are answered from the state
//! when it does not.

use daemon::runtime::one_line;
use std::sync::Arc;
use std::time::Duration;

use distribution::{Notes, ReferrersAnswer, Source, TagList, Warning};
use meta::view;
use oci::{Digest, Repository, Tag};
use raft::MetaHandle;
use tokio::time::timeout;

use crate::pull_error::PullError;
use crate::sources::Sources;

/// How long the source may take.
const SOURCE_PATIENCE: Duration = Duration::from_secs(10);
/// Tags in one page where nobody says how many.
const PAGE_DEFAULT: usize = 1000;
/// Most tags in one page.
const PAGE_MAX: usize = 10_000;

/// Lists tags and referrers.
pub struct Listings {
    ledger: MetaHandle,
    sources: Arc<Sources>,
}

impl Listings {
    /// Lists from sources, and from `ledger` where these are away.
    pub fn new(ledger: MetaHandle, sources: Arc<Sources>) -> Self {
        Self { ledger, sources }
    }

    /// One page of tags after `last`.
    ///
    /// # Errors
    /// What the source said, where nothing of the repository is cached.
    pub async fn tags(
        &self,
        repository: &Repository,
        limit: Option<usize>,
        last: Option<&Tag>,
    ) -> Result<TagList, PullError> {
        let error = if self.sources.is_down(&repository.host) {
            PullError::unavailable(format!("{} is down", repository.host))
        } else {
            let n = limit.map(|limit| limit as u64);
            match timeout(SOURCE_PATIENCE, self.sources.client().list_tags(repository, n, last)).await {
                Ok(Ok(page)) => {
                    let notes = Notes::from_source(Source::Upstream);
                    return Ok(TagList {
                        tags: page.tags,
                        more: page.next.is_some(),
                        notes,
                    });
                }
                Ok(Err(error)) => error.into(),
                Err(_) => PullError::Timeout(format!("{} did not answer", repository.host)),
            }
        };
        let limit = limit.unwrap_or(PAGE_DEFAULT).min(PAGE_MAX);
        let cached = self.cached_tags(repository, limit, last)?;
        if cached.is_empty() && last.is_none() {
            return Err(error);
        }
        let notes = Notes {
            warning: Some(Warning::Stale),
            ..Notes::from_source(Source::Local)
        };
        Ok(TagList {
            more: cached.len() == limit,
            tags: cached,
            notes,
        })
    }

    fn cached_tags(&self, repository: &Repository, limit: usize, last: Option<&Tag>) -> Result<Vec<Tag>, PullError> {
        let state = self.ledger.local();
        let read = || match view::repository_id(&state, repository)? {
            Some(id) => view::list_tags(&state, id, last, limit),
            None => Ok(Vec::new()),
        };
        let tags = read().map_err(|error: meta::ReadError| PullError::Internal(one_line(&error)))?;
        Ok(tags.into_iter().map(|(tag, _)| tag).collect())
    }

    /// What refers to `subject`, as the source says now: referrers change, so none are answered from the cache.
    ///
    /// # Errors
    /// What the source said.
    pub async fn referrers(
        &self,
        repository: &Repository,
        subject: &Digest,
        artifact_type: Option<&str>,
    ) -> Result<ReferrersAnswer, PullError> {
        let question = self.sources.client().referrers(repository, subject, artifact_type);
        match timeout(SOURCE_PATIENCE, question).await {
            Ok(answer) => {
                let page = answer?;
                let notes = Notes::from_source(Source::Upstream);
                Ok(ReferrersAnswer {
                    index: page.index.bytes().clone(),
                    filtered: page.filtered,
                    notes,
                })
            }
            Err(_) => Err(PullError::Timeout(format!("{} did not answer", repository.host))),
        }
    }
}
