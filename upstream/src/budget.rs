//! What a registry still allows us, as far as it says so.
//!
//! [`Budget`] is pure: responses go in with the time, answers come out. It only informs; whether to prefetch, stretch
//! freshness or serve stale is the caller's policy. A registry that says nothing is taken as unlimited.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use http::{HeaderMap, StatusCode};
use oci::SourceHost;
use tokio::time::Instant;

use crate::retry_after::retry_after;

/// How long a 429 that names no time keeps a host blocked.
const BLOCK_DEFAULT: Duration = Duration::from_secs(10);
/// How long a count is believed when the registry names no window.
const WINDOW_DEFAULT: Duration = Duration::from_secs(60);
/// Hosts come from requests, so their number is bounded; the one heard from longest ago makes room.
const HOSTS_MAX: usize = 1024;

/// One host's rate limit as last heard of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Budget {
    limit: Option<u64>,
    count: Option<Count>,
    blocked_until: Option<Instant>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Count {
    remaining: u64,
    believed_until: Instant,
}

impl Budget {
    /// Requests allowed per window, if the registry says.
    pub fn limit(&self) -> Option<u64> {
        self.limit
    }

    /// Requests left in the current window; nothing if unlimited, unknown or the window is over.
    pub fn remaining(&self, now: Instant) -> Option<u64> {
        self.count
            .as_ref()
            .filter(|count| now < count.believed_until)
            .map(|count| count.remaining)
    }

    /// The moment until which the registry asked to be left alone, if that is still to come.
    pub fn blocked_until(&self, now: Instant) -> Option<Instant> {
        self.blocked_until.filter(|until| now < *until)
    }

    /// Takes in a response: `ratelimit-limit`, `ratelimit-remaining` (`100;w=21600`) and a 429's `Retry-After`.
    pub fn observe(&mut self, status: StatusCode, headers: &HeaderMap, now: Instant, wall_clock: SystemTime) {
        if let Some((limit, _)) = counted(headers, "ratelimit-limit") {
            self.limit = Some(limit);
        }
        if let Some((remaining, window)) = counted(headers, "ratelimit-remaining") {
            let believed_until = now + window.unwrap_or(WINDOW_DEFAULT).min(Duration::from_secs(86_400));
            self.count = Some(Count {
                remaining,
                believed_until,
            });
        }
        if status == StatusCode::TOO_MANY_REQUESTS {
            self.block(retry_after(headers, wall_clock), now);
        } else if status.is_success() {
            self.blocked_until = None;
        }
    }

    /// Notes a 429 heard elsewhere, for instance from the token server.
    pub fn block(&mut self, after: Option<Duration>, now: Instant) {
        self.blocked_until = Some(now + after.unwrap_or(BLOCK_DEFAULT));
    }
}

/// The budgets of all hosts spoken to.
#[derive(Debug, Default)]
pub(crate) struct Budgets {
    hosts: Mutex<HashMap<SourceHost, (Instant, Budget)>>,
}

impl Budgets {
    pub(crate) fn of(&self, host: &SourceHost) -> Budget {
        let hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        hosts.get(host).map(|(_, budget)| budget.clone()).unwrap_or_default()
    }

    pub(crate) fn update(&self, host: &SourceHost, change: impl FnOnce(&mut Budget, Instant)) {
        let now = Instant::now();
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        if hosts.len() >= HOSTS_MAX && !hosts.contains_key(host) {
            let oldest = hosts
                .iter()
                .min_by_key(|(_, (heard, _))| *heard)
                .map(|(host, _)| host.clone());
            oldest.map(|host| hosts.remove(&host));
        }
        let (heard, budget) = hosts.entry(host.clone()).or_insert_with(|| (now, Budget::default()));
        *heard = now;
        change(budget, now);
    }
}

/// Reads `100;w=21600` or `100`.
fn counted(headers: &HeaderMap, name: &str) -> Option<(u64, Option<Duration>)> {
    let mut parts = headers.get(name)?.to_str().ok()?.split([';', ',']).map(str::trim);
    let count = parts.next()?.parse().ok()?;
    let window = parts
        .find_map(|part| part.strip_prefix("w="))
        .and_then(|seconds| seconds.parse().ok());
    Some((count, window.map(Duration::from_secs)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
            .collect()
    }

    fn observed(budget: &mut Budget, status: u16, pairs: &[(&'static str, &str)], now: Instant) {
        budget.observe(
            StatusCode::from_u16(status).unwrap(),
            &headers(pairs),
            now,
            SystemTime::UNIX_EPOCH,
        );
    }

    #[test]
    fn a_silent_registry_is_unlimited() {
        let (mut budget, now) = (Budget::default(), Instant::now());
        observed(&mut budget, 200, &[], now);
        assert_eq!(
            (budget.remaining(now), budget.limit(), budget.blocked_until(now)),
            (None, None, None)
        );
    }

    #[test]
    fn hub_headers_count_down_until_the_window_ends() {
        let (mut budget, now) = (Budget::default(), Instant::now());
        for remaining in ["1;w=21600", "0;w=21600"] {
            observed(
                &mut budget,
                200,
                &[("ratelimit-limit", "100;w=21600"), ("ratelimit-remaining", remaining)],
                now,
            );
        }
        assert_eq!((budget.remaining(now), budget.limit()), (Some(0), Some(100)));
        assert_eq!(budget.remaining(now + Duration::from_secs(21_600)), None);
    }

    #[test]
    fn a_429_blocks_for_as_long_as_asked_and_a_success_ends_it() {
        let (mut budget, now) = (Budget::default(), Instant::now());
        observed(&mut budget, 429, &[("retry-after", "30")], now);
        assert_eq!(budget.blocked_until(now), Some(now + Duration::from_secs(30)));
        assert_eq!(budget.blocked_until(now + Duration::from_secs(30)), None);
        observed(&mut budget, 429, &[], now);
        assert_eq!(budget.blocked_until(now), Some(now + BLOCK_DEFAULT));
        observed(&mut budget, 200, &[], now);
        assert_eq!(budget.blocked_until(now), None);
    }

    #[test]
    fn hosts_are_bounded() {
        let budgets = Budgets::default();
        for index in 0..HOSTS_MAX + 10 {
            budgets.update(&format!("h{index}.example").parse().unwrap(), |budget, now| {
                budget.block(None, now)
            });
        }
        assert_eq!(budgets.hosts.lock().unwrap().len(), HOSTS_MAX);
    }
}
