//! The port [`Supply`]: everything a pull may ask of the cache tier and of source registries.

pub(crate) mod network;
#[cfg(test)]
pub(crate) mod scripted;

use std::time::Duration;

use bytes::Bytes;
use distribution::{CacheIndex, ManifestAnswer, ReferrersAnswer, Source, TagList};
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use oci::{Digest, ManifestReference, Repository, Tag};
use proto::access::{SourceAuthorization, TierFacts};

use crate::pull::Failure;

/// One place to ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Supplier {
    /// A cache node, by its position in the configuration.
    Node(usize),
    /// The source registry of what is asked for.
    Upstream,
}

/// Frames of a body in order. After an error nothing follows.
pub(crate) type Frames = BoxStream<'static, Result<Bytes, Failure>>;

/// Asks one supplier one thing, once.
///
/// Duties of an implementation:
/// - Every wait ends: a node that is silent and does not answer a ping within about two seconds is
///   [`Failure::Unreachable`]; one that lives is waited for as long as its own limit for a silent source, and a
///   source registry that makes no progress for 30 s is [`Failure::SourceSilent`]. The same holds between frames.
/// - Retries within one call are the implementation's; the caller asks each supplier once until bytes have moved.
/// - Manifests come with their digest checked against their bytes.
/// - Dropping a future or a stream gives its connection back or closes it.
pub(crate) trait Supply: Send + Sync + 'static {
    /// Fetches a manifest, or what is known of it.
    fn manifest<'a>(&'a self, from: Supplier, ask: &'a ManifestAsk) -> Found<'a, ManifestAnswer>;

    /// Opens a blob at an offset.
    fn blob<'a>(&'a self, from: Supplier, ask: &'a BlobAsk, part: Part) -> Found<'a, OpenBlob>;

    /// Asks for a blob's length without its bytes.
    fn stat<'a>(&'a self, from: Supplier, ask: &'a BlobAsk) -> Found<'a, BlobStat>;

    /// Lists tags.
    fn tags<'a>(&'a self, from: Supplier, ask: &'a TagsAsk) -> Found<'a, TagList>;

    /// Lists what refers to a manifest. [`Failure::Absent`] if the source registry does not know how.
    fn referrers<'a>(&'a self, from: Supplier, ask: &'a ReferrersAsk) -> Found<'a, ReferrersAnswer>;

    /// Whether the supplier checks the bytes itself and sends them over an authenticated link.
    fn trusts(&self, supplier: Supplier) -> bool;

    /// Asks a node for what the tier knows, within a second.
    fn facts(&self, node: usize) -> Found<'_, TierFacts>;

    /// Asks a node for a way to read a repository at its source, within `deadline`. [`Failure::Denied`] if this machine
    /// may not use the repository.
    fn authorization<'a>(
        &'a self,
        node: usize,
        repository: &'a Repository,
        deadline: Duration,
    ) -> Found<'a, SourceAuthorization>;

    /// Whether a node answers at all, within a second.
    fn ping(&self, node: usize) -> BoxFuture<'_, bool>;
}

/// What asking comes to.
pub(crate) type Found<'a, T> = BoxFuture<'a, Result<T, Failure>>;

/// A manifest to find.
#[derive(Debug, Clone)]
pub(crate) struct ManifestAsk {
    pub(crate) repository: Repository,
    pub(crate) reference: ManifestReference,
    /// Only its digest, length and media type are wanted.
    pub(crate) head: bool,
    /// The newest token seen for the tag.
    pub(crate) cache_index: Option<CacheIndex>,
}

/// A blob to find.
#[derive(Debug, Clone)]
pub(crate) struct BlobAsk {
    pub(crate) repository: Repository,
    pub(crate) digest: Digest,
}

/// Which bytes of a blob: `start..end`, or to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) start: u64,
    pub(crate) end: Option<u64>,
}

impl Part {
    /// All of it.
    pub(crate) const WHOLE: Self = Self { start: 0, end: None };
}

/// A blob whose bytes are on their way.
pub(crate) struct OpenBlob {
    /// Length of the whole blob in bytes, where the supplier told.
    pub(crate) size: Option<u64>,
    /// Offset of the first byte that will come; at most the one asked for, less if the supplier ignores ranges.
    pub(crate) start: u64,
    /// The bytes.
    pub(crate) frames: Frames,
    /// Where the supplier has them from.
    pub(crate) source: Source,
}

/// What is known of a blob without its bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BlobStat {
    /// Length in bytes, where the supplier told.
    pub(crate) size: Option<u64>,
    /// Where the supplier has it from.
    pub(crate) source: Source,
}

/// Tags to list.
#[derive(Debug, Clone)]
pub(crate) struct TagsAsk {
    pub(crate) repository: Repository,
    pub(crate) limit: Option<usize>,
    pub(crate) last: Option<Tag>,
}

/// Referrers to list.
#[derive(Debug, Clone)]
pub(crate) struct ReferrersAsk {
    pub(crate) repository: Repository,
    pub(crate) digest: Digest,
    pub(crate) artifact_type: Option<String>,
}
