//! The domain of the proxy: find what a runtime asks for, at a cache node or at its source registry.
//!
//! Guarantees: a pull is refused only after the source registry itself was asked (or could not have been), what is
//! given out was checked here or by a cache node behind an authenticated link, a tag never goes back in time while
//! anybody knows better, and a client with a next host is sent there after [`Pull::next_host_limit`].

mod body;
mod intake;
mod lending;
mod policy;
mod proof;
mod search;

use std::sync::Arc;
use std::time::Duration;

use distribution::{ManifestAnswer, ReferrersAnswer, TagList, Warning};
use meta::placement;
use oci::{ByteRange, ManifestReference, RangeHeader, Repository, ResolvedRange, Tag};
use tokio::time::{Instant, timeout};

pub(crate) use body::Body;
use lending::BORROW_AT_ONCE;
pub(crate) use policy::{Failure, Refusal};
use search::{Next, Search};

use crate::loans::Loans;
use crate::metrics::{Metrics, Outcome};
use crate::ring::Ring;
use crate::standing::Standing;
use crate::supply::{BlobAsk, BlobStat, Found, ManifestAsk, Part, ReferrersAsk, Supplier, Supply, TagsAsk};
use crate::tag_tokens::{Judgement, TagTokens};

/// Everything a pull needs, shared by all requests.
pub(crate) struct Pull<S> {
    pub(crate) supply: S,
    pub(crate) ring: Ring,
    pub(crate) standing: Standing,
    pub(crate) tokens: TagTokens,
    pub(crate) loans: Arc<Loans>,
    pub(crate) metrics: Metrics,
    /// When a client that has a next host is sent there.
    pub(crate) next_host_limit: Duration,
}

/// What a request brings beside its subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Patience {
    /// The client has nowhere else to go.
    AsLongAsItTakes,
    /// The client has a next host.
    NextHost,
}

impl<S: Supply> Pull<S> {
    /// Finds a manifest by tag or digest.
    pub(crate) async fn manifest(&self, mut ask: ManifestAsk, patience: Patience) -> Result<ManifestAnswer, Refusal> {
        let tag = tag_of(&ask.reference).cloned();
        ask.cache_index = tag.as_ref().and_then(|tag| self.tokens.get(&ask.repository, tag));
        let key = match &ask.reference {
            ManifestReference::Digest(digest) => placement::digest_key(digest),
            ManifestReference::Tag(tag) => placement::tag_key(&ask.repository, tag),
        };
        let mut search = self.search(&key, &ask.repository, patience);
        let mut behind = None;
        loop {
            let found = self
                .find(&mut search, &|supplier| self.supply.manifest(supplier, &ask))
                .await;
            match found {
                Ok((supplier, answer)) if self.is_behind(&ask, tag.as_ref(), &answer) => {
                    search.failed(supplier, Failure::Behind);
                    behind.get_or_insert((supplier, answer));
                }
                Ok((supplier, answer)) => {
                    if let Supplier::Node(_) = supplier {
                        self.loans.want(&ask.repository, Instant::now());
                    }
                    return Ok(self.answered(&search, supplier, answer));
                }
                // Nobody knows better: an old answer that says so beats none.
                Err(_) if behind.is_some() => {
                    let (supplier, mut answer) = behind.ok_or(Refusal::Unavailable)?;
                    answer.notes.warning = Some(Warning::Stale);
                    return Ok(self.answered(&search, supplier, answer));
                }
                Err(refusal) => return Err(self.refused(&search, refusal)),
            }
        }
    }

    /// Finds a blob and opens it where `range` begins; the reader then selects what it sends.
    pub(crate) async fn blob(
        self: &Arc<Self>,
        ask: BlobAsk,
        range: Option<RangeHeader>,
        patience: Patience,
    ) -> Result<(BlobStat, Body<S>), Refusal> {
        let mut search = self.search(&placement::digest_key(&ask.digest), &ask.repository, patience);
        let part = match range {
            None => Part::WHOLE,
            Some(range) if range.start().is_none() => self.part_by_size(&mut search.clone(), &ask, range).await?,
            Some(range) => part_from_start(range),
        };
        let found = self
            .find(&mut search, &|supplier| self.supply.blob(supplier, &ask, part))
            .await;
        let (supplier, opened) = found.map_err(|refusal| self.refused(&search, refusal))?;
        let stat = BlobStat {
            size: opened.size,
            source: opened.source,
        };
        self.metrics
            .answered(Outcome::Found(supplier, opened.source), search.elapsed());
        Ok((stat, Body::new(Arc::clone(self), ask, search, supplier, opened)))
    }

    /// Finds out what is known of a blob without its bytes.
    pub(crate) async fn stat(&self, ask: &BlobAsk, patience: Patience) -> Result<BlobStat, Refusal> {
        let mut search = self.search(&placement::digest_key(&ask.digest), &ask.repository, patience);
        let found = self
            .find(&mut search, &|supplier| self.supply.stat(supplier, ask))
            .await;
        let (supplier, stat) = found.map_err(|refusal| self.refused(&search, refusal))?;
        self.metrics
            .answered(Outcome::Found(supplier, stat.source), search.elapsed());
        Ok(stat)
    }

