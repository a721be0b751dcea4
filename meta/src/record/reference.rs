//! What manifests refer to, and the inverse of it.
//!
//! Keys of both inverse families: the digest referred to, `\0`, `h` (held) or `n` (named only), `\0`, the digest that
//! refers. A *held* reference is one a Complete manifest relies on, so losing what it names starts with its holders;
//! the letter comes first so that they are found without reading the others.

use std::collections::{BTreeMap, BTreeSet};

use minicbor::{Decode, Encode};
use oci::{Descriptor, Digest, Manifest, MediaType};

use super::{bad_key, text_of_key};
use crate::family::Family;
use crate::read::ReadError;

/// Everything a manifest refers to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct ManifestReferences {
    /// Config and layers; each digest once.
    #[n(0)]
    pub blobs: Vec<BlobReference>,
    /// The manifests an index lists; each digest once.
    #[n(1)]
    pub children: Vec<ChildReference>,
    /// The manifest it is about.
    #[cbor(n(2), with = "crate::codec::text", default)]
    pub subject: Option<Digest>,
}

/// A blob that a manifest names.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct BlobReference {
    /// Its digest.
    #[cbor(n(0), with = "crate::codec::text")]
    pub digest: Digest,
    /// Its length in bytes, as the manifest has it.
    #[n(1)]
    pub size: u64,
    /// False for foreign and non-distributable layers, which a registry need not have.
    #[n(2)]
    pub required: bool,
}

/// A manifest that an index lists.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct ChildReference {
    /// Its digest.
    #[cbor(n(0), with = "crate::codec::text")]
    pub digest: Digest,
    /// Its length in bytes, as the index has it.
    #[n(1)]
    pub size: u64,
    /// Its type, as the index has it.
    #[cbor(n(2), with = "crate::codec::text")]
    pub media_type: MediaType,
    /// What it is for, where the index says so.
    #[n(3)]
    pub platform: Option<Platform>,
}

/// The platform of an index entry.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub struct Platform {
    /// Operating system (`linux`).
    #[n(0)]
    pub os: String,
    /// Processor architecture (`amd64`).
    #[n(1)]
    pub architecture: String,
    /// Variant of the architecture (`v7`).
    #[n(2)]
    pub variant: Option<String>,
}

impl ManifestReferences {
    /// What `manifest` refers to.
    ///
    /// Entries of an index that are no manifests (BuildKit's caches list layers there) count as blobs; they are
    /// required only where the index lists nothing else, since an image never runs from them.
    pub fn of(manifest: &Manifest) -> Self {
        let is_child = |entry: &Descriptor| entry.media_type.is_index() || entry.media_type.is_manifest();
        let (children, layers): (Vec<_>, Vec<_>) = manifest.children().iter().partition(|entry| is_child(entry));
        let layers_required = children.is_empty();
        let blobs = manifest.blobs().map(|blob| (blob, true));
        let layers = layers.into_iter().map(|layer| (layer, layers_required));
        Self {
            blobs: distinct_blobs(blobs.chain(layers)),
            children: distinct_children(&children),
            subject: manifest.subject().map(|subject| subject.digest.clone()),
        }
    }

    /// How many digests it names, the subject aside.
    pub(crate) fn len(&self) -> usize {
        self.blobs.len() + self.children.len()
    }

    /// True if no digest is named twice or is the manifest's own.
    pub(crate) fn is_well_formed(&self, own_digest: &Digest) -> bool {
        let blobs: BTreeSet<_> = self.blobs.iter().map(|blob| &blob.digest).collect();
        let children: BTreeSet<_> = self.children.iter().map(|child| &child.digest).collect();
        let own = blobs.contains(own_digest) || children.contains(own_digest);
        blobs.len() == self.blobs.len() && children.len() == self.children.len() && !own
    }
}

/// Each blob once, in the order of the manifest; required if it is anywhere.
fn distinct_blobs<'a>(blobs: impl Iterator<Item = (&'a Descriptor, bool)>) -> Vec<BlobReference> {
    let mut references: Vec<BlobReference> = Vec::new();
    let mut places: BTreeMap<&Digest, usize> = BTreeMap::new();
    for (blob, required) in blobs {
        let required = required && !blob.may_be_absent();
        let place = *places.entry(&blob.digest).or_insert(references.len());
        match references.get_mut(place) {
            Some(known) => known.required |= required,
            None => references.push(BlobReference {
                digest: blob.digest.clone(),
                size: blob.size,
                required,
            }),
        }
    }
    references
}

/// Each child once, in the order of the index.
fn distinct_children(children: &[&Descriptor]) -> Vec<ChildReference> {
    let mut seen = BTreeSet::new();
    let first = children.iter().filter(|child| seen.insert(&child.digest));
    let reference = |child: &&Descriptor| ChildReference {
        digest: child.digest.clone(),
        size: child.size,
        media_type: child.media_type.clone(),
        platform: child.platform.as_ref().map(|platform| Platform {
            os: platform.os.clone(),
            architecture: platform.architecture.clone(),
            variant: platform.variant.clone(),
        }),
    };
    first.map(reference).collect()
}

/// Whether a reference is one that a Complete manifest relies on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Held {
    Yes,
    No,
}

/// A key of [`Family::BlobReferences`] or [`Family::ManifestParents`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ReferenceKey {
    pub(crate) to: Digest,
    pub(crate) held: Held,
    pub(crate) from: Digest,
}

impl Held {
    pub(crate) fn when(condition: bool) -> Self {
        if condition { Self::Yes } else { Self::No }
    }

    const fn letter(self) -> u8 {
        match self {
            Self::Yes => b'h',
            Self::No => b'n',
        }
    }
}

impl ReferenceKey {
    /// What the keys of all references to `to` begin with.
    pub(crate) fn prefix(to: &Digest) -> Vec<u8> {
        [to.as_str().as_bytes(), b"\0"].concat()
    }

    /// What the keys of all held references to `to` begin with.
    pub(crate) fn held_prefix(to: &Digest) -> Vec<u8> {
        [to.as_str().as_bytes(), &[0, Held::Yes.letter(), 0]].concat()
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let middle = [0, self.held.letter(), 0];
        [self.to.as_str().as_bytes(), &middle, self.from.as_str().as_bytes()].concat()
    }

    pub(crate) fn decode(family: Family, key: &[u8]) -> Result<Self, ReadError> {
        let mut parts = key.split(|byte| *byte == 0);
        let (to, letter, from) = match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(to), Some(letter), Some(from), None) => (to, letter, from),
            _ => return Err(bad_key(family)),
        };
        let held = match letter {
            b"h" => Held::Yes,
            b"n" => Held::No,
            _ => return Err(bad_key(family)),
        };
        Ok(Self {
            to: text_of_key(family, to)?,
            held,
            from: text_of_key(family, from)?,
        })
    }
}
