//! Changes of kuik itself, under pods that keep coming.

use anyhow::Result;
use cluster::{Cluster, NAMESPACE, PROXY_NAMESPACE, Stage};

use crate::{READY, pods_of, proxy_daemon_set, traffic};

/// What makes every pod of kuik another one.
const CHANGED: [&str; 8] = [
    "--set",
    "registry.podAnnotations.changed=yes",
    "--set",
    "proxy.podAnnotations.changed=yes",
    "--set",
    "webhook.podAnnotations.changed=yes",
    "--set",
    "controllers.podAnnotations.changed=yes",
];

#[test]
#[ignore = "long: make e2e"]
fn no_pull_fails_while_the_proxies_are_replaced() {
    let Some(stage) = Stage::enter_own() else { return };
    let name = stage.must(proxy_daemon_set(stage.cluster()));
    let tally = stage.must(traffic::during(&stage, "rollout", || {
        let daemon_set = format!("daemonset/{name}");
        stage
            .cluster()
            .kubectl(&["rollout", "restart", &daemon_set, "--namespace", PROXY_NAMESPACE])?;
        cluster::wait_ready(stage.cluster(), READY)
    }));
    stage.must(tally.check());
    stage.must(tally.check_all_rewritten());
}

#[test]
#[ignore = "long: make e2e"]
fn no_pull_fails_during_an_upgrade_and_a_rollback() {
    const VOLUMES: [&str; 2] = ["--set", "registry.persistence.enabled=true"];
    let Some(mut stage) = Stage::enter_own_with(&VOLUMES) else {
        return;
    };
    let (nodes, others) = stage.must(pods(stage.cluster()));
    let tally = stage.must(traffic::during(&stage, "upgrade", || {
        let values = [VOLUMES.as_slice(), &CHANGED].concat();
        stage.kuik().upgrade(stage.cluster(), &values, READY)?;
        stage.kuik().rollback(stage.cluster(), READY)
    }));
    let (nodes_after, others_after) = stage.must(pods(stage.cluster()));
    assert!(is_replaced(&nodes, &nodes_after) && is_replaced(&others, &others_after));
    stage.must(tally.check());
    stage.remove_kuik();
}

#[test]
#[ignore = "long: make e2e"]
fn an_upgrade_takes_no_cache_node_without_a_volume_away() {
    const NO_VOLUMES: [&str; 2] = ["--set", "registry.persistence.enabled=false"];
    let Some(mut stage) = Stage::enter_own_with(&NO_VOLUMES) else {
        return;
    };
    let (nodes, others) = stage.must(pods(stage.cluster()));
    let tally = stage.must(traffic::during(&stage, "no-volumes", || {
        let values = [NO_VOLUMES.as_slice(), &CHANGED].concat();
        stage.kuik().upgrade(stage.cluster(), &values, READY)
    }));
    let (nodes_after, others_after) = stage.must(pods(stage.cluster()));
    assert_eq!(nodes, nodes_after, "the cache nodes are the same pods");
    assert!(is_replaced(&others, &others_after), "every other pod is another");
    let notes = ["get", "notes", cluster::RELEASE, "--namespace", NAMESPACE];
    let notes = stage.must(stage.cluster().helm(&notes));
    assert!(
        notes.contains("an upgrade leaves these pods as they are"),
        "it says so: {notes}"
    );
    stage.must(tally.check());
    stage.remove_kuik();
}

/// The identities of the cache nodes' pods, and of all others of kuik.
fn pods(cluster: &Cluster) -> Result<(Vec<String>, Vec<String>)> {
    let mut others = Vec::new();
    for component in ["proxy", "webhook", "controllers"] {
        others.extend(uids(cluster, component)?);
    }
    Ok((uids(cluster, "registry")?, others))
}

fn uids(cluster: &Cluster, component: &str) -> Result<Vec<String>> {
    let pods = pods_of(cluster, component)?;
    let uids = pods.iter().map(|pod| pod["metadata"]["uid"].to_string());
    Ok(uids.collect())
}

fn is_replaced(before: &[String], after: &[String]) -> bool {
    !before.is_empty() && before.iter().all(|uid| !after.contains(uid))
}
