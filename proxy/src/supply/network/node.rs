//! A cache node as a supplier: [`NodeClient`]'s words into those of the port.

use std::time::Duration;

use bytes::Bytes;
use distribution::{ManifestAnswer, Notes, ReferrersAnswer, Source, TagList, Warning, header};
use futures::{StreamExt, stream};
use http::header::LINK;
use http::{Method, Response, StatusCode};
use oci::{Digest, Endpoint, Repository, Tag};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use proto::access::{AUTHORIZATION_PATH, FACTS_PATH, SourceAuthorization, TierFacts};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use upstream::{BodyStream, FailureStatus, NodeCall, NodeClient, NodeNotes, NodeUrl, Phase, UpstreamError};

use crate::pull::Failure;
use crate::supply::{BlobAsk, BlobStat, ManifestAsk, OpenBlob, Part, ReferrersAsk, TagsAsk};

/// A list of tags or referrers: as long as what `upstream` accepts of a registry.
const LIST_BYTES_MAX: usize = 16 << 20;
/// A thousand hosts of the greatest length.
const FACTS_BYTES_MAX: usize = 512 << 10;
/// Nothing waits for it; a node that lives answers in a millisecond.
const FACTS_DEADLINE: Duration = Duration::from_secs(1);
/// Tokens of some registries reach 16 KiB.
const AUTHORIZATION_BYTES_MAX: usize = 64 << 10;
/// What a request between our own parts says when it comes from a proxy: nobody here has a next host to go to.
const HOP: u8 = 1;

/// One cache node.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) client: NodeClient,
    pub(super) url: NodeUrl,
}

impl Node {
    /// Whether its link is authenticated.
    pub(super) fn is_trusted(&self) -> bool {
        self.url.to_string().starts_with("https://")
    }

    pub(super) async fn manifest(&self, ask: &ManifestAsk) -> Result<ManifestAnswer, Failure> {
        let method = if ask.head { Method::HEAD } else { Method::GET };
        let call = NodeCall {
            cache_index: ask.cache_index.map(|index| index.to_string()),
            ..call()
        };
        let found = self
            .client
            .manifest(&self.url, method, &ask.repository, &ask.reference, &call)
            .await;
        let found = found.map_err(failure)?;
        let asked_other = ask.reference.digest().is_some_and(|asked| *asked != found.digest);
        if asked_other || (!ask.head && !covers(&found.digest, &found.bytes)) {
            return Err(Failure::Wrong);
        }
        let size = if ask.head {
            found.size_bytes.ok_or(Failure::Wrong)?
        } else {
            found.bytes.len() as u64
        };
        let notes = notes(&found.notes);
        Ok(ManifestAnswer {
            media_type: found.media_type,
            digest: found.digest,
            size,
            bytes: found.bytes,
            notes,
        })
    }

    pub(super) async fn blob(&self, ask: &BlobAsk, part: Part) -> Result<OpenBlob, Failure> {
        let found = self
            .client
            .get_blob(&self.url, &ask.repository, &ask.digest, part.start, &call())
            .await;
        let found = match found {
            Ok(found) => found,
            Err(UpstreamError::Protocol { .. }) if part.start > 0 => return self.behind_the_end(ask, part).await,
            Err(error) => return Err(failure(error)),
        };
        let source = notes(&found.notes).source.unwrap_or(Source::Peer);
        let frames = found.blob.stream.map(|frame| frame.map_err(failure)).boxed();
        Ok(OpenBlob {
            size: found.blob.total_bytes,
            start: found.blob.offset,
            frames,
            source,
        })
    }

    async fn behind_the_end(&self, ask: &BlobAsk, part: Part) -> Result<OpenBlob, Failure> {
        let stat = self.stat(ask).await?;
        let size = stat.size.filter(|size| *size <= part.start).ok_or(Failure::Wrong)?;
        let frames = stream::empty().boxed();
        Ok(OpenBlob {
            size: Some(size),
            start: part.start,
            frames,
            source: stat.source,
        })
    }

    pub(super) async fn stat(&self, ask: &BlobAsk) -> Result<BlobStat, Failure> {
        let found = self
            .client
            .head_blob(&self.url, &ask.repository, &ask.digest, &call())
            .await;
        let (size, found) = found.map_err(failure)?;
        Ok(BlobStat {
            size,
            source: notes(&found).source.unwrap_or(Source::Peer),
        })
    }

    pub(super) async fn tags(&self, ask: &TagsAsk) -> Result<TagList, Failure> {
        #[derive(Deserialize)]
        struct Page {
            tags: Option<Vec<Tag>>,
        }
        let n = ask.limit.map(|limit| limit as u64);
        let endpoint = Endpoint::TagsList {
            name: ask.repository.name.clone(),
            n,
            last: ask.last.clone(),
        };
        let response = self.list(&ask.repository, &endpoint).await?;
        let more = response.headers().contains_key(LINK);
        let page: Page = serde_json::from_slice(&whole(response).await?).map_err(|_| Failure::Wrong)?;
        Ok(TagList {
            tags: page.tags.unwrap_or_default(),
            more,
            notes: Notes::default(),
        })
    }

