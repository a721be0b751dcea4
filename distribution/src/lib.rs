//! The server side of the OCI distribution protocol over HTTP/1.1, behind the [`Registry`] port.
//!
//! A cache node, the proxy and the fake registry of the tests each implement [`Registry`] in the words of `oci`
//! and hand it to a [`Server`] with a bound listener. Everything about the wire is decided here, once: routes,
//! status codes, error documents, ranges, validators, framing, bounds and shutdown.
//!
//! It deliberately knows nothing of caches, sources or storage, and it never answers 429: container runtimes
//! retry that at once and without end.

mod body;
mod conditional;
mod connection;
mod error;
pub mod header;
mod incoming;
mod limits;
mod notes;
mod query;
mod registry;
mod response;
mod routes;
mod server;
mod service;

pub use body::Body;
pub use error::RegistryError;
pub use incoming::Incoming;
pub use limits::Limits;
pub use notes::{CacheIndex, CacheIndexError, Notes, Source, Warning};
pub use query::{BlobQuery, Client, ManifestQuery, PeerCertificate, ReferrersQuery, RequestContext, TagsQuery};
pub use registry::{
    BlobAnswer, BlobReader, BlobStream, InMemoryBlob, ManifestAnswer, ReferrersAnswer, Registry, TagList, UnreadBlob,
};
pub use routes::{NoRoutes, Routes};
pub use server::{Server, ServerHandle};
pub use service::Protocol;
