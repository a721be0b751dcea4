//! The source registry as a supplier: [`RegistryClient`]'s words into those of the port.

use distribution::{ManifestAnswer, Notes, ReferrersAnswer, Source, TagList};
use futures::{StreamExt, stream};
use upstream::{FailureStatus, ManifestHead, RegistryClient, UpstreamError};

use crate::pull::Failure;
use crate::supply::{BlobAsk, BlobStat, ManifestAsk, OpenBlob, Part, ReferrersAsk, TagsAsk};

pub(super) async fn manifest(client: &RegistryClient, ask: &ManifestAsk) -> Result<ManifestAnswer, Failure> {
    if ask.head {
        let head = client
            .head_manifest(&ask.repository, &ask.reference)
            .await
            .map_err(failure)?;
        if let Some(answer) = head_answer(&head) {
            return Ok(answer);
        }
    }
    let manifest = client
        .get_manifest(&ask.repository, &ask.reference)
        .await
        .map_err(failure)?;
    Ok(ManifestAnswer {
        media_type: manifest.media_type().clone(),
        digest: manifest.digest().clone(),
        size: manifest.bytes().len() as u64,
        bytes: manifest.bytes().clone(),
        notes: Notes::from_source(Source::Upstream),
    })
}

/// `None` if the registry did not tell the length, which clients insist on.
fn head_answer(head: &ManifestHead) -> Option<ManifestAnswer> {
    Some(ManifestAnswer {
        media_type: head.media_type.clone(),
        digest: head.digest.clone(),
        size: head.size_bytes?,
        bytes: head
            .manifest
            .as_ref()
            .map(|manifest| manifest.bytes().clone())
            .unwrap_or_default(),
        notes: Notes::from_source(Source::Upstream),
    })
}

pub(super) async fn blob(client: &RegistryClient, ask: &BlobAsk, part: Part) -> Result<OpenBlob, Failure> {
    let opened = match client.get_blob(&ask.repository, &ask.digest, part.start).await {
        Ok(opened) => opened,
        // How a registry says that a range begins behind the end; our own server then says so to the client.
        Err(UpstreamError::Protocol { .. }) if part.start > 0 => return behind_the_end(client, ask, part).await,
        Err(error) => return Err(failure(error)),
    };
    let frames = opened.stream.map(|frame| frame.map_err(failure)).boxed();
    Ok(OpenBlob {
        size: opened.total_bytes,
        start: opened.offset,
        frames,
        source: Source::Upstream,
    })
}

async fn behind_the_end(client: &RegistryClient, ask: &BlobAsk, part: Part) -> Result<OpenBlob, Failure> {
    let size = stat(client, ask)
        .await?
        .size
        .filter(|size| *size <= part.start)
        .ok_or(Failure::Wrong)?;
    Ok(OpenBlob {
        size: Some(size),
        start: part.start,
        frames: stream::empty().boxed(),
        source: Source::Upstream,
    })
}

pub(super) async fn stat(client: &RegistryClient, ask: &BlobAsk) -> Result<BlobStat, Failure> {
    let head = client.head_blob(&ask.repository, &ask.digest).await.map_err(failure)?;
    Ok(BlobStat {
        size: head.size_bytes,
        source: Source::Upstream,
    })
}

pub(super) async fn tags(client: &RegistryClient, ask: &TagsAsk) -> Result<TagList, Failure> {
    let limit = ask.limit.map(|limit| limit as u64);
    let page = client
        .list_tags(&ask.repository, limit, ask.last.as_ref())
        .await
        .map_err(failure)?;
    Ok(TagList {
        tags: page.tags,
        more: page.next.is_some(),
        notes: Notes::from_source(Source::Upstream),
    })
}

pub(super) async fn referrers(client: &RegistryClient, ask: &ReferrersAsk) -> Result<ReferrersAnswer, Failure> {
    let artifact_type = ask.artifact_type.as_deref();
    let page = client
        .referrers(&ask.repository, &ask.digest, artifact_type)
        .await
        .map_err(failure)?;
    let notes = Notes::from_source(Source::Upstream);
    Ok(ReferrersAnswer {
        index: page.index.bytes().clone(),
        filtered: page.filtered,
        notes,
    })
}

/// What an error of a source registry means for the search.
fn failure(error: UpstreamError) -> Failure {
    tracing::debug!(error = &error as &dyn std::error::Error, "source registry failed");
    match &error {
        UpstreamError::NotFound { .. } => Failure::Absent,
        UpstreamError::Denied { .. } => Failure::Denied,
        UpstreamError::Refused { .. } => Failure::Forbidden,
        UpstreamError::Timeout { .. } => Failure::SourceSilent,
        UpstreamError::Corrupt { .. } => Failure::Wrong,
        UpstreamError::RateLimited { .. } | UpstreamError::Protocol { .. } => Failure::Unable,
        UpstreamError::Unavailable { source, .. } if source.is::<FailureStatus>() => Failure::Unable,
        UpstreamError::Unavailable { .. } => Failure::Unreachable,
    }
}
