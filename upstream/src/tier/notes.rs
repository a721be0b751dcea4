//! The headers that travel between our own parts.
//!
//! `distribution` has the server's side of the same names, and the types behind the values; a test keeps the two equal.

use http::header::WARNING;
use http::{HeaderMap, HeaderValue};

/// How many nodes a request already travelled.
pub const X_KUIK_HOP: &str = "x-kuik-hop";
/// The monotonic tag token.
pub const X_CACHE_INDEX: &str = "x-cache-index";
/// Where an answer's bytes came from.
pub const X_KUIK_SOURCE: &str = "x-kuik-source";

/// What says that an answer could not be checked against its source.
const WARNING_STALE: &str = "110";

/// What travels with a request between our parts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeCall {
    /// Nodes travelled including the one that asks; a proxy is none, but sends 1 as it has no next host.
    pub hop: u8,
    /// The newest tag token of the client, as `distribution::CacheIndex` prints it.
    pub cache_index: Option<String>,
}

/// What a node's answer says about itself beyond its bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeNotes {
    /// The tag token, as `distribution::CacheIndex` reads it.
    pub cache_index: Option<String>,
    /// True if the answer could not be checked against its source.
    pub stale: bool,
    /// `local`, `peer` or `upstream`.
    pub source: Option<String>,
}

impl NodeCall {
    pub(super) fn write(&self, headers: &mut HeaderMap) {
        headers.insert(X_KUIK_HOP, HeaderValue::from(u16::from(self.hop)));
        if let Some(Ok(token)) = self.cache_index.as_deref().map(HeaderValue::from_str) {
            headers.insert(X_CACHE_INDEX, token);
        }
    }
}

impl NodeNotes {
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let warnings = headers.get_all(WARNING).iter().filter_map(|value| value.to_str().ok());
        Self {
            cache_index: text(headers, X_CACHE_INDEX).map(str::to_owned),
            stale: warnings
                .into_iter()
                .any(|warning| warning.trim_start().starts_with(WARNING_STALE)),
            source: text(headers, X_KUIK_SOURCE).map(str::to_owned),
        }
    }
}

pub(super) fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}
