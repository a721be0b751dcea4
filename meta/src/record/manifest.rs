//! Manifests.
//!
//! Key: the digest. The exact bytes of a small one lie in [`Family::ManifestBytes`] under the same key, so that a
//! change of completeness does not rewrite them; a larger one's bytes are a blob of the same digest.

use minicbor::{Decode, Encode};
use oci::{Digest, MediaType};

use super::{Held, ManifestReferences, Record, ReferenceKey};
use crate::family::Family;

/// What is known of a manifest.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct ManifestRecord {
    /// What it was served as.
    #[cbor(n(0), with = "crate::codec::text")]
    pub media_type: MediaType,
    /// Length of its bytes.
    #[n(1)]
    pub size: u64,
    /// True if the state holds its bytes; else they are a blob.
    #[n(2)]
    pub inline: bool,
    /// What it refers to.
    #[n(3)]
    pub references: ManifestReferences,
    /// Whether all it needs is stored.
    #[n(4)]
    pub completeness: Completeness,
    /// How deep indexes are held below it: 0 for an image, one more than its deepest held child for an index.
    #[n(5)]
    pub nesting: u32,
}

/// Whether everything a manifest needs is stored.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Completeness {
    /// Stored, but nothing is promised of what it refers to.
    #[n(0)]
    Known,
    /// Every required blob is Present; of an index, also the children it is Complete for are Complete.
    #[n(1)]
    Complete {
        /// The children it is Complete for, sorted; empty for an image.
        #[cbor(n(0), with = "crate::codec::text")]
        children: Vec<Digest>,
    },
    /// Was Complete until something it needs was lost.
    #[n(2)]
    Degraded,
}

impl ManifestRecord {
    /// True if it is Complete and, for an index, so for each of `children`.
    pub fn is_complete_for(&self, children: &[Digest]) -> bool {
        match &self.completeness {
            Completeness::Complete { children: held } => children.iter().all(|child| held.binary_search(child).is_ok()),
            Completeness::Known | Completeness::Degraded => false,
        }
    }

    /// True if it is Complete, for an index: for some of its children.
    pub fn is_complete(&self) -> bool {
        self.is_complete_for(&[])
    }

    /// The blobs that must be Present while it is Complete; its own bytes among them if they are a blob.
    pub fn required_blobs<'a>(&'a self, own_digest: &'a Digest) -> impl Iterator<Item = &'a Digest> {
        let own = (!self.inline).then_some(own_digest);
        let named = self.references.blobs.iter().filter(|blob| blob.required);
        own.into_iter().chain(named.map(|blob| &blob.digest))
    }

    /// The children it is Complete for.
    pub fn held_children(&self) -> &[Digest] {
        match &self.completeness {
            Completeness::Complete { children } => children,
            Completeness::Known | Completeness::Degraded => &[],
        }
    }

    /// The inverse of every reference it makes, in the order of the manifest; its own bytes first if they are a blob.
    pub(crate) fn inverse<'a>(&'a self, own_digest: &'a Digest) -> impl Iterator<Item = (Family, ReferenceKey)> {
        let complete = self.is_complete();
        let key = move |to: &Digest, held| ReferenceKey {
            to: to.clone(),
            held: Held::when(held),
            from: own_digest.clone(),
        };
        let own = (!self.inline).then(|| (Family::BlobReferences, key(own_digest, complete)));
        let blobs = self.references.blobs.iter();
        let children = self.references.children.iter();
        own.into_iter()
            .chain(blobs.map(move |blob| (Family::BlobReferences, key(&blob.digest, complete && blob.required))))
            .chain(children.map(move |child| {
                let held = self.held_children().binary_search(&child.digest).is_ok();
                (Family::ManifestParents, key(&child.digest, held))
            }))
    }

    pub(crate) fn key(digest: &Digest) -> &[u8] {
        digest.as_str().as_bytes()
    }
}

impl Record for ManifestRecord {
    const FAMILY: Family = Family::Manifests;
}
