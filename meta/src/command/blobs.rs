//! Commands about blobs.

use minicbor::{Decode, Encode};
use oci::{Digest, Repository};

use crate::generation::Gen;
use crate::id::NodeId;

/// Says that the bytes of one generation are durable on as many nodes as the policy asks for.
///
/// The first committed generation of a digest wins; the writer of another one is told
/// [`Outcome::AlreadyPresent`](crate::Outcome::AlreadyPresent) and drops its own.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct CommitBlob {
    /// Digest of the bytes.
    #[cbor(n(0), with = "crate::codec::text")]
    pub digest: Digest,
    /// Their length.
    #[n(1)]
    pub size: u64,
    /// Which writing of them.
    #[cbor(n(2), with = "crate::codec::text")]
    pub generation: Gen,
    /// Where they came from; it may read them from now on.
    #[cbor(n(3), with = "crate::codec::repository")]
    pub repository: Repository,
}

/// Says that generations of earlier boots of a node, as far as they are not committed, never will be.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct AbandonGens {
    /// Which node.
    #[n(0)]
    pub node: NodeId,
    /// Generations of boots below this one are meant.
    #[n(1)]
    pub boots_below: u64,
}

/// Says that no holder has the bytes of a generation any more.
///
/// Manifests that rely on the blob stop being Complete first, a bounded number per entry: while the answer is
/// [`Outcome::LossPending`](crate::Outcome::LossPending), propose it again under a new request id.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct MarkLost {
    /// Which blob.
    #[cbor(n(0), with = "crate::codec::text")]
    pub digest: Digest,
    /// Which writing of it.
    #[cbor(n(1), with = "crate::codec::text")]
    pub generation: Gen,
}
