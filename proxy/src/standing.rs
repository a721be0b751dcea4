//! What earlier requests learned about each supplier: one breaker per cache node and per failing source registry.
//!
//! Guarantees that a supplier known to be dead is not asked while another is not, and that its return is noticed
//! without a request paying for the discovery: [`Standing::run_probes`] pings suspect nodes in the background. A
//! source registry is not pinged (nobody may be asking for it any more); instead one request per pause is let through.

mod breaker;

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Mutex, MutexGuard, PoisonError};

use oci::SourceHost;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use crate::metrics::{BreakerChange, Metrics};
use crate::pull::Failure;
use crate::supply::Supplier;
use breaker::{Breaker, Fault};

/// Source registries with an open breaker that are remembered; a machine pulls from a dozen.
const UPSTREAMS_MAX: usize = 256;

/// The breakers.
#[derive(Debug)]
pub(crate) struct Standing {
    breakers: Mutex<Breakers>,
    /// Told when a node's breaker opens.
    opened: Notify,
    metrics: Metrics,
}

#[derive(Debug)]
struct Breakers {
    nodes: Vec<Breaker>,
    /// Only those with a fault on record.
    upstreams: HashMap<SourceHost, Breaker>,
}

impl Standing {
    /// Trusts every node.
    pub(crate) fn new(n_nodes: usize, metrics: Metrics) -> Self {
        let breakers = Breakers {
            nodes: vec![Breaker::default(); n_nodes],
            upstreams: HashMap::new(),
        };
        Self {
            breakers: Mutex::new(breakers),
            opened: Notify::new(),
            metrics,
        }
    }

    /// Whether a node should be asked only when nothing better is left.
    pub(crate) fn suspects_node(&self, node: usize) -> bool {
        !self.lock().nodes[node].is_closed()
    }

    /// Whether a source registry should be asked only when nothing better is left.
    ///
    /// Says `false` once per pause while the breaker is open, so that a registry's return is noticed.
    pub(crate) fn suspects_upstream(&self, host: &SourceHost, now: Instant) -> bool {
        let mut breakers = self.lock();
        breakers
            .upstreams
            .get_mut(host)
            .is_some_and(|breaker| !breaker.is_closed() && !breaker.admit_one(now))
    }

    /// Records that a supplier answered.
    pub(crate) fn answered(&self, supplier: Supplier, host: &SourceHost) {
        let mut breakers = self.lock();
        match supplier {
            Supplier::Node(node) => {
                if !breakers.nodes[node].is_closed() {
                    self.metrics.breaker(supplier, BreakerChange::Closed);
                }
                breakers.nodes[node].succeeded();
            }
            Supplier::Upstream => {
                if breakers
                    .upstreams
                    .remove(host)
                    .is_some_and(|breaker| !breaker.is_closed())
                {
                    self.metrics.breaker(supplier, BreakerChange::Closed);
                }
            }
        }
    }

    /// Records how a supplier failed; failures that are answers count as such.
    pub(crate) fn failed(&self, supplier: Supplier, host: &SourceHost, failure: Failure, now: Instant) {
        let Some(fault) = fault(supplier, failure) else {
            if failure != Failure::Forbidden {
                self.answered(supplier, host);
            }
            return;
        };
        let mut breakers = self.lock();
        let breaker = match supplier {
            Supplier::Node(node) => &mut breakers.nodes[node],
            Supplier::Upstream => {
                if breakers.upstreams.len() >= UPSTREAMS_MAX && !breakers.upstreams.contains_key(host) {
                    return;
                }
                breakers.upstreams.entry(host.clone()).or_default()
            }
        };
        let was_closed = breaker.is_closed();
        breaker.failed(fault, now);
        if was_closed && !breaker.is_closed() {
            self.metrics.breaker(supplier, BreakerChange::Opened);
            match supplier {
                Supplier::Node(node) => tracing::warn!(node, ?failure, "cache node is asked last from now on"),
                Supplier::Upstream => tracing::warn!(upstream = %host, ?failure, "source is asked last from now on"),
            }
            self.opened.notify_one();
        }
    }

    /// Pings suspect nodes when their probe is due, until dropped. One ping at a time: each ends within a second.
    pub(crate) async fn run_probes<F: Future<Output = bool>>(&self, ping: impl Fn(usize) -> F) {
        loop {
            let next = self.lock().nodes.iter().filter_map(Breaker::probe_at).min();
            let Some(next) = next else {
                self.opened.notified().await;
                continue;
            };
            sleep_until(next).await;
            while let Some(node) = self.take_probe() {
                let alive = ping(node).await;
                self.probed(node, alive);
            }
        }
    }

    fn take_probe(&self) -> Option<usize> {
        let now = Instant::now();
        self.lock().nodes.iter_mut().position(|breaker| breaker.take_probe(now))
    }

    fn probed(&self, node: usize, alive: bool) {
        let mut breakers = self.lock();
        let breaker = &mut breakers.nodes[node];
        if !alive {
            breaker.probe_failed(Instant::now());
            return;
        }
        breaker.succeeded();
        self.metrics.breaker(Supplier::Node(node), BreakerChange::Closed);
        tracing::info!(node, "cache node answers again");
    }

    fn lock(&self) -> MutexGuard<'_, Breakers> {
        self.breakers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a failure says about the supplier's health; `None` if it was an answer like another.
fn fault(supplier: Supplier, failure: Failure) -> Option<Fault> {
    match (supplier, failure) {
        (_, Failure::Unreachable) | (Supplier::Upstream, Failure::SourceSilent) => Some(Fault::Dead),
        (_, Failure::Unable | Failure::Wrong) => Some(Fault::Refusing),
        // The node waited for its source as it should.
        (Supplier::Node(_), Failure::SourceSilent) => None,
        (_, Failure::Behind | Failure::Missing | Failure::Absent | Failure::Denied | Failure::Forbidden) => None,
    }
}

#[cfg(test)]
mod tests;
