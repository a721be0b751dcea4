//! Answers the distribution protocol: parses names, asks the domain, says the answer in the port's words.

use std::collections::BTreeSet;
use std::sync::Arc;

use distribution::{
    BlobAnswer, BlobQuery, ManifestAnswer, ManifestQuery, Notes, ReferrersAnswer, ReferrersQuery, RegistryError,
    RequestContext, TagList, TagsQuery,
};
use oci::{ManifestReference, RawManifest, Repository, RepositoryName, SourceHost};
use tokio::time::timeout;

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
    known_hosts: BTreeSet<SourceHost>,
    trusts_plain: bool,
    manifests: Arc<Manifests>,
    tags: Tags,
    blobs: Arc<Blobs>,
    listings: Listings,
    answers: Answers,
}

impl Registry {
    /// Answers from the given parts. `known_hosts` are the hosts whose port a path may carry as `host-port`;
    /// `trusts_plain` says that the tier has no certificates, so that plain connections may be its own.
    pub fn new(
        known_hosts: BTreeSet<SourceHost>,
        trusts_plain: bool,
        manifests: Arc<Manifests>,
        tags: Tags,
        blobs: Arc<Blobs>,
        listings: Listings,
    ) -> Self {
        Self {
            known_hosts,
            trusts_plain,
            manifests,
            tags,
            blobs,
            listings,
            answers: Answers::new(),
        }
    }

    fn repository(&self, name: &RepositoryName, context: &RequestContext) -> Result<Repository, PullError> {
        let repository = Repository::from_path(name, context.ns.as_ref(), |host| self.known_hosts.contains(host))
            .map_err(PullError::Name)?;
        // What nodes copy for each other is accounted there; a client must not read through it what it may not have.
        if repository.host.as_str() == RESERVED_HOST && Asked::of(context, self.trusts_plain).must_be_proven() {
            return Err(PullError::NotFound);
        }
        Ok(repository)
    }

    async fn find_manifest(&self, query: &ManifestQuery) -> Result<ManifestAnswer, PullError> {
        let repository = self.repository(&query.name, &query.context)?;
        let asked = Asked::of(&query.context, self.trusts_plain);
        match &query.reference {
            ManifestReference::Digest(digest) => {
                let found = self.manifests.by_digest(&repository, digest, asked).await?;
                Ok(manifest_answer(
                    &found.raw,
                    Notes::from_source(found.source),
                    query.head,
                ))
            }
            ManifestReference::Tag(tag) => {
                let answer = self.tags.by_tag(&repository, tag, asked).await?;
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
        let asked = Asked::of(&query.context, self.trusts_plain);
        let answer = within_patience(asked, self.find_manifest(&query)).await;
        let answer = answer.map_err(|error| error.answer(Wanted::Manifest));
        self.answers.manifest(answer.as_ref().map(|found| &found.notes));
        answer
    }

    async fn blob(&self, query: BlobQuery) -> Result<BlobAnswer, RegistryError> {
        let asked = Asked::of(&query.context, self.trusts_plain);
        let answer = async {
            let repository = self.repository(&query.name, &query.context)?;
            if query.head {
                self.blobs.stat(&repository, &query.digest, asked).await
            } else {
                self.blobs.answer(&repository, &query.digest, asked).await
            }
        };
        let answer = within_patience(asked, answer).await;
        let answer = answer.map_err(|error| error.answer(Wanted::Blob));
        self.answers.blob(answer.as_ref().map(|found| &found.notes));
        answer
    }

    async fn tags(&self, query: TagsQuery) -> Result<TagList, RegistryError> {
        let asked = Asked::of(&query.context, self.trusts_plain);
        let answer = async {
            let repository = self.repository(&query.name, &query.context)?;
            self.listings.tags(&repository, query.limit, query.last.as_ref()).await
        };
        within_patience(asked, answer)
            .await
            .map_err(|error| error.answer(Wanted::Repository))
    }

    async fn referrers(&self, query: ReferrersQuery) -> Result<ReferrersAnswer, RegistryError> {
        let asked = Asked::of(&query.context, self.trusts_plain);
        let answer = async {
            let repository = self.repository(&query.name, &query.context)?;
            self.listings
                .referrers(&repository, &query.digest, query.artifact_type.as_deref())
                .await
        };
        within_patience(asked, answer)
            .await
            .map_err(|error| error.answer(Wanted::Repository))
    }
}
