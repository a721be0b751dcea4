//! The port [`Registry`]: what a server must be able to answer, in oci's words.

mod blob;

use std::future::Future;

use bytes::Bytes;
use oci::{Digest, MediaType, Tag};

pub use blob::{BlobAnswer, BlobReader, BlobStream, InMemoryBlob, UnreadBlob};

use crate::error::RegistryError;
use crate::notes::Notes;
use crate::query::{BlobQuery, ManifestQuery, ReferrersQuery, TagsQuery};

/// Answers the reads of the distribution protocol.
///
/// Duties of an implementation:
/// - Every wait is bounded by the implementation, which knows whether its source makes progress; the server only
///   ends connections on which nothing at all was written for [`Limits::silence`](crate::Limits).
/// - A future is dropped when its client goes away. Work that others wait for must not live in it.
/// - Names arrive as in the path: telling a host segment from a repository is the implementation's.
/// - `head` asks for the same answer, judged the same way, without reading the bytes.
pub trait Registry: Send + Sync + 'static {
    /// Finds a manifest by tag or digest. The bytes are verbatim what the digest covers.
    fn manifest(&self, query: ManifestQuery) -> impl Future<Output = Result<ManifestAnswer, RegistryError>> + Send;

    /// Finds a blob. Returning only means that it is there or on its way; bytes come from the answer's reader.
    fn blob(&self, query: BlobQuery) -> impl Future<Output = Result<BlobAnswer, RegistryError>> + Send;

    /// Lists tags in lexical order. Unsupported unless implemented.
    fn tags(&self, _query: TagsQuery) -> impl Future<Output = Result<TagList, RegistryError>> + Send {
        async { Err(RegistryError::Unsupported { what: "listing tags" }) }
    }

    /// Lists what refers to a manifest. Not found unless implemented, which sends clients to the tag schema.
    fn referrers(&self, _query: ReferrersQuery) -> impl Future<Output = Result<ReferrersAnswer, RegistryError>> + Send {
        async { Err(RegistryError::NameUnknown) }
    }
}

/// A manifest, or for `head` what would be said about it.
#[derive(Debug, Clone)]
pub struct ManifestAnswer {
    /// Sent as it is; parameters belong to whoever pushed the manifest.
    pub media_type: MediaType,
    /// Digest of the bytes.
    pub digest: Digest,
    /// Length of the manifest in bytes, also when `bytes` is empty.
    pub size: u64,
    /// The manifest; may be empty in an answer to `head`.
    pub bytes: Bytes,
    /// Remarks for the client.
    pub notes: Notes,
}

/// One page of tags.
#[derive(Debug, Clone, Default)]
pub struct TagList {
    /// In lexical order.
    pub tags: Vec<Tag>,
    /// More tags follow the last of these. Ignored when `tags` is empty.
    pub more: bool,
    /// Remarks for the client.
    pub notes: Notes,
}

/// What refers to a manifest.
#[derive(Debug, Clone)]
pub struct ReferrersAnswer {
    /// An image index, serialized.
    pub index: Bytes,
    /// The `artifactType` filter was applied.
    pub filtered: bool,
    /// Remarks for the client.
    pub notes: Notes,
}

impl ReferrersAnswer {
    /// The answer for a subject that nothing refers to, which is also the answer for an unknown repository.
    pub fn none() -> Self {
        const EMPTY: &[u8] =
            br#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#;
        Self {
            index: Bytes::from_static(EMPTY),
            filtered: false,
            notes: Notes::default(),
        }
    }
}
