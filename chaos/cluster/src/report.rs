//! What a failed test prints about the cluster.

use crate::cluster::Cluster;
use crate::kuik::{NAMESPACE, PROXY_NAMESPACE};

/// How many lines of each container's log.
const LOG_LINES: &str = "--tail=40";

/// Prints pods, events, cached images and the logs of kuik's parts to stderr; says so where it cannot.
pub(crate) fn print(cluster: &Cluster) {
    section(cluster, &["get", "nodes,pods", "--all-namespaces", "--output", "wide"]);
    section(
        cluster,
        &["get", "events", "--all-namespaces", "--sort-by=.lastTimestamp"],
    );
    section(cluster, &["get", "cachedimages,repositories"]);
    for namespace in [NAMESPACE, PROXY_NAMESPACE] {
        let names = cluster.kubectl(&["get", "pods", "--namespace", namespace, "--output", "name"]);
        for pod in names.unwrap_or_default().lines() {
            section(
                cluster,
                &["logs", "--namespace", namespace, pod, "--all-containers", LOG_LINES],
            );
        }
    }
}

fn section(cluster: &Cluster, arguments: &[&str]) {
    eprintln!("==> kubectl {}", arguments.join(" "));
    match cluster.kubectl(arguments) {
        Ok(text) => eprintln!("{text}"),
        Err(error) => eprintln!("{error:#}"),
    }
}
