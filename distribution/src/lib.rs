//! The server side of the OCI distribution protocol over HTTP/1.1, behind the [`Registry`] port.
//!
//! A cache node, the proxy and the fake registry of the tests each implement [`Registry`] in the words of `oci`.
//!
//! It deliberately knows nothing of caches, sources or storage, and it never answers 429: container runtimes
//! retry that at once and without end.

mod error;
pub mod header;
mod notes;
mod query;
mod registry;

pub use error::RegistryError;
pub use notes::{CacheIndex, CacheIndexError, Notes, Source, Warning};
pub use query::{BlobQuery, Client, ManifestQuery, ReferrersQuery, RequestContext, TagsQuery};
pub use registry::{
    BlobAnswer, BlobReader, BlobStream, InMemoryBlob, ManifestAnswer, ReferrersAnswer, Registry, TagList, UnreadBlob,
};
