//! What a cache node counts, on `/metrics` of its admin port.
//!
//! Label values come from enums; no digest, tag or repository is ever one.

use std::sync::Arc;
use std::time::Duration;

use daemon::task::TaskSet;
use distribution::{Notes, RegistryError, Source, Warning};
use metrics::{Counter, Gauge, counter, gauge};
use proto::report::NodeStatus;
use tokio::time::{MissedTickBehavior, interval};

use crate::reports::Reports;

/// How often gauges are read off.
const GAUGES_EVERY: Duration = Duration::from_secs(5);

/// Counts answers by kind.
pub struct Answers {
    manifests: BySource,
    blobs: BySource,
    stale: Counter,
    refused: Counter,
    failed: Counter,
}

struct BySource {
    local: Counter,
    peer: Counter,
    upstream: Counter,
}

impl BySource {
    fn new(name: &'static str) -> Self {
        let of = |source: Source| counter!(name, "source" => source.as_str());
        Self {
            local: of(Source::Local),
            peer: of(Source::Peer),
            upstream: of(Source::Upstream),
        }
    }

    fn count(&self, source: Option<Source>) {
        match source {
            Some(Source::Local) => self.local.increment(1),
            Some(Source::Peer) => self.peer.increment(1),
            Some(Source::Upstream) => self.upstream.increment(1),
            None => {}
        }
    }
}

impl Answers {
    /// Makes the counters in the recorder installed by now.
    pub fn new() -> Self {
        Self {
            manifests: BySource::new("kube_image_keeper_node_manifest_answers_total"),
            blobs: BySource::new("kube_image_keeper_node_blob_answers_total"),
            stale: counter!("kube_image_keeper_node_stale_answers_total"),
            refused: counter!("kube_image_keeper_node_refused_requests_total"),
            failed: counter!("kube_image_keeper_node_failed_requests_total"),
        }
    }

    /// Counts an answer to a request for a manifest.
    pub fn manifest(&self, answer: Result<&Notes, &RegistryError>) {
        self.count(&self.manifests, answer);
    }

    /// Counts an answer to a request for a blob.
    pub fn blob(&self, answer: Result<&Notes, &RegistryError>) {
        self.count(&self.blobs, answer);
    }

    fn count(&self, kind: &BySource, answer: Result<&Notes, &RegistryError>) {
        match answer {
            Ok(notes) => {
                kind.count(notes.source);
                if notes.warning == Some(Warning::Stale) {
                    self.stale.increment(1);
                }
            }
            Err(error) if error.status().0.is_client_error() => self.refused.increment(1),
            Err(_) => self.failed.increment(1),
        }
    }
}

impl Default for Answers {
    fn default() -> Self {
        Self::new()
    }
}

struct Gauges {
    blobs: Gauge,
    blob_bytes: Gauge,
    copies_expected: Gauge,
    copies_missing: Gauge,
    fills: Gauge,
    disk_free_bytes: Gauge,
    degraded: Gauge,
}

impl Gauges {
    fn new() -> Self {
        Self {
            blobs: gauge!("kube_image_keeper_node_blobs"),
            blob_bytes: gauge!("kube_image_keeper_node_blob_bytes"),
            copies_expected: gauge!("kube_image_keeper_node_copies_expected"),
            copies_missing: gauge!("kube_image_keeper_node_copies_missing"),
            fills: gauge!("kube_image_keeper_node_fills_in_flight"),
            disk_free_bytes: gauge!("kube_image_keeper_node_disk_free_bytes"),
            degraded: gauge!("kube_image_keeper_node_degraded_reasons"),
        }
    }

    // A gauge is a float; what is lost beyond 2^53 nobody reads off a graph.
    fn set(&self, status: &NodeStatus) {
        self.blobs.set(status.blobs.count as f64);
        self.blob_bytes.set(status.blobs.bytes as f64);
        self.copies_expected.set(status.copies.expected as f64);
        self.copies_missing.set(status.copies.missing as f64);
        self.fills.set(status.fills.len() as f64);
        self.disk_free_bytes.set(status.disk.free_bytes as f64);
        self.degraded.set(status.degraded.len() as f64);
    }
}

/// Says why a node is not well, whenever there are more reasons or fewer than `n_before`.
fn tell(reasons: &[String], n_before: &mut usize) {
    if std::mem::replace(n_before, reasons.len()) == reasons.len() {
        return;
    }
    if reasons.is_empty() {
        tracing::info!("this node is well again");
    } else {
        tracing::warn!(reasons = reasons.join("; "), "this node is not well");
    }
}

/// Credentials whose key is gone, as the leader counts them.
pub(crate) fn lost_key_credentials() -> Gauge {
    gauge!("kube_image_keeper_node_lost_key_credentials")
}

/// Starts keeping the gauges up to date in `tasks`.
pub fn start_gauges(reports: Arc<Reports>, tasks: &TaskSet) {
    let stop = tasks.stop_token();
    let keeping = async move {
        let gauges = Gauges::new();
        let mut n_reasons = 0;
        let mut ticks = interval(GAUGES_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let status = reports.status().await;
            gauges.set(&status);
            tell(&status.degraded, &mut n_reasons);
        }
    };
    tasks.spawn("gauges", async move {
        stop.run_until_cancelled_owned(keeping).await;
    });
}
