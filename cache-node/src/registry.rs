//! Answers the distribution protocol: parses names, asks the domain, says the answer in the port's words.

use std::collections::BTreeSet;
use std::sync::Arc;

use daemon::runtime::one_line;
use distribution::{
    BlobAnswer, BlobQuery, ManifestAnswer, ManifestQuery, Notes, ReferrersAnswer, ReferrersQuery, RegistryError,
    RequestContext, TagList, TagsQuery,
};
use meta::view;
use oci::{ManifestReference, RawManifest, Repository, RepositoryName, SourceHost};
use raft::MetaHandle;
use tokio::time::timeout;

use crate::access::gate::{Gate, Reader};
use crate::asked::{Asked, NEXT_HOST_PATIENCE};
use crate::blobs::Blobs;
use crate::copies::RESERVED_HOST;
use crate::listings::Listings;
use crate::manifests::Manifests;
use crate::metrics::Answers;
use crate::pull_error::{PullError, Wanted};
use crate::tags::Tags;

/// The registry of one cache node.
pub struct Registry {
    parts: RegistryParts,
    answers: Answers,
}

/// What [`Registry`] answers from.
pub struct RegistryParts {
    /// The replicated state.
    pub ledger: MetaHandle,
    /// The configured hosts whose port a path may carry as `host-port`; others are known by the state.
    pub configured_hosts: BTreeSet<SourceHost>,
    /// The tier has no certificates, so that plain connections may be its own.
    pub trusts_plain: bool,
    /// Lets through who may read private repositories.
    pub gate: Gate,
    /// Manifests by digest.
    pub manifests: Arc<Manifests>,
    /// Tags.
    pub tags: Arc<Tags>,
    /// Blobs.
    pub blobs: Arc<Blobs>,
    /// Lists of tags and referrers.
    pub listings: Listings,
}

impl Registry {
    /// Answers from the given parts.
    pub fn new(parts: RegistryParts) -> Self {
        let answers = Answers::new();
        Self { parts, answers }
    }

    /// The repository a request names, if whoever asks may read it.
    async fn repository(&self, name: &RepositoryName, context: &RequestContext) -> Result<Repository, PullError> {
        let repository = Repository::from_path(name, context.ns.as_ref(), |host| self.is_known_host(host))
            .map_err(PullError::Name)?;
        // What nodes copy for each other is accounted there; a client must not read through it what it may not have.
        if repository.host.as_str() == RESERVED_HOST && self.asked(context).must_be_proven() {
            return Err(PullError::NotFound);
        }
        self.parts.gate.pass(&Reader::of(context), &repository).await?;
        Ok(repository)
    }

    fn is_known_host(&self, host: &SourceHost) -> bool {
        let known = || view::is_known_host(&self.parts.ledger.local(), host);
        self.parts.configured_hosts.contains(host)
            || known().unwrap_or_else(|error| {
                tracing::error!(error = one_line(&error), "the state cannot be read");
                false
            })
    }

    fn asked(&self, context: &RequestContext) -> Asked {
        let gate = &self.parts.gate;
        let asked = Asked::of(context, self.parts.trusts_plain);
        match gate.is_enforced() && Reader::of(context) != Reader::CacheNode {
            // Who says that it comes from a cache node gets what needs no proof.
            true => asked.from_outside(),
            false => asked,
        }
    }

    async fn find_manifest(&self, query: &ManifestQuery) -> Result<ManifestAnswer, PullError> {
        let repository = self.repository(&query.name, &query.context).await?;
        let asked = self.asked(&query.context);
        match &query.reference {
            ManifestReference::Digest(digest) => {
                let found = self.parts.manifests.by_digest(&repository, digest, asked).await?;
                Ok(manifest_answer(
                    &found.raw,
                    Notes::from_source(found.source),
                    query.head,
                ))
            }
            ManifestReference::Tag(tag) => {
                let answer = self.parts.tags.by_tag(&repository, tag, asked).await?;
                let notes = Notes {
                    cache_index: answer.cache_index,
                    warning: answer.warning,
                    source: Some(answer.source),
                };
                Ok(manifest_answer(&answer.raw, notes, query.head))
            }
        }
    }
}

fn manifest_answer(raw: &RawManifest, notes: Notes, head: bool) -> ManifestAnswer {
    ManifestAnswer {
        media_type: raw.media_type().clone(),
        digest: raw.digest().clone(),
        size: raw.bytes().len() as u64,
        bytes: if head { bytes::Bytes::new() } else { raw.bytes().clone() },
        notes,
    }
}

/// Ends the wait of a client that has a next host to try. What was begun for it goes on.
async fn within_patience<T>(asked: Asked, answer: impl Future<Output = Result<T, PullError>>) -> Result<T, PullError> {
    if !asked.has_next_host {
        return answer.await;
    }
    match timeout(NEXT_HOST_PATIENCE, answer).await {
        Ok(answer) => answer,
        Err(_) => Err(PullError::unavailable("not here yet, try the next host")),
    }
}

impl distribution::Registry for Registry {
    async fn manifest(&self, query: ManifestQuery) -> Result<ManifestAnswer, RegistryError> {
        let asked = self.asked(&query.context);
        let answer = within_patience(asked, self.find_manifest(&query)).await;
        let answer = answer.map_err(|error| error.answer(Wanted::Manifest));
        self.answers.manifest(answer.as_ref().map(|found| &found.notes));
        answer
    }

    async fn blob(&self, query: BlobQuery) -> Result<BlobAnswer, RegistryError> {
        let asked = self.asked(&query.context);
        let answer = async {
            let repository = self.repository(&query.name, &query.context).await?;
            if query.head {
                self.parts.blobs.stat(&repository, &query.digest, asked).await
            } else {
                self.parts.blobs.answer(&repository, &query.digest, asked).await
            }
        };
        let answer = within_patience(asked, answer).await;
        let answer = answer.map_err(|error| error.answer(Wanted::Blob));
        self.answers.blob(answer.as_ref().map(|found| &found.notes));
        answer
    }

    async fn tags(&self, query: TagsQuery) -> Result<TagList, RegistryError> {
        let asked = self.asked(&query.context);
        let answer = async {
            let repository = self.repository(&query.name, &query.context).await?;
            self.parts
                .listings
                .tags(&repository, query.limit, query.last.as_ref())
                .await
        };
        within_patience(asked, answer)
            .await
            .map_err(|error| error.answer(Wanted::Repository))
    }

    async fn referrers(&self, query: ReferrersQuery) -> Result<ReferrersAnswer, RegistryError> {
        let asked = self.asked(&query.context);
        let answer = async {
            let repository = self.repository(&query.name, &query.context).await?;
            self.parts
                .listings
                .referrers(&repository, &query.digest, query.artifact_type.as_deref())
                .await
        };
        within_patience(asked, answer)
            .await
            .map_err(|error| error.answer(Wanted::Repository))
    }
}
