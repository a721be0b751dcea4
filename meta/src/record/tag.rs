//! Tags.
//!
//! Key: big-endian repository id, then the tag.

use minicbor::{Decode, Encode};
use oci::{Digest, Tag};

use super::{Record, bad_key, text_of_key};
use crate::family::Family;
use crate::id::RepositoryId;
use crate::read::ReadError;

/// How many earlier digests a tag remembers: enough to roll back over a bad week of releases.
pub const TAG_HISTORY_MAX: usize = 16;

/// What a tag of a repository means.
///
/// At least one of `serving` and `candidate` is set, and they differ.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct TagRecord {
    /// What is answered when upstream does not: Complete when it was promoted.
    #[cbor(n(0), with = "crate::codec::text", default)]
    pub serving: Option<Digest>,
    /// What upstream says now, while it is not Complete yet.
    #[cbor(n(1), with = "crate::codec::text", default)]
    pub candidate: Option<Digest>,
    /// `ETag` of upstream's latest answer.
    #[n(2)]
    pub upstream_etag: Option<String>,
    /// When upstream last told what the tag is, in logical milliseconds.
    #[n(3)]
    pub checked_at_ms: u64,
    /// Since when upstream cannot be asked, in logical milliseconds.
    #[n(4)]
    pub stale_since_ms: Option<u64>,
    /// The cluster's count of serving changes at this tag's latest one; its monotonic token. 0 before the first.
    #[n(5)]
    pub serving_index: u64,
    /// What it served before, newest first.
    #[n(6)]
    pub history: Vec<TagHistoryEntry>,
}

/// A digest that a tag served once.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct TagHistoryEntry {
    /// What was served.
    #[cbor(n(0), with = "crate::codec::text")]
    pub digest: Digest,
    /// When it was replaced, in logical milliseconds.
    #[n(1)]
    pub replaced_at_ms: u64,
}

impl TagRecord {
    pub(crate) fn key(repository: RepositoryId, tag: &Tag) -> Vec<u8> {
        [repository.to_key().as_slice(), tag.as_str().as_bytes()].concat()
    }

    pub(crate) fn split_key(key: &[u8]) -> Result<(RepositoryId, Tag), ReadError> {
        let (id, tag) = key.split_first_chunk::<8>().ok_or_else(|| bad_key(Self::FAMILY))?;
        let id = RepositoryId::from_key(id).ok_or_else(|| bad_key(Self::FAMILY))?;
        Ok((id, text_of_key(Self::FAMILY, tag)?))
    }
}

impl Record for TagRecord {
    const FAMILY: Family = Family::Tags;
}
