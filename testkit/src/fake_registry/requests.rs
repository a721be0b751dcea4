//! What a fake registry was asked.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::request::Parts;
use http::{HeaderMap, HeaderName, Method};
use oci::{Digest, Endpoint, ManifestReference, RepositoryName};

/// Path of the token endpoint.
pub(super) const TOKEN_PATH: &str = "/token";

/// Path before the digest of a blob on the port that redirects lead to.
pub(super) const CONTENT_PATH: &str = "/content/";

/// What a request is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// `/v2/`
    Base,
    /// A manifest by tag or digest.
    Manifest(ManifestReference),
    /// A blob.
    Blob(Digest),
    /// A tag list.
    Tags,
    /// The referrers of a manifest.
    Referrers(Digest),
    /// The token endpoint.
    Token,
    /// A blob where a redirect led.
    Content(Digest),
    /// Anything else.
    Other,
}

/// One request.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Its method.
    pub method: Method,
    /// Path and query.
    pub target: String,
    /// What it is about.
    pub route: Route,
    /// The repository it names.
    pub repository: Option<RepositoryName>,
    headers: HeaderMap,
}

impl Seen {
    pub(super) fn new(head: &Parts) -> Self {
        let path = head.uri.path();
        let endpoint = Endpoint::parse(path, head.uri.query())
            .ok()
            .map(|(endpoint, _)| endpoint);
        let repository = endpoint.as_ref().and_then(Endpoint::name).cloned();
        let route = match endpoint {
            Some(Endpoint::Base) => Route::Base,
            Some(Endpoint::Manifest { reference, .. }) => Route::Manifest(reference),
            Some(Endpoint::Blob { digest, .. }) => Route::Blob(digest),
            Some(Endpoint::TagsList { .. }) => Route::Tags,
            Some(Endpoint::Referrers { digest, .. }) => Route::Referrers(digest),
            Some(_) => Route::Other,
            None if path == TOKEN_PATH => Route::Token,
            None => match path.strip_prefix(CONTENT_PATH).and_then(|digest| digest.parse().ok()) {
                Some(digest) => Route::Content(digest),
                None => Route::Other,
            },
        };
        Self {
            method: head.method.clone(),
            target: head.uri.to_string(),
            route,
            repository,
            headers: head.headers.clone(),
        }
    }

    /// The first value of a header.
    pub fn header(&self, name: HeaderName) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// All values of a header, in order.
    pub fn header_values(&self, name: HeaderName) -> Vec<&str> {
        self.headers
            .get_all(name)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .collect()
    }
}

#[derive(Debug, Default)]
pub(super) struct RequestLog {
    log: Mutex<Log>,
}

#[derive(Debug, Default)]
struct Log {
    requests: Vec<Seen>,
    sent: BTreeMap<Digest, Arc<AtomicU64>>,
}

impl RequestLog {
    pub(super) fn add(&self, seen: Seen) {
        self.lock().requests.push(seen);
    }

    pub(super) fn all(&self) -> Vec<Seen> {
        self.lock().requests.clone()
    }

    pub(super) fn sent(&self, digest: &Digest) -> Arc<AtomicU64> {
        Arc::clone(self.lock().sent.entry(digest.clone()).or_default())
    }

    pub(super) fn forget(&self) {
        *self.lock() = Log::default();
    }

    fn lock(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
