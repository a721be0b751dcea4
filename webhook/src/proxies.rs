//! Whether there are proxies to pull through: the status of their DaemonSet, watched.
//!
//! When the API server cannot be watched, what was last known stays: pulls do not need it either.

use daemon::readiness::Gate;
use daemon::task::TaskSet;
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::watch_object;
use kube::{Api, Client, Resource};
use serde::Deserialize;
use tokio::sync::watch;

use crate::config::ProxyDaemonSet;
use crate::metrics::Metrics;

/// What matters here of a DaemonSet. Reading its pod template would take more code than all else of the webhook.
#[derive(Debug, Clone, Default, Deserialize, Resource)]
#[resource(inherit = "DaemonSet")]
struct Watched {
    metadata: ObjectMeta,
    #[serde(default)]
    status: Option<Status>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    #[serde(default)]
    number_ready: i32,
    #[serde(default)]
    desired_number_scheduled: i32,
}

/// What is known of the proxies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proxies {
    /// Nothing yet.
    Unknown,
    /// There is no such DaemonSet, or none of its pods is ready.
    None,
    /// At least one is ready, and one is missing on some node that has to have one.
    Somewhere,
    /// On every node that has to have one it is ready.
    Everywhere,
}

impl Proxies {
    /// What a DaemonSet's status says; `None` where there is none.
    fn of(daemonset: Option<&Watched>) -> Self {
        let deleted = |daemonset: &&Watched| daemonset.metadata.deletion_timestamp.is_none();
        let status = daemonset
            .filter(deleted)
            .and_then(|daemonset| daemonset.status.as_ref());
        match status.map(|status| (status.number_ready, status.desired_number_scheduled)) {
            Some((ready, wanted)) if ready > 0 && ready >= wanted => Self::Everywhere,
            Some((ready, _wanted)) if ready > 0 => Self::Somewhere,
            Some(_) | None => Self::None,
        }
    }

    /// Whether there is any to pull through.
    pub fn are_there(self) -> bool {
        matches!(self, Self::Somewhere | Self::Everywhere)
    }
}

/// Watches the DaemonSet until `tasks` stop; opens `gate` once something is known of it.
pub fn start(
    client: Client,
    proxy: &ProxyDaemonSet,
    gate: Gate,
    metrics: Metrics,
    tasks: &TaskSet,
) -> watch::Receiver<Proxies> {
    let (tx, rx) = watch::channel(Proxies::Unknown);
    let api: Api<Watched> = Api::namespaced(client, &proxy.namespace);
    let name = proxy.daemonset.clone();
    let stop = tasks.stop_token();
    tasks.spawn_critical("proxies", async move {
        let watching = follow(api, &name, &tx, &gate, &metrics);
        stop.run_until_cancelled_owned(watching).await;
    });
    rx
}

async fn follow(api: Api<Watched>, name: &str, known: &watch::Sender<Proxies>, gate: &Gate, metrics: &Metrics) {
    let events = watch_object(api, name).default_backoff();
    let states = events.map_ok(|daemonset| Proxies::of(daemonset.as_ref()));
    states
        .for_each(async |state| match state {
            Ok(state) => {
                let changed = known.send_replace(state) != state;
                metrics.proxies(state);
                gate.open();
                if changed {
                    tracing::info!(daemonset = name, ?state, "proxies");
                }
            }
            Err(error) => {
                if *known.borrow() == Proxies::Unknown {
                    gate.close(format!("watch DaemonSet {name}: {error}"));
                }
                tracing::warn!(daemonset = name, %error, "proxies not watched, what was known stays");
            }
        })
        .await;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn daemonset(number_ready: i32, desired_number_scheduled: i32) -> Watched {
        Watched {
            status: Some(Status {
                number_ready,
                desired_number_scheduled,
            }),
            ..Watched::default()
        }
    }

    #[test]
    fn one_ready_proxy_is_enough_to_be_there_and_not_to_be_everywhere() {
        let table = [
            (None, Proxies::None),
            (Some(Watched::default()), Proxies::None),
            (Some(daemonset(0, 0)), Proxies::None),
            (Some(daemonset(0, 3)), Proxies::None),
            (Some(daemonset(1, 3)), Proxies::Somewhere),
            (Some(daemonset(2, 3)), Proxies::Somewhere),
            (Some(daemonset(3, 3)), Proxies::Everywhere),
        ];
        for (daemonset, expected) in table {
            assert_eq!(Proxies::of(daemonset.as_ref()), expected);
        }
    }

    #[test]
    fn proxies_that_are_being_deleted_are_not_relied_on() {
        let mut deleted = daemonset(3, 3);
        deleted.metadata.deletion_timestamp = serde_json::from_str("\"2026-01-01T00:00:00Z\"").unwrap();
        assert_eq!(Proxies::of(Some(&deleted)), Proxies::None);
    }
}