    /// Lists tags.
    pub(crate) async fn tags(&self, ask: &TagsAsk, patience: Patience) -> Result<TagList, Refusal> {
        let mut search = self.search(ask.repository.to_string().as_bytes(), &ask.repository, patience);
        let found = self
            .find(&mut search, &|supplier| self.supply.tags(supplier, ask))
            .await;
        found.map(|(_, list)| list)
    }

    /// Lists what refers to a manifest.
    pub(crate) async fn referrers(&self, ask: &ReferrersAsk, patience: Patience) -> Result<ReferrersAnswer, Refusal> {
        let mut search = self.search(&placement::digest_key(&ask.digest), &ask.repository, patience);
        let found = self
            .find(&mut search, &|supplier| self.supply.referrers(supplier, ask))
            .await;
        found.map(|(_, answer)| answer)
    }

    /// Asks one supplier after the other until one has what is wanted.
    async fn find<'a, T>(
        &'a self,
        search: &mut Search,
        ask: &(dyn Fn(Supplier) -> Found<'a, T> + Sync),
    ) -> Result<(Supplier, T), Refusal> {
        loop {
            let (supplier, patience) = match search.next() {
                Next::Ask(supplier, patience) => (supplier, patience),
                Next::Answer(refusal) => return Err(refusal),
            };
            let mut outcome = within(patience, ask(supplier)).await;
            if let Err(Failure::Denied) = outcome
                && self.has_other_credentials(supplier, search).await
            {
                outcome = within(patience, ask(supplier)).await;
            }
            let failure = match outcome {
                Ok(found) => {
                    self.standing.answered(supplier, search.host());
                    return Ok((supplier, found));
                }
                Err(failure) => failure,
            };
            tracing::debug!(?supplier, ?failure, "supplier failed");
            self.standing.failed(supplier, search.host(), failure, Instant::now());
            search.failed(supplier, failure);
        }
    }

    /// After a refusal: whether asking once more, with what the tier lends, makes sense. A refusal of the tier itself
    /// takes back what it lent.
    async fn has_other_credentials(&self, supplier: Supplier, search: &mut Search) -> bool {
        match supplier {
            Supplier::Node(_) => {
                self.loans.revoke(search.repository(), Instant::now());
                false
            }
            Supplier::Upstream => search.may_borrow() && self.borrow(search.repository(), BORROW_AT_ONCE).await,
        }
    }

    fn search(&self, key: &[u8], repository: &Repository, patience: Patience) -> Search {
        let limit = (patience == Patience::NextHost).then_some(self.next_host_limit);
        Search::new(&self.ring.order(key), repository, &self.standing, limit)
    }

    /// Resolves a range that counts from the end.
    async fn part_by_size(&self, search: &mut Search, ask: &BlobAsk, range: RangeHeader) -> Result<Part, Refusal> {
        let (_, stat) = self.find(search, &|supplier| self.supply.stat(supplier, ask)).await?;
        Ok(match stat.size.map(|size| range.resolve(size)) {
            Some(ResolvedRange::Partial(range)) => part(range),
            Some(ResolvedRange::Full | ResolvedRange::Unsatisfiable) | None => Part::WHOLE,
        })
    }

    fn is_behind(&self, ask: &ManifestAsk, tag: Option<&Tag>, answer: &ManifestAnswer) -> bool {
        let Some((tag, index)) = tag.zip(answer.notes.cache_index) else {
            return false;
        };
        self.tokens.judge(&ask.repository, tag, index) == Judgement::Behind
    }

    fn answered(&self, search: &Search, supplier: Supplier, answer: ManifestAnswer) -> ManifestAnswer {
        let source = answer.notes.source.unwrap_or(distribution::Source::Upstream);
        self.metrics
            .answered(Outcome::Found(supplier, source), search.elapsed());
        answer
    }

    fn refused(&self, search: &Search, refusal: Refusal) -> Refusal {
        self.metrics.answered(Outcome::Refused(refusal), search.elapsed());
        refusal
    }
}

async fn within<T>(limit: Option<Duration>, asking: Found<'_, T>) -> Result<T, Failure> {
    match limit {
        None => asking.await,
        Some(limit) => timeout(limit, asking).await.unwrap_or(Err(Failure::SourceSilent)),
    }
}

fn tag_of(reference: &ManifestReference) -> Option<&Tag> {
    match reference {
        ManifestReference::Tag(tag) => Some(tag),
        ManifestReference::Digest(_) => None,
    }
}

fn part(range: ByteRange) -> Part {
    Part {
        start: range.start(),
        end: Some(range.end_exclusive()),
    }
}

/// The part that a range with a first byte means, whatever the length: resolved against the greatest there is.
fn part_from_start(range: RangeHeader) -> Part {
    match range.resolve(u64::MAX) {
        ResolvedRange::Partial(range) if range.end_exclusive() < u64::MAX => part(range),
        ResolvedRange::Partial(range) => Part {
            start: range.start(),
            end: None,
        },
        ResolvedRange::Full | ResolvedRange::Unsatisfiable => Part::WHOLE,
    }
}

#[cfg(test)]
mod tests;
