//! Which content a tag and a digest lead to.

use anyhow::{Context, Result};
use cluster::pods::image_of;
use cluster::{Cluster, Pod, Source, Stage};

use crate::{CACHED, RUNNING};

#[test]
#[ignore = "long: make e2e"]
fn an_always_pod_gets_the_new_latest_and_the_cached_one_in_an_outage() {
    let Some(stage) = Stage::enter_own() else { return };
    let (cluster, machine) = (stage.cluster(), stage.machine());
    let image = stage.must(machine.publish(Source::Public, "fresh:latest"));
    let old = stage.must(digest_run(cluster, &Pod::new("fresh-1", &image).always()));
    stage.must(machine.publish(Source::Public, "fresh:latest"));
    let new = stage.must(digest_run(cluster, &Pod::new("fresh-2", &image).always()));
    assert_ne!(old, new, "the tag has moved");
    stage.must(cluster.wait_cached(&image, CACHED));

    stage.must(machine.stop_sources());
    let nodes = stage.must(cluster.nodes());
    for node in &nodes {
        stage.must(machine.remove_image(node, &image));
        let pod = Pod::new(&format!("fresh-{node}"), &image).always().on(node);
        assert_eq!(stage.must(digest_run(cluster, &pod)), new, "on {node}");
    }
    stage.must(machine.start_sources());
    stage.must(cluster.kubectl(&["delete", "pods", "--all"]));
}

#[test]
#[ignore = "long: make e2e"]
fn an_image_by_digest_is_rewritten_and_runs_without_its_source() {
    let Some(stage) = Stage::enter_own() else { return };
    let (cluster, machine) = (stage.cluster(), stage.machine());
    let tagged = stage.must(machine.publish(Source::Public, "pinned:1"));
    let nodes = stage.must(cluster.nodes());
    let digest = stage.must(digest_run(cluster, &Pod::new("tagged", &tagged).on(&nodes[0])));
    let pinned = format!("source.kuik.test/pinned@{digest}");
    stage.must(cluster.start(&Pod::new("pinned", &pinned).on(&nodes[0]), RUNNING));
    stage.must(cluster.wait_cached(&pinned, CACHED));
    stage.must(machine.stop_sources());
    let pod = Pod::new("pinned-elsewhere", &pinned).on(&nodes[1]);
    assert_eq!(stage.must(digest_run(cluster, &pod)), digest);
    let found = stage.must(cluster.pod(&pod));
    assert_eq!(stage.must(image_of(&found)), format!("localhost:7439/{pinned}"));
    stage.must(machine.start_sources());
    stage.must(cluster.kubectl(&["delete", "pods", "--all"]));
}

/// Starts a pod, and returns the digest its node pulled.
fn digest_run(cluster: &Cluster, pod: &Pod) -> Result<String> {
    cluster.start(pod, RUNNING)?;
    let found = cluster.pod(pod)?;
    let id = found["status"]["containerStatuses"][0]["imageID"]
        .as_str()
        .context("an image id")?;
    let (_, digest) = id.rsplit_once('@').with_context(|| format!("a digest in {id}"))?;
    Ok(digest.to_owned())
}
