//! What applying a command answers.

use minicbor::{Decode, Encode};
use oci::Digest;

use crate::codec::{self, DecodeError};
use crate::feature_level::FeatureLevel;
use crate::generation::Gen;
use crate::id::{ClusterId, LogPosition, NodeId, RepositoryId};

/// The answer to a command; the same one on every replica and for every retry.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Outcome {
    /// Nothing was changed.
    #[n(0)]
    Rejected(#[n(0)] Rejected),
    /// The cluster exists, with these ids.
    #[n(1)]
    Initialized,
    /// The cluster has at least the level asked for.
    #[n(2)]
    FeatureLevelSet,
    /// The id that belongs to the nonce.
    #[n(3)]
    NodeRegistered {
        /// It.
        #[n(0)]
        id: NodeId,
    },
    /// The boot is recorded.
    #[n(4)]
    NodeBooted,
    /// The layout is the one proposed.
    #[n(5)]
    LayoutSet {
        /// Its version.
        #[n(0)]
        version: u64,
    },
    /// The manifest is stored and linked.
    #[n(6)]
    ManifestStored {
        /// Its repository.
        #[n(0)]
        repository: RepositoryId,
    },
    /// The generation is the one that counts.
    #[n(7)]
    BlobCommitted,
    /// Another generation was committed first; the repository was linked to it. The proposer's own copy is of no use.
    #[n(8)]
    AlreadyPresent {
        /// The one that counts.
        #[cbor(n(0), with = "crate::codec::text")]
        generation: Gen,
    },
    /// The generations are abandoned.
    #[n(9)]
    GensAbandoned,
    /// The manifest is Complete for what was asked.
    #[n(10)]
    ManifestCompleted,
    /// The blob is Lost.
    #[n(11)]
    BlobLost,
    /// Some manifests that rely on the blob stopped being Complete, more remain: propose again.
    #[n(12)]
    LossPending,
    /// The candidate is recorded, or is what the tag serves already.
    #[n(13)]
    CandidateSet,
    /// The tag serves the candidate.
    #[n(14)]
    TagPromoted {
        /// The tag's monotonic token.
        #[n(0)]
        serving_index: u64,
    },
    /// The check is recorded.
    #[n(15)]
    TagChecked,
    /// The repository may read the digest.
    #[n(16)]
    Linked,
    /// The desired images are as proposed.
    #[n(17)]
    DesiredChanged {
        /// More are to be dropped: propose an end again.
        #[n(0)]
        pending: bool,
    },
    /// It is noted, or the image is not desired any more.
    #[n(18)]
    DesiredNoted,
    /// The repository's visibility is recorded.
    #[n(19)]
    VisibilitySet,
    /// The grant is recorded.
    #[n(20)]
    Granted,
    /// The grants are forgotten.
    #[n(21)]
    Revoked,
    /// The grants are marked.
    #[n(22)]
    GrantsMarked,
    /// The credential is sealed with the new key.
    #[n(23)]
    Resealed,
    /// The placements are as proposed.
    #[n(24)]
    PlacementsSet,
    /// The hosts are known.
    #[n(25)]
    HostsKnown,
}

