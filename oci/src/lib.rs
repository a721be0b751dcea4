//! The vocabulary of the OCI specifications: parse, validate, print.
//!
//! Everything that enters from a network, a file or a user becomes one of these types at the edge and is
//! trusted from there on. No IO, no async, no clock. Sources: OCI distribution-spec 1.1, image-spec 1.1,
//! and the `distribution/reference` grammar that container runtimes share.

mod descriptor;
mod digest;
mod endpoint;
mod error_code;
mod manifest;
mod media_type;
mod name;
mod range;
mod reference;
mod repository;
pub mod rewritten;
mod verifier;

pub use descriptor::{Descriptor, Platform};
pub use digest::{Algorithm, Digest, DigestError};
pub use endpoint::{Endpoint, EndpointError};
pub use error_code::{ErrorCode, ErrorDocument, ErrorEntry};
pub use manifest::{ImageIndex, ImageManifest, MANIFEST_SIZE_BYTES_MAX, Manifest, ManifestError, RawManifest};
pub use media_type::{MediaType, MediaTypeError};
pub use name::{NameError, RepositoryName, SourceHost, Tag};
pub use range::{ByteRange, ContentRange, RangeError, RangeHeader, ResolvedRange};
pub use reference::{ImageReference, ManifestReference, ReferenceError};
pub use repository::Repository;
pub use verifier::{DigestMismatch, UnsupportedAlgorithm, Verifier};
