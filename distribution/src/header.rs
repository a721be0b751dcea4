//! Names of the headers the distribution protocol and our own parts add to HTTP's.
//!
//! Both directions use these: a server answers with them, and a client inside the tier asks with them.

use http::HeaderName;

/// Digest of the manifest or blob in an answer. Distribution-spec "Pulling manifests".
pub const DOCKER_CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

/// `registry/2.0` on every `/v2` answer; old Docker engines insist on it.
pub const DOCKER_DISTRIBUTION_API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");

/// Echo of the `ns` parameter. Distribution-spec "Registry Proxying".
pub const OCI_NAMESPACE: HeaderName = HeaderName::from_static("oci-namespace");

/// Filters that were applied to a referrers answer. Distribution-spec "Listing Referrers".
pub const OCI_FILTERS_APPLIED: HeaderName = HeaderName::from_static("oci-filters-applied");

/// How many nodes of the tier a request already travelled; absent means none.
pub const X_KUIK_HOP: HeaderName = HeaderName::from_static("x-kuik-hop");

/// The monotonic tag token, [`CacheIndex`](crate::CacheIndex), in requests and answers.
pub const X_CACHE_INDEX: HeaderName = HeaderName::from_static("x-cache-index");

/// Where an answer's bytes came from, [`Source`](crate::Source).
pub const X_KUIK_SOURCE: HeaderName = HeaderName::from_static("x-kuik-source");

/// The machine a proxy says it runs on. The contract is `proto`'s `access::NODE_HEADER`.
pub const KUIK_NODE: HeaderName = HeaderName::from_static("kuik-node");
