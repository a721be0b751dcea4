//! What the state has of an image, measured against what is wanted of it. Pure reads.

use std::collections::BTreeMap;

use meta::{Completeness, Gen, ManifestRecord, Platform, Read, ReadError, TagRecord, view};
use oci::{Digest, ImageReference, ManifestReference};

use super::platforms;
use crate::whole;

/// Indexes followed within indexes.
const NESTING_MAX: u32 = 3;

/// What the state has of one image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Assessed {
    /// Wanted manifests that are known, the image's own first.
    pub(super) known: Vec<Digest>,
    /// Wanted manifests nobody has fetched.
    pub(super) missing: Vec<Digest>,
    /// Every blob of the known ones.
    pub(super) blobs: BTreeMap<Digest, WantedBlob>,
    /// Everything wanted is Complete.
    pub(super) is_whole: bool,
    /// Something wanted was Complete until a blob of it was lost.
    pub(super) is_degraded: bool,
}

/// A blob that is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct WantedBlob {
    pub(super) size_bytes: u64,
    /// Which writing of it is Present.
    pub(super) present: Option<Gen>,
}

/// What the state says of a reference.
#[derive(Debug, Clone, Default)]
pub(super) struct Resolved {
    /// The tag, where it is one that is known.
    pub(super) tag: Option<TagRecord>,
    /// What is to be filled: what the source says it is.
    pub(super) to_fill: Option<Digest>,
    /// What is served without asking the source.
    pub(super) served: Option<Digest>,
}

/// Resolves a reference.
///
/// # Errors
/// [`ReadError`] if the state cannot be read.
pub(super) fn resolve(state: &impl Read, reference: &ImageReference) -> Result<Resolved, ReadError> {
    let tag = match reference.manifest() {
        ManifestReference::Digest(digest) => {
            return Ok(Resolved {
                tag: None,
                to_fill: Some(digest.clone()),
                served: Some(digest),
            });
        }
        ManifestReference::Tag(tag) => tag,
    };
    let Some(id) = view::repository_id(state, &reference.repository)? else {
        return Ok(Resolved::default());
    };
    let Some(record) = view::tag(state, id, &tag)? else {
        return Ok(Resolved::default());
    };
    Ok(Resolved {
        to_fill: record.candidate.clone().or_else(|| record.serving.clone()),
        served: whole::newest(state, &record)?,
        tag: Some(record),
    })
}

/// Measures the image `digest` of a repository against the platforms wanted.
///
/// # Errors
/// [`ReadError`] if the state cannot be read.
pub(super) fn assess(
    state: &impl Read,
    reference: &ImageReference,
    digest: &Digest,
    wanted: &[Platform],
) -> Result<Assessed, ReadError> {
    let mut assessed = Assessed {
        is_whole: true,
        ..Assessed::default()
    };
    let linked = match view::repository_id(state, &reference.repository)? {
        Some(id) => view::is_linked(state, id, digest)?,
        None => false,
    };
    if linked {
        assessed.look(state, digest, wanted, NESTING_MAX)?;
    } else {
        assessed.lacks(digest);
    }
    Ok(assessed)
}

impl Assessed {
    fn lacks(&mut self, digest: &Digest) {
        self.missing.push(digest.clone());
        self.is_whole = false;
    }

    fn look(&mut self, state: &impl Read, digest: &Digest, wanted: &[Platform], depth: u32) -> Result<(), ReadError> {
        let Some(record) = view::manifest(state, digest)? else {
            self.lacks(digest);
            return Ok(());
        };
        self.known.push(digest.clone());
        self.is_degraded |= record.completeness == Completeness::Degraded;
        let children: Vec<Digest> = platforms::children(&record.references.children, wanted)
            .into_iter()
            .map(|child| child.digest.clone())
            .collect();
        self.is_whole &= record.is_complete() && record.is_complete_for(&children);
        self.add_blobs(state, digest, &record)?;
        if depth > 0 {
            for child in &children {
                self.look(state, child, wanted, depth - 1)?;
            }
        }
        Ok(())
    }

    fn add_blobs(&mut self, state: &impl Read, digest: &Digest, record: &ManifestRecord) -> Result<(), ReadError> {
        let own = (!record.inline).then_some((digest, record.size));
        let required = record.references.blobs.iter().filter(|blob| blob.required);
        for (blob, size_bytes) in own.into_iter().chain(required.map(|blob| (&blob.digest, blob.size))) {
            let present = view::blob(state, blob)?.and_then(|blob| blob.present());
            self.blobs.insert(blob.clone(), WantedBlob { size_bytes, present });
        }
        Ok(())
    }

    /// Wanted blobs that nobody has.
    pub(super) fn absent(&self) -> impl Iterator<Item = (&Digest, u64)> {
        let absent = self.blobs.iter().filter(|(_, blob)| blob.present.is_none());
        absent.map(|(digest, blob)| (digest, blob.size_bytes))
    }
}
