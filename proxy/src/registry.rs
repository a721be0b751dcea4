//! The distribution protocol's reads, answered by [`Pull`]: names to repositories, refusals to error documents.
//!
//! Guarantees that nothing a supplier says reaches the client as a challenge or as "too many requests".

use std::io;
use std::sync::Arc;
use std::time::Duration;

use distribution::{
    BlobAnswer, BlobQuery, BlobReader, BlobStream, ManifestAnswer, ManifestQuery, Notes, ReferrersAnswer,
    ReferrersQuery, Registry, RegistryError, RequestContext, TagList, TagsQuery, UnreadBlob,
};
use futures::StreamExt;
use futures::stream;
use oci::{ByteRange, Repository, RepositoryName, SourceHost};

use crate::facts::Facts;
use crate::http_totals::{HttpEnd, HttpTotals};
use crate::pull::{Body, Patience, Pull, Refusal};
use crate::supply::{BlobAsk, BlobStat, ManifestAsk, ReferrersAsk, Supply, TagsAsk};

/// What "come back later" means: long enough for a node to be restarted, short beside a runtime's own back-off.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// What container runtimes call.
pub(crate) struct ProxyRegistry<S> {
    pub(crate) pull: Arc<Pull<S>>,
    pub(crate) totals: HttpTotals,
    /// Whether the configuration has this `host:port`, which a path may then write `host-port`.
    pub(crate) knows_host: Box<dyn Fn(&SourceHost) -> bool + Send + Sync>,
    /// There are cache nodes, which know what pods call registries.
    pub(crate) has_tier: bool,
    /// Asked again where a path may name a host that is not known.
    pub(crate) facts: Arc<Facts>,
}

impl<S> ProxyRegistry<S> {
    async fn repository(&self, name: &RepositoryName, context: &RequestContext) -> Result<Repository, RegistryError> {
        let host = Repository::host_with_port(name).filter(|_host| context.ns.is_none());
        if let Some(host) = host.filter(|host| !(self.knows_host)(host))
            && !self.facts.newer().await
            && self.has_tier
        {
            // Guessing could give another registry's bytes under this name.
            return Err(RegistryError::Unavailable {
                why: format!("no cache node says whether {host} is a registry: write docker.io/… if it is none"),
                retry_after: Some(RETRY_AFTER),
            });
        }
        Repository::from_path(name, context.ns.as_ref(), &self.knows_host)
            .map_err(|error| RegistryError::NameInvalid { why: error.to_string() })
    }
}

impl<S: Supply> ProxyRegistry<S> {
    async fn open(&self, ask: BlobAsk, query: &BlobQuery) -> Result<(BlobStat, Box<dyn BlobReader>), Refusal> {
        let patience = patience(&query.context);
        if query.head {
            let stat = self.pull.stat(&ask, patience).await?;
            return Ok((stat, Box::new(UnreadBlob)));
        }
        let (stat, body) = self.pull.blob(ask, query.range, patience).await?;
        Ok((stat, Box::new(BodyReader(body))))
    }
}

impl<S: Supply> Registry for ProxyRegistry<S> {
    async fn manifest(&self, query: ManifestQuery) -> Result<ManifestAnswer, RegistryError> {
        let repository = self.repository(&query.name, &query.context).await?;
        let host = repository.host.clone();
        let ask = ManifestAsk {
            repository,
            reference: query.reference,
            head: query.head,
            cache_index: None,
        };
        let found = self.pull.manifest(ask, patience(&query.context)).await;
        let found = found.map_err(|refusal| error(refusal, RegistryError::ManifestUnknown));
        let end = |answer: &ManifestAnswer| HttpEnd::found(answer.notes.source, false);
        self.totals
            .count(&host, found.as_ref().map_or_else(HttpEnd::refused, end));
        found
    }

    async fn blob(&self, query: BlobQuery) -> Result<BlobAnswer, RegistryError> {
        let repository = self.repository(&query.name, &query.context).await?;
        if query.digest.verifier().is_err() {
            return Err(RegistryError::Unsupported {
                what: "a digest that is neither sha256 nor sha512",
            });
        }
        let ask = BlobAsk {
            repository,
            digest: query.digest.clone(),
        };
        let host = ask.repository.host.clone();
        let (partial, digest) = (query.range.is_some(), query.digest.clone());
        let found = self.open(ask, &query).await.map_err(blob_error);
        let end = |(stat, _): &(BlobStat, _)| HttpEnd::found(Some(stat.source), partial);
        self.totals
            .count(&host, found.as_ref().map_or_else(HttpEnd::refused, end));
        let (stat, reader) = found?;
        Ok(BlobAnswer {
            digest,
            size: stat.size,
            notes: Notes::from_source(stat.source),
            reader,
        })
    }

    async fn tags(&self, query: TagsQuery) -> Result<TagList, RegistryError> {
        let repository = self.repository(&query.name, &query.context).await?;
        let ask = TagsAsk {
            repository,
            limit: query.limit,
            last: query.last,
        };
        let found = self.pull.tags(&ask, patience(&query.context)).await;
        found.map_err(|refusal| error(refusal, RegistryError::NameUnknown))
    }

    async fn referrers(&self, query: ReferrersQuery) -> Result<ReferrersAnswer, RegistryError> {
        let repository = self.repository(&query.name, &query.context).await?;
        let ask = ReferrersAsk {
            repository,
            digest: query.digest,
            artifact_type: query.artifact_type,
        };
        let found = self.pull.referrers(&ask, patience(&query.context)).await;
        found.map_err(|refusal| error(refusal, RegistryError::NameUnknown))
    }
}

struct BodyReader<S: Supply>(Body<S>);

impl<S: Supply> BlobReader for BodyReader<S> {
    fn read(mut self: Box<Self>, range: Option<ByteRange>) -> BlobStream {
        self.0.select(range);
        let next = |mut body: Body<S>| async move {
            match body.next().await {
                Ok(bytes) => Ok(bytes.map(|bytes| (bytes, body))),
                Err(refusal) => Err(io::Error::other(blob_error(refusal))),
            }
        };
        stream::try_unfold(self.0, next).boxed()
    }
}

fn patience(context: &RequestContext) -> Patience {
    if context.ns.is_some() {
        Patience::NextHost
    } else {
        Patience::AsLongAsItTakes
    }
}

fn blob_error(refusal: Refusal) -> RegistryError {
    error(refusal, RegistryError::BlobUnknown)
}

/// What a refusal is to the client.
fn error(refusal: Refusal, unknown: RegistryError) -> RegistryError {
    match refusal {
        Refusal::NotFound => unknown,
        Refusal::Denied => RegistryError::Denied {
            why: "the source registry refuses access".to_owned(),
        },
        Refusal::Unavailable => RegistryError::Unavailable {
            why: "neither a cache node nor the source registry can answer now".to_owned(),
            retry_after: Some(RETRY_AFTER),
        },
        Refusal::TimedOut => RegistryError::Timeout {
            why: "neither a cache node nor the source registry".to_owned(),
        },
    }
}
