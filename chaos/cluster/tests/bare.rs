//! The cluster itself, before anything is installed on it.

#![allow(clippy::unwrap_used, reason = "a test ends where it fails")]

use std::time::Duration;

use cluster::{Deployment, Source, Stage};

/// For a pod that is pulled from the registry beside the nodes.
const RUNNING: Duration = Duration::from_secs(30);

#[test]
fn a_bare_cluster_runs_pods_on_both_containerds() {
    let Some(stage) = Stage::bare() else { return };
    let image = stage.must(stage.machine().publish(Source::Public, "bare:1"));
    stage.must(stage.cluster().apply(&Deployment::new("bare", &image, 3).manifest()));
    stage.must(
        stage
            .cluster()
            .wait_for(&["deployment", "bare"], "available", RUNNING, |deployment| {
                deployment["status"]["readyReplicas"] == 3
            }),
    );
    let nodes = stage.must(stage.cluster().list(&["nodes"]));
    let runtime = |node: &serde_json::Value| node["status"]["nodeInfo"]["containerRuntimeVersion"].to_string();
    assert!(nodes.iter().any(|node| runtime(node).contains("//1.6")), "{nodes:?}");
    assert!(nodes.iter().any(|node| runtime(node).contains("//2.")), "{nodes:?}");
    stage.must(stage.cluster().kubectl(&["delete", "deployment", "bare"]));
}
