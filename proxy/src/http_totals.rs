//! The counters that dashboards of kube-image-keeper v1 read, under its names and labels.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};

use distribution::{RegistryError, Source};
use metrics::{Counter, counter, gauge};
use oci::SourceHost;

const REQUESTS: &str = "kube_image_keeper_proxy_http_requests_total";
const BUILD_INFO: &str = "kube_image_keeper_proxy_build_info";
/// Registries with a label of their own; anyone on this machine can make up another.
const HOSTS_MAX: usize = 64;
/// The label of the rest.
const OTHER: &str = "other";

/// Counts requests by registry, status and whether the tier had what was asked for.
#[derive(Default)]
pub(crate) struct HttpTotals {
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    hosts: HashSet<SourceHost>,
    counters: HashMap<(Option<SourceHost>, u16, bool), Counter>,
}

/// How a request ended, as far as v1 tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct HttpEnd {
    pub(crate) status: u16,
    pub(crate) cache_hit: bool,
}

impl HttpEnd {
    /// An answer with content from there; `partial` for a range of it.
    pub(crate) fn found(source: Option<Source>, partial: bool) -> Self {
        Self {
            status: if partial { 206 } else { 200 },
            cache_hit: matches!(source, Some(Source::Local | Source::Peer)),
        }
    }

    /// An answer without.
    pub(crate) fn refused(error: &RegistryError) -> Self {
        Self {
            status: error.status().0.as_u16(),
            cache_hit: false,
        }
    }
}

impl HttpTotals {
    /// Counts one request.
    pub(crate) fn count(&self, host: &SourceHost, end: HttpEnd) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let labelled = seen.labels(host);
        let key = (labelled, end.status, end.cache_hit);
        if let Some(counter) = seen.counters.get(&key) {
            return counter.increment(1);
        }
        let registry = key.0.as_ref().map_or(OTHER.to_owned(), ToString::to_string);
        let (status, hit) = (end.status.to_string(), end.cache_hit.to_string());
        let counter = counter!(REQUESTS, "registry" => registry, "statusCode" => status, "cacheHit" => hit);
        counter.increment(1);
        seen.counters.insert(key, counter);
    }
}

impl Seen {
    fn labels(&mut self, host: &SourceHost) -> Option<SourceHost> {
        if !self.hosts.contains(host) {
            if self.hosts.len() >= HOSTS_MAX {
                return None;
            }
            self.hosts.insert(host.clone());
        }
        Some(host.clone())
    }
}

/// Says that the program runs, and which.
pub(crate) fn started() {
    gauge!(BUILD_INFO, "version" => env!("CARGO_PKG_VERSION")).set(1.0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_content_of_the_tier_is_a_hit() {
        let table = [
            (Some(Source::Local), true),
            (Some(Source::Peer), true),
            (Some(Source::Upstream), false),
            (None, false),
        ];
        for (source, cache_hit) in table {
            assert_eq!(HttpEnd::found(source, false), HttpEnd { status: 200, cache_hit });
        }
        let refused = HttpEnd::refused(&RegistryError::ManifestUnknown);
        assert_eq!((refused.status, refused.cache_hit), (404, false));
    }

    #[test]
    fn made_up_registries_share_a_label() {
        let totals = HttpTotals::default();
        for n in 0..10 * HOSTS_MAX {
            totals.count(&format!("r{n}.example").parse().unwrap(), HttpEnd::found(None, false));
        }
        let seen = totals.seen.lock().unwrap();
        assert_eq!(seen.counters.len(), HOSTS_MAX + 1);
    }
}
