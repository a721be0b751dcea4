//! What the proxy counts. Every name here starts with `kube_image_keeper_proxy_`.
//!
//! Handles are made once; labels come from enums and from node positions, never from digests, tags or repositories.

use std::sync::Arc;
use std::time::Duration;

use distribution::Source;
use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};

use crate::pull::Refusal;
use crate::supply::Supplier;

/// How a request for content ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Answered with content from here.
    Found(Supplier, Source),
    /// Answered without.
    Refused(Refusal),
}

/// How a body ended after its first byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BodyEnd {
    /// Every byte, and right.
    Whole,
    /// Cut short: no supplier was left, or the digest was not right.
    Cut,
    /// The client went away.
    Dropped,
}

/// What happened to a breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BreakerChange {
    /// The supplier is asked last from now on.
    Opened,
    /// The supplier is asked like any other.
    Closed,
}

/// The handles; cloning shares them.
#[derive(Clone)]
pub(crate) struct Metrics(Arc<Handles>);

struct Handles {
    found_at_node: [Counter; 3],
    found_upstream: Counter,
    refused: [Counter; 4],
    bytes_from_nodes: Counter,
    bytes_from_upstream: Counter,
    resumed_at_node: Counter,
    resumed_upstream: Counter,
    ended: [Counter; 3],
    first_byte: Histogram,
    open_nodes: Vec<Gauge>,
    opened_upstream: Counter,
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Metrics")
    }
}

impl Metrics {
    /// Registers everything with the recorder that is installed now.
    pub(crate) fn new(n_nodes: usize) -> Self {
        let request = |outcome| counter!("kube_image_keeper_proxy_requests_total", "outcome" => outcome);
        let bytes = |supplier| counter!("kube_image_keeper_proxy_sent_bytes_total", "supplier" => supplier);
        let resumed = |supplier| counter!("kube_image_keeper_proxy_resumed_bodies_total", "supplier" => supplier);
        let ended = |end| counter!("kube_image_keeper_proxy_bodies_total", "end" => end);
        let open = |node: usize| gauge!("kube_image_keeper_proxy_node_breaker_open", "node" => node.to_string());
        Self(Arc::new(Handles {
            found_at_node: [request("node_local"), request("node_peer"), request("node_upstream")],
            found_upstream: request("direct"),
            refused: [
                request("not_found"),
                request("denied"),
                request("unavailable"),
                request("timed_out"),
            ],
            bytes_from_nodes: bytes("node"),
            bytes_from_upstream: bytes("upstream"),
            resumed_at_node: resumed("node"),
            resumed_upstream: resumed("upstream"),
            ended: [ended("whole"), ended("cut"), ended("dropped")],
            first_byte: histogram!("kube_image_keeper_proxy_answer_seconds"),
            open_nodes: (0..n_nodes).map(open).collect(),
            opened_upstream: counter!("kube_image_keeper_proxy_upstream_breaker_opened_total"),
        }))
    }

    /// Counts a request, `took` from its arrival to its answer.
    pub(crate) fn answered(&self, outcome: Outcome, took: Duration) {
        let handles = &self.0;
        handles.first_byte.record(took.as_secs_f64());
        let counter = match outcome {
            Outcome::Found(Supplier::Upstream, _) => &handles.found_upstream,
            Outcome::Found(Supplier::Node(_), Source::Local) => &handles.found_at_node[0],
            Outcome::Found(Supplier::Node(_), Source::Peer) => &handles.found_at_node[1],
            Outcome::Found(Supplier::Node(_), Source::Upstream) => &handles.found_at_node[2],
            Outcome::Refused(Refusal::NotFound) => &handles.refused[0],
            Outcome::Refused(Refusal::Denied) => &handles.refused[1],
            Outcome::Refused(Refusal::Unavailable) => &handles.refused[2],
            Outcome::Refused(Refusal::TimedOut) => &handles.refused[3],
        };
        counter.increment(1);
    }

    /// Counts bytes that were passed on.
    pub(crate) fn sent(&self, supplier: Supplier, n_bytes: u64) {
        match supplier {
            Supplier::Node(_) => self.0.bytes_from_nodes.increment(n_bytes),
            Supplier::Upstream => self.0.bytes_from_upstream.increment(n_bytes),
        }
    }

    /// Counts a body that goes on from another supplier.
    pub(crate) fn resumed(&self, supplier: Supplier) {
        match supplier {
            Supplier::Node(_) => self.0.resumed_at_node.increment(1),
            Supplier::Upstream => self.0.resumed_upstream.increment(1),
        }
    }

    /// Counts the end of a body.
    pub(crate) fn ended(&self, end: BodyEnd) {
        let index = match end {
            BodyEnd::Whole => 0,
            BodyEnd::Cut => 1,
            BodyEnd::Dropped => 2,
        };
        self.0.ended[index].increment(1);
    }

    /// Notes that a breaker opened or closed.
    pub(crate) fn breaker(&self, supplier: Supplier, change: BreakerChange) {
        match (supplier, change) {
            (Supplier::Node(node), BreakerChange::Opened) => self.0.open_nodes[node].set(1.0),
            (Supplier::Node(node), BreakerChange::Closed) => self.0.open_nodes[node].set(0.0),
            (Supplier::Upstream, BreakerChange::Opened) => self.0.opened_upstream.increment(1),
            (Supplier::Upstream, BreakerChange::Closed) => {}
        }
    }
}
