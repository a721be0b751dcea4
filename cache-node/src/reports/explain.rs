//! What a node knows, and really holds, of one image.

use daemon::admin::AdminError;
use daemon::runtime::one_line;
use meta::{ChildReference, ManifestRecord, TagRecord, view};
use oci::{Digest, ImageReference, ManifestReference, Repository};
use proto::report::{BlobHeld, ExplainReport, ManifestHeld};

use super::{Reports, is_private, platform, unreadable};
use crate::blob_store::Space;
use crate::whole;

impl Reports {
    /// What this node knows and really holds of an image.
    ///
    /// # Errors
    /// [`AdminError::BadRequest`] for a malformed image, [`AdminError::NotFound`] if the node knows nothing of it.
    pub async fn explain(&self, image: &str) -> Result<ExplainReport, AdminError> {
        let reference: ImageReference = image
            .parse()
            .map_err(|error: oci::ReferenceError| AdminError::BadRequest(one_line(&error)))?;
        let state = self.parts.ledger.local();
        let unknown = || AdminError::NotFound(format!("{reference} is not known to this node"));
        let repository = &reference.repository;
        let (digest, tag) = match reference.manifest() {
            ManifestReference::Digest(digest) => (digest, None),
            ManifestReference::Tag(tag) => {
                let id = view::repository_id(&state, repository)
                    .map_err(unreadable)?
                    .ok_or_else(unknown)?;
                let record = view::tag(&state, id, &tag).map_err(unreadable)?.ok_or_else(unknown)?;
                (
                    whole::newest(&state, &record)
                        .map_err(unreadable)?
                        .ok_or_else(unknown)?,
                    Some(record),
                )
            }
        };
        let record = view::manifest(&state, &digest)
            .map_err(unreadable)?
            .ok_or_else(unknown)?;
        let mut manifests = vec![self.manifest(&digest, None, Some(record.clone())).await];
        for child in &record.references.children {
            let child_record = view::manifest(&state, &child.digest).map_err(unreadable)?;
            manifests.push(self.manifest(&child.digest, Some(child), child_record).await);
        }
        self.explained(&reference, &digest, tag.as_ref(), manifests)
            .map_err(unreadable)
    }

    fn explained(
        &self,
        reference: &ImageReference,
        digest: &Digest,
        tag: Option<&TagRecord>,
        manifests: Vec<ManifestHeld>,
    ) -> Result<ExplainReport, meta::ReadError> {
        let state = self.parts.ledger.local();
        let manifest = reference.manifest();
        let wanted = ImageReference {
            repository: reference.repository.clone(),
            tag: manifest.tag().cloned(),
            digest: manifest.digest().cloned(),
        };
        Ok(ExplainReport {
            image: full_name(&reference.repository, &reference.manifest()),
            applied_index: *self.parts.ledger.applied().borrow(),
            digest: Some(digest.to_string()),
            checked_at_ms: tag.map(|record| record.checked_at_ms),
            stale: tag.is_some_and(|record| record.stale_since_ms.is_some()),
            desired: view::desired(&state, &wanted)?.is_some(),
            private: is_private(&state, &reference.repository)?,
            manifests,
        })
    }

    async fn manifest(
        &self,
        digest: &Digest,
        child: Option<&ChildReference>,
        record: Option<ManifestRecord>,
    ) -> ManifestHeld {
        let Some(record) = record else {
            return ManifestHeld {
                digest: digest.to_string(),
                media_type: child.map(|child| child.media_type.to_string()).unwrap_or_default(),
                platform: child.and_then(platform),
                is_index: false,
                here: false,
                blobs: Vec::new(),
            };
        };
        let space = self.parts.store.space().await.ok();
        let mut blobs = Vec::new();
        for blob in &record.references.blobs {
            blobs.push(self.blob(&blob.digest, blob.size, space).await);
        }
        ManifestHeld {
            digest: digest.to_string(),
            media_type: record.media_type.to_string(),
            platform: child.and_then(platform),
            is_index: !record.references.children.is_empty() || record.media_type.is_index(),
            here: record.inline || self.parts.blobs.is_readable(digest).await,
            blobs,
        }
    }

    async fn blob(&self, digest: &Digest, size_bytes: u64, space: Option<Space>) -> BlobHeld {
        let here = self.parts.blobs.is_readable(digest).await;
        let origin = self.parts.provenance.of(digest).filter(|_| here);
        BlobHeld {
            digest: digest.to_string(),
            size_bytes,
            here,
            source: origin.as_ref().map(|origin| origin.source.clone()),
            fetched_at_ms: origin.map(|origin| origin.fetched_at_ms),
            reason: Some(self.reason(digest, here, space.filter(|space| space.free_bytes < size_bytes))),
        }
    }

    /// `too_little` is the room there is, if the blob does not fit in it.
    fn reason(&self, digest: &Digest, here: bool, too_little: Option<Space>) -> String {
        if !here && self.parts.blobs.fills().iter().any(|fill| fill.digest == *digest) {
            return "fill in flight".to_owned();
        }
        let holders = self.parts.tier.holders(digest.as_str());
        let own = holders.iter().position(|holder| *holder == self.parts.tier.own());
        match (own, here) {
            (Some(rank), true) => format!("copy {} of {}", rank + 1, holders.len()),
            (Some(rank), false) => {
                let why = too_little.map_or_else(String::new, |space| format!(": {}", does_not_fit(space)));
                format!("copy {} of {} is missing here{why}", rank + 1, holders.len())
            }
            (None, true) => "an extra copy, kept since it was asked for here".to_owned(),
            (None, false) => {
                let names: Vec<_> = holders.iter().map(|holder| format!("node-{holder}")).collect();
                format!("placed on {}", names.join(" and "))
            }
        }
    }
}

/// Why a blob that does not fit in `space` is not here.
pub(super) fn does_not_fit(space: Space) -> String {
    let Space {
        free_bytes,
        total_bytes,
        ..
    } = space;
    match free_bytes {
        0 => "disk full".to_owned(),
        _ => format!("disk too small, {free_bytes} of {total_bytes} bytes are free"),
    }
}

fn full_name(repository: &Repository, reference: &ManifestReference) -> String {
    match reference {
        ManifestReference::Tag(tag) => format!("{repository}:{tag}"),
        ManifestReference::Digest(digest) => format!("{repository}@{digest}"),
    }
}
