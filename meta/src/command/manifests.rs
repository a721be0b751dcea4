//! Commands about manifests and what may be read through which repository.

use minicbor::{Decode, Encode};
use oci::{Digest, MediaType, Repository, Tag};

use crate::record::ManifestReferences;

/// Largest manifest whose bytes the state holds. Larger ones are stored as a blob of the same digest.
pub const MANIFEST_INLINE_BYTES_MAX: usize = 64 << 10;
/// Most blobs and children one manifest may name: bounds the records one entry touches. Images have at most some 130
/// layers, large indexes some 100 entries; what names more is served without being kept.
pub const REFERENCES_MAX: usize = 1024;

/// Stores a manifest and links it, the blobs and the children it names to the repository it came from.
///
/// Answers [`Outcome::ManifestStored`](crate::Outcome::ManifestStored), also if it was known.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct PutManifest {
    /// Where it came from.
    #[cbor(n(0), with = "crate::codec::repository")]
    pub repository: Repository,
    /// Digest of its bytes.
    #[cbor(n(1), with = "crate::codec::text")]
    pub digest: Digest,
    /// What it was served as.
    #[cbor(n(2), with = "crate::codec::text")]
    pub media_type: MediaType,
    /// Its bytes, or what they say.
    #[n(3)]
    pub content: ManifestContent,
    /// The tag that upstream says it is, if it was fetched by one.
    #[n(4)]
    pub candidate_of: Option<Candidate>,
}

/// What a manifest holds.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum ManifestContent {
    /// The exact bytes, at most [`MANIFEST_INLINE_BYTES_MAX`]; what they refer to is read from them.
    #[n(0)]
    Inline {
        /// The bytes the digest covers.
        #[cbor(n(0), with = "minicbor::bytes")]
        bytes: Vec<u8>,
    },
    /// The bytes are stored as a blob of the same digest; the proposer has read them.
    #[n(1)]
    Blob {
        /// Their length.
        #[n(0)]
        size: u64,
        /// What they refer to, by [`ManifestReferences::of`].
        #[n(1)]
        references: ManifestReferences,
    },
}

/// A tag that upstream says is the manifest being stored.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Candidate {
    /// Which tag of the repository.
    #[cbor(n(0), with = "crate::codec::text")]
    pub tag: Tag,
    /// `ETag` of upstream's answer.
    #[n(1)]
    pub upstream_etag: Option<String>,
}

/// Says that everything a manifest needs is stored.
///
/// Rejected with [`Rejected::MissingBlobs`](crate::Rejected::MissingBlobs) while it is not. Naming the children of an
/// index completes those that are not Complete yet in the same entry.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct CompleteManifest {
    /// Which manifest.
    #[cbor(n(0), with = "crate::codec::text")]
    pub digest: Digest,
    /// For an index: the children it is to be Complete for, beside those it is already.
    #[cbor(n(1), with = "crate::codec::text")]
    pub children: Vec<Digest>,
}

/// Lets a repository read a blob or manifest that is known already, after upstream confirmed that it has it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Link {
    /// Which repository.
    #[cbor(n(0), with = "crate::codec::repository")]
    pub repository: Repository,
    /// What it may read.
    #[cbor(n(1), with = "crate::codec::text")]
    pub digest: Digest,
}
