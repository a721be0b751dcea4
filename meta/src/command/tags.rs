//! Commands about tags.

use minicbor::{Decode, Encode};
use oci::{Digest, Repository, Tag};

/// Records what upstream says a tag is, once the manifest is stored.
///
/// The candidate becomes the serving digest by [`PromoteTag`]. Naming the serving digest drops the candidate.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct SetCandidate {
    /// Which repository.
    #[cbor(n(0), with = "crate::codec::repository")]
    pub repository: Repository,
    /// Which tag of it.
    #[cbor(n(1), with = "crate::codec::text")]
    pub tag: Tag,
    /// What upstream says it is.
    #[cbor(n(2), with = "crate::codec::text")]
    pub digest: Digest,
    /// `ETag` of upstream's answer.
    #[n(3)]
    pub upstream_etag: Option<String>,
    /// What the tag served when upstream was asked; rejected if it serves something else by now.
    #[cbor(n(4), with = "crate::codec::text", default)]
    pub expected_serving: Option<Digest>,
}

/// Makes the candidate of a tag the digest it serves.
///
/// Rejected unless it still is the candidate and is Complete for the children named.
/// Answers [`Outcome::TagPromoted`](crate::Outcome::TagPromoted) with the tag's new monotonic token.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct PromoteTag {
    /// Which repository.
    #[cbor(n(0), with = "crate::codec::repository")]
    pub repository: Repository,
    /// Which tag of it.
    #[cbor(n(1), with = "crate::codec::text")]
    pub tag: Tag,
    /// The candidate.
    #[cbor(n(2), with = "crate::codec::text")]
    pub candidate: Digest,
    /// For an index: the children that were asked for.
    #[cbor(n(3), with = "crate::codec::text")]
    pub children: Vec<Digest>,
}

/// Records that upstream was asked for a known tag. Propose it at most once a coarse interval, not once a pull.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct TagChecked {
    /// Which repository.
    #[cbor(n(0), with = "crate::codec::repository")]
    pub repository: Repository,
    /// Which tag of it.
    #[cbor(n(1), with = "crate::codec::text")]
    pub tag: Tag,
    /// When upstream was asked, milliseconds since the Unix epoch; later than the leader's time counts as that.
    #[n(2)]
    pub at_ms: u64,
    /// What came of it.
    #[n(3)]
    pub check: TagCheck,
}

/// What came of asking upstream for a tag.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum TagCheck {
    /// It still is the serving digest: the candidate, if there was one, is dropped.
    #[n(0)]
    Confirmed {
        /// What upstream says it is; rejected unless it is what the tag serves.
        #[cbor(n(0), with = "crate::codec::text")]
        digest: Digest,
        /// `ETag` of upstream's answer.
        #[n(1)]
        upstream_etag: Option<String>,
    },
    /// No usable answer: the tag is stale from then on.
    #[n(1)]
    Failed,
}
