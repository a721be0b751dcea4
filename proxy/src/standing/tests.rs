//! Breakers of nodes and source registries, on tokio's paused time.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::*;

fn host() -> SourceHost {
    "quay.io".parse().unwrap()
}

fn standing() -> Standing {
    Standing::new(3, Metrics::new(3))
}

#[tokio::test(start_paused = true)]
async fn a_dead_node_is_suspect_until_a_ping_is_answered() {
    let standing = Arc::new(standing());
    standing.failed(Supplier::Node(1), &host(), Failure::Unreachable, Instant::now());
    assert!(standing.suspects_node(1) && !standing.suspects_node(0));
    let pings = AtomicUsize::new(0);
    let probes = standing.run_probes(|node| {
        assert_eq!(node, 1);
        let n = pings.fetch_add(1, Ordering::Relaxed);
        async move { n == 2 }
    });
    let closed = tokio::time::timeout(Duration::from_secs(20), probes).await;
    assert!(closed.is_err(), "probes run until dropped");
    assert_eq!(pings.load(Ordering::Relaxed), 3, "none after the answer");
    assert!(!standing.suspects_node(1));
}

#[tokio::test(start_paused = true)]
async fn answers_of_any_kind_leave_a_node_in_good_standing() {
    let standing = standing();
    for failure in [
        Failure::Missing,
        Failure::Absent,
        Failure::Behind,
        Failure::Denied,
        Failure::SourceSilent,
    ] {
        for _ in 0..5 {
            standing.failed(Supplier::Node(0), &host(), failure, Instant::now());
        }
        assert!(!standing.suspects_node(0), "{failure:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_dead_source_registry_gets_one_request_per_pause() {
    let standing = standing();
    standing.failed(Supplier::Upstream, &host(), Failure::Unreachable, Instant::now());
    assert!(standing.suspects_upstream(&host(), Instant::now()));
    tokio::time::advance(Duration::from_millis(500)).await;
    assert!(!standing.suspects_upstream(&host(), Instant::now()), "one may try");
    assert!(standing.suspects_upstream(&host(), Instant::now()), "and no other");
    standing.answered(Supplier::Upstream, &host());
    assert!(!standing.suspects_upstream(&host(), Instant::now()));
}

#[tokio::test(start_paused = true)]
async fn memory_for_source_registries_is_bounded() {
    let standing = standing();
    for n in 0..2 * UPSTREAMS_MAX {
        let host = format!("r{n}.example").parse().unwrap();
        standing.failed(Supplier::Upstream, &host, Failure::Unreachable, Instant::now());
    }
    assert_eq!(standing.lock().upstreams.len(), UPSTREAMS_MAX);
}