/// Why a command changed nothing.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, thiserror::Error)]
pub enum Rejected {
    /// Genesis has not happened.
    #[error("the cluster is not initialized")]
    #[n(0)]
    NotInitialized,
    /// There is a cluster already, of other ids.
    #[error("cluster {cluster_id} epoch {epoch} exists already")]
    #[n(1)]
    AlreadyInitialized {
        /// Its id.
        #[n(0)]
        cluster_id: ClusterId,
        /// Its epoch.
        #[n(1)]
        epoch: u64,
    },
    /// Not every node is known to understand the command. Wait until the cluster's level is raised.
    #[error("feature level {required} is needed, the cluster has {cluster}")]
    #[n(2)]
    FeatureLevelTooLow {
        /// What is needed.
        #[n(0)]
        required: FeatureLevel,
        /// What the cluster has.
        #[n(1)]
        cluster: FeatureLevel,
    },
    /// A node understands less than the level.
    #[error("a node understands less than feature level {level}")]
    #[n(3)]
    NodeTooOld {
        /// Which node; `None` for one that has no id yet, or if there is none.
        #[n(0)]
        node: Option<NodeId>,
        /// The level.
        #[n(1)]
        level: FeatureLevel,
    },
    /// The cluster's level cannot be lowered.
    #[error("feature level is {current} and cannot be lowered")]
    #[n(4)]
    FeatureLevelLowered {
        /// The cluster's level.
        #[n(0)]
        current: FeatureLevel,
    },
    /// No node has that id.
    #[error("node {node} is not registered")]
    #[n(5)]
    UnknownNode {
        /// The id.
        #[n(0)]
        node: NodeId,
    },
    /// The node's disk is an older copy of itself: treat it as a lost disk.
    #[error("node {node} went backwards: boot {boot_count} was recorded")]
    #[n(6)]
    NodeWentBackwards {
        /// Which node.
        #[n(0)]
        node: NodeId,
        /// Its latest recorded boot.
        #[n(1)]
        boot_count: u64,
        /// Where its log ended then.
        #[n(2)]
        last_log: Option<LogPosition>,
    },
    /// The layout changed meanwhile. Plan again from this one.
    #[error("the layout has version {version} by now")]
    #[n(7)]
    LayoutChanged {
        /// Its version.
        #[n(0)]
        version: u64,
    },
    /// A node in two slots, or too many slots.
    #[error("the layout names a node twice or has too many slots")]
    #[n(8)]
    LayoutInvalid,
    /// A field is longer than is kept.
    #[error("{field} is too long")]
    #[n(9)]
    FieldTooLong {
        /// Which.
        #[n(0)]
        field: String,
    },
    /// The digest's algorithm cannot be checked, so its content is not kept.
    #[error("the digest's algorithm cannot be verified")]
    #[n(10)]
    DigestUnverifiable,
    /// The bytes are not those of the digest.
    #[error("the content does not match its digest")]
    #[n(11)]
    DigestMismatch,
    /// The bytes are too many for the log: store them as a blob.
    #[error("the manifest is over {max} bytes", max = crate::MANIFEST_INLINE_BYTES_MAX)]
    #[n(12)]
    ManifestTooLarge,
    /// The bytes are not a manifest of their type, or name too much.
    #[error("the manifest cannot be read or names too much")]
    #[n(13)]
    ManifestUnreadable,
    /// The same bytes are stored under another type.
    #[error("the manifest is stored under another media type")]
    #[n(14)]
    MediaTypeConflict,
    /// No such manifest is stored.
    #[error("manifest {digest} is not stored")]
    #[n(15)]
    UnknownManifest {
        /// Its digest.
        #[cbor(n(0), with = "crate::codec::text")]
        digest: Digest,
    },
    /// Blobs are missing: fill them and ask again.
    #[error("{total} blobs are missing")]
    #[n(16)]
    MissingBlobs {
        /// Some of them, at most [`crate::MISSING_BLOBS_LISTED_MAX`].
        #[cbor(n(0), with = "crate::codec::text")]
        digests: Vec<Digest>,
        /// How many there are.
        #[n(1)]
        total: u64,
    },
    /// What was named is not a child of the index, or no child was named.
    #[error("the index has no such child")]
    #[n(17)]
    NotAChild,
    /// An index among the children is not Complete: complete it first.
    #[error("child index {digest} is not complete")]
    #[n(18)]
    ChildIncomplete {
        /// Its digest.
        #[cbor(n(0), with = "crate::codec::text")]
        digest: Digest,
    },
    /// Indexes within indexes, deeper than is kept.
    #[error("indexes are nested too deep")]
    #[n(19)]
    NestedTooDeep,
    /// The blob is known with another length, so one of the two is wrong.
    #[error("the blob is known with {known} bytes")]
    #[n(20)]
    SizeMismatch {
        /// The known length.
        #[n(0)]
        known: u64,
    },
    /// The generation must not be committed any more, or cannot exist yet. Write the bytes again under a new one.
    #[error("the generation is abandoned, lost or unknown")]
    #[n(21)]
    GenRefused,
    /// Another generation counts, or none.
    #[error("another generation counts")]
    #[n(22)]
    GenChanged {
        /// The one that is Present.
        #[cbor(n(0), with = "crate::codec::text", default)]
        current: Option<Gen>,
    },
    /// The repository does not have that tag.
    #[error("the tag is unknown")]
    #[n(23)]
    UnknownTag,
    /// The tag serves something else by now.
    #[error("the tag serves something else by now")]
    #[n(24)]
    ServingChanged {
        /// What it serves.
        #[cbor(n(0), with = "crate::codec::text", default)]
        serving: Option<Digest>,
    },
    /// The candidate is another one by now.
    #[error("the candidate is another one by now")]
    #[n(25)]
    CandidateChanged {
        /// The candidate.
        #[cbor(n(0), with = "crate::codec::text", default)]
        candidate: Option<Digest>,
    },
    /// The candidate is not Complete for what was asked.
    #[error("the candidate is not complete")]
    #[n(26)]
    NotComplete,
    /// Nothing stored has that digest or names it.
    #[error("nothing here has or names the digest")]
    #[n(27)]
    UnknownDigest,
    /// The repository may not read the manifest: it was not fetched through it.
    #[error("the manifest is not linked to the repository")]
    #[n(28)]
    NotLinked,
    /// A list in the command is longer, or what is kept more, than is allowed.
    #[error("too many {what}")]
    #[n(29)]
    TooMany {
        /// Of what.
        #[n(0)]
        what: String,
    },
    /// A desired image names a tag and a digest, or neither.
    #[error("an image is named by a tag or by a digest")]
    #[n(30)]
    ReferenceNotCanonical,
    /// No such credential is stored.
    #[error("the credential is unknown")]
    #[n(31)]
    UnknownCredential,
    /// The credential is sealed with another key by now.
    #[error("the credential is sealed with another key by now")]
    #[n(32)]
    KeyChanged,
}

impl Outcome {
    /// Its bytes.
    pub fn encode(&self) -> Vec<u8> {
        codec::to_vec(self)
    }

    /// Reads what [`Outcome::encode`] wrote.
    ///
    /// # Errors
    /// [`DecodeError`] for anything else.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        codec::from_slice("outcome", bytes)
    }

    /// The outcome, or why there is none.
    ///
    /// # Errors
    /// [`Rejected`].
    pub fn accepted(self) -> Result<Self, Rejected> {
        match self {
            Self::Rejected(reason) => Err(reason),
            outcome => Ok(outcome),
        }
    }
}

impl From<Rejected> for Outcome {
    fn from(reason: Rejected) -> Self {
        Self::Rejected(reason)
    }
}