    pub(super) async fn referrers(&self, ask: &ReferrersAsk) -> Result<ReferrersAnswer, Failure> {
        let endpoint = Endpoint::Referrers {
            name: ask.repository.name.clone(),
            digest: ask.digest.clone(),
            artifact_type: ask.artifact_type.clone(),
        };
        let response = self.list(&ask.repository, &endpoint).await?;
        let filtered = response.headers().contains_key(header::OCI_FILTERS_APPLIED);
        Ok(ReferrersAnswer {
            index: whole(response).await?,
            filtered,
            notes: Notes::default(),
        })
    }

    pub(super) async fn facts(&self) -> Result<TierFacts, Failure> {
        self.document(FACTS_PATH, FACTS_BYTES_MAX, FACTS_DEADLINE).await
    }

    pub(super) async fn authorization(
        &self,
        repository: &Repository,
        deadline: Duration,
    ) -> Result<SourceAuthorization, Failure> {
        let name = utf8_percent_encode(&repository.to_string(), NON_ALPHANUMERIC).to_string();
        let path = format!("{AUTHORIZATION_PATH}?repository={name}");
        self.document(&path, AUTHORIZATION_BYTES_MAX, deadline).await
    }

    async fn document<T: DeserializeOwned>(
        &self,
        path: &str,
        bytes_max: usize,
        deadline: Duration,
    ) -> Result<T, Failure> {
        let bytes = self.client.get_document(&self.url, path, bytes_max, deadline).await;
        serde_json::from_slice(&bytes.map_err(failure)?).map_err(|_| Failure::Wrong)
    }

    async fn list(&self, repository: &Repository, endpoint: &Endpoint) -> Result<Response<BodyStream>, Failure> {
        let response = self
            .client
            .forward(&self.url, Method::GET, repository, endpoint, &call())
            .await;
        let response = response.map_err(failure)?;
        match response.status() {
            StatusCode::OK => Ok(response),
            StatusCode::NOT_FOUND => Err(Failure::Missing),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(Failure::Denied),
            StatusCode::GATEWAY_TIMEOUT => Err(Failure::SourceSilent),
            _ => Err(Failure::Unable),
        }
    }
}

fn call() -> NodeCall {
    NodeCall {
        hop: HOP,
        cache_index: None,
    }
}

/// Manifests are small: they are checked whatever the link.
fn covers(digest: &Digest, bytes: &Bytes) -> bool {
    let Ok(mut verifier) = digest.verifier() else {
        return false;
    };
    verifier.update(bytes);
    verifier.finish().is_ok()
}

async fn whole(response: Response<BodyStream>) -> Result<Bytes, Failure> {
    let mut body = response.into_body();
    let mut whole = Vec::new();
    while let Some(frame) = body.next().await {
        let frame = frame.map_err(failure)?;
        if whole.len() + frame.len() > LIST_BYTES_MAX {
            return Err(Failure::Wrong);
        }
        whole.extend_from_slice(&frame);
    }
    Ok(whole.into())
}

fn notes(found: &NodeNotes) -> Notes {
    let source = match found.source.as_deref() {
        Some("local") => Some(Source::Local),
        Some("peer") => Some(Source::Peer),
        Some("upstream") => Some(Source::Upstream),
        _ => None,
    };
    Notes {
        cache_index: found.cache_index.as_deref().and_then(|index| index.parse().ok()),
        warning: found.stale.then_some(Warning::Stale),
        source,
    }
}

/// What an error of a cache node means for the search.
fn failure(error: UpstreamError) -> Failure {
    tracing::debug!(error = &error as &dyn std::error::Error, "cache node failed");
    match &error {
        // Its word alone is not enough; the source registry is asked next.
        UpstreamError::NotFound { .. } => Failure::Missing,
        UpstreamError::Denied { .. } => Failure::Denied,
        UpstreamError::Corrupt { .. } => Failure::Wrong,
        UpstreamError::Timeout {
            phase: Phase::Connect, ..
        }
        | UpstreamError::Refused { .. } => Failure::Unreachable,
        UpstreamError::Timeout { .. } => Failure::SourceSilent,
        UpstreamError::RateLimited { .. } | UpstreamError::Protocol { .. } => Failure::Unable,
        UpstreamError::Unavailable { source, .. } => match source.downcast_ref::<FailureStatus>() {
            Some(FailureStatus(504)) => Failure::SourceSilent,
            Some(FailureStatus(_)) => Failure::Unable,
            None => Failure::Unreachable,
        },
    }
}
