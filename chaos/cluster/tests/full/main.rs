//! The long end-to-end tests: `make e2e` runs them, the gate does not.

#![allow(clippy::unwrap_used, reason = "a test ends where it fails")]

mod certificates;
mod chart;
mod control_plane;
mod figures;
mod freshness;
mod installs;
mod issuer;
mod leak;
mod nodes;
mod private;
mod rollouts;
mod traffic;

use std::time::Duration;

use anyhow::{Context, Result};
use cluster::pods::name_of;
use cluster::{Cluster, NAMESPACE, PROXY_NAMESPACE};
use serde_json::Value;

/// For a pod that is pulled through the cache, on a busy machine.
const RUNNING: Duration = Duration::from_secs(60);

/// For the controller to see a pod and the tier to have its image whole.
const CACHED: Duration = Duration::from_secs(60);

/// For everything of kuik to be ready again after a change or an accident.
const READY: Duration = Duration::from_secs(180);

/// The pods of a component of kuik.
fn pods_of(cluster: &Cluster, component: &str) -> Result<Vec<Value>> {
    let namespace = if component == "proxy" {
        PROXY_NAMESPACE
    } else {
        NAMESPACE
    };
    let selector = format!("app.kubernetes.io/component={component}");
    cluster.list(&["pods", "--namespace", namespace, "--selector", &selector])
}

/// The name of the proxies' DaemonSet.
fn proxy_daemon_set(cluster: &Cluster) -> Result<String> {
    let found = cluster.list(&["daemonsets", "--namespace", PROXY_NAMESPACE])?;
    Ok(name_of(found.first().context("a DaemonSet")?)?.to_owned())
}
