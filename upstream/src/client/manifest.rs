//! Manifests: what a tag points to now, and the bytes.

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, ETAG};
use http::{HeaderMap, Method};
use oci::{Digest, Endpoint, MANIFEST_SIZE_BYTES_MAX, ManifestReference, MediaType, RawManifest, Repository};
use serde::Deserialize;

use super::RegistryClient;
use super::exchange::Ask;
use crate::body;
use crate::error::{Target, UpstreamError};
use crate::transport::Answer;

/// The header registries name a manifest's digest in.
const DOCKER_CONTENT_DIGEST: &str = "docker-content-digest";
/// Docker's first manifest format, whose digest does not cover its signatures.
const SIGNED_SCHEMA_1: &str = "application/vnd.docker.distribution.manifest.v1+prettyjws";

/// What a reference points to.
#[derive(Clone, Debug)]
pub struct ManifestHead {
    /// The manifest.
    pub digest: Digest,
    /// What it is served as.
    pub media_type: MediaType,
    /// Its length in bytes, if the registry says.
    pub size_bytes: Option<u64>,
    /// The registry's validator.
    pub etag: Option<String>,
    /// The manifest itself, where the registry's `HEAD` said too little and it had to be fetched.
    pub manifest: Option<RawManifest>,
}

impl RegistryClient {
    /// Asks what a tag or digest points to.
    ///
    /// One `HEAD`, which costs no pull quota on Docker Hub. Where that has no digest or type, or is not allowed, a
    /// `GET` follows and its manifest comes along.
    ///
    /// # Errors
    /// [`UpstreamError`]. Contract: G-60.
    pub async fn head_manifest(
        &self,
        repository: &Repository,
        reference: &ManifestReference,
    ) -> Result<ManifestHead, UpstreamError> {
        self.retrying(&repository.host, || self.try_head_manifest(repository, reference))
            .await
    }

    /// Fetches a manifest, at most [`MANIFEST_SIZE_BYTES_MAX`], byte for byte.
    ///
    /// Asked for by digest, the bytes are checked against it; asked for by tag, against the digest the registry names.
    ///
    /// # Errors
    /// [`UpstreamError`]; [`UpstreamError::Corrupt`] if the bytes do not match.
    pub async fn get_manifest(
        &self,
        repository: &Repository,
        reference: &ManifestReference,
    ) -> Result<RawManifest, UpstreamError> {
        let fetched = self
            .retrying(&repository.host, || self.try_get_manifest(repository, reference))
            .await?;
        Ok(fetched.0)
    }

    async fn try_head_manifest(
        &self,
        repository: &Repository,
        reference: &ManifestReference,
    ) -> Result<ManifestHead, UpstreamError> {
        let ask = ask(repository, reference, Method::HEAD);
        let target = ask.target();
        let answer = self.exchange(&ask, &target).await?;
        let status = answer.response.status();
        if status.is_success() {
            if let Some(head) = complete_head(answer.response.headers(), reference) {
                return Ok(head);
            }
        } else if !matches!(status.as_u16(), 400 | 405 | 501) {
            return Err(self.failure(answer, &target).await);
        }
        let (manifest, etag) = self.try_get_manifest(repository, reference).await?;
        Ok(ManifestHead {
            digest: manifest.digest().clone(),
            media_type: manifest.media_type().clone(),
            size_bytes: Some(manifest.bytes().len() as u64),
            etag,
            manifest: Some(manifest),
        })
    }

    async fn try_get_manifest(
        &self,
        repository: &Repository,
        reference: &ManifestReference,
    ) -> Result<(RawManifest, Option<String>), UpstreamError> {
        let ask = ask(repository, reference, Method::GET);
        let target = ask.target();
        let answer = self.exchange(&ask, &target).await?;
        if !answer.response.status().is_success() {
            return Err(self.failure(answer, &target).await);
        }
        let headers = answer.response.headers().clone();
        let bytes = self.read_manifest(answer, &target).await?;
        let manifest = checked(bytes, &headers, reference, &target)?;
        Ok((manifest, text(&headers, ETAG.as_str())))
    }

    /// The body of an answer that must be a manifest.
    pub(super) async fn read_manifest(&self, answer: Answer, target: &Target) -> Result<Bytes, UpstreamError> {
        let encoding = text(answer.response.headers(), CONTENT_ENCODING.as_str());
        if let Some(encoding) = encoding.filter(|encoding| !encoding.eq_ignore_ascii_case("identity")) {
            return Err(UpstreamError::protocol(
                target,
                format!("encoded as {encoding:?} against our wish"),
            ));
        }
        let body = answer.response.into_body();
        body::read_whole(body, MANIFEST_SIZE_BYTES_MAX, target, self.patience.no_progress).await
    }
}

fn ask<'a>(repository: &'a Repository, reference: &ManifestReference, method: Method) -> Ask<'a> {
    let endpoint = Endpoint::Manifest {
        name: repository.name.clone(),
        reference: reference.clone(),
    };
    Ask {
        repository,
        endpoint,
        method,
        headers: HeaderMap::new(),
    }
}

/// What a `HEAD` says, if it says enough.
fn complete_head(headers: &HeaderMap, reference: &ManifestReference) -> Option<ManifestHead> {
    let named = text(headers, DOCKER_CONTENT_DIGEST).and_then(|digest| digest.parse().ok());
    Some(ManifestHead {
        digest: reference.digest().cloned().or(named)?,
        media_type: media_type(headers)?,
        size_bytes: text(headers, CONTENT_LENGTH.as_str()).and_then(|length| length.parse().ok()),
        etag: text(headers, ETAG.as_str()),
        manifest: None,
    })
}

fn checked(
    bytes: Bytes,
    headers: &HeaderMap,
    reference: &ManifestReference,
    target: &Target,
) -> Result<RawManifest, UpstreamError> {
    let media_type = media_type(headers).or_else(|| type_within(&bytes));
    let media_type = media_type.ok_or_else(|| UpstreamError::protocol(target, "manifest without a media type"))?;
    let named = text(headers, DOCKER_CONTENT_DIGEST).and_then(|digest| digest.parse::<Digest>().ok());
    let checkable = named.filter(|digest| digest.verifier().is_ok() && media_type.as_str() != SIGNED_SCHEMA_1);
    let manifest = match reference.digest().cloned().or(checkable) {
        Some(digest) => RawManifest::verified(bytes, media_type, &digest),
        None => RawManifest::new(bytes, media_type),
    };
    manifest.map_err(|error| UpstreamError::manifest(target, error))
}

fn media_type(headers: &HeaderMap) -> Option<MediaType> {
    text(headers, CONTENT_TYPE.as_str()).and_then(|kind| kind.parse().ok())
}

/// The `mediaType` a manifest names itself, for registries that send no `Content-Type`.
fn type_within(bytes: &[u8]) -> Option<MediaType> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Probe {
        media_type: String,
    }
    serde_json::from_slice::<Probe>(bytes).ok()?.media_type.parse().ok()
}

fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    headers
        .get(name)
        .and_then(|value| value.to_str().ok())
        .map(str::to_owned)
}
