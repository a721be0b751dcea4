//! Private images: only for those who could pull them without us.

use std::time::Duration;

use anyhow::{Result, ensure};
use cluster::pods::{image_of, is_ready};
use cluster::{Cluster, PASSWORD, Pod, Source, Stage, pull_secret, pull_secret_of, wait};

use crate::{CACHED, RUNNING, leak};

/// A password that the registry refuses.
const WRONG: &str = "canary-wrong-77d1";

/// For a pod that must not start: several of the kubelet's attempts.
const PATIENCE: Duration = Duration::from_secs(20);

#[test]
#[ignore = "long: make e2e"]
fn a_private_image_is_served_to_namespaces_with_its_secret_and_to_no_other() {
    let Some(stage) = Stage::enter_own() else { return };
    let (cluster, machine) = (stage.cluster(), stage.machine());
    for namespace in ["team", "stranger"] {
        stage.must(cluster.make_namespace(namespace));
    }
    stage.must(cluster.apply(&pull_secret("pull", "team")));
    let image = stage.must(machine.publish(Source::Private, "team/app:1"));
    let nodes = stage.must(cluster.nodes());

    // The first pod of a namespace pulls with its own secret; the secret becomes the namespace's grant.
    let first = Pod::new("first", &image)
        .namespace("team")
        .pull_secret("pull")
        .on(&nodes[0]);
    stage.must(cluster.start(&first, RUNNING));
    stage.must(cluster.wait_cached(&image, CACHED));

    stage.must(machine.stop_sources());
    let second = Pod::new("second", &image)
        .namespace("team")
        .pull_secret("pull")
        .on(&nodes[1]);
    stage.must(cluster.start(&second, RUNNING));
    let found = stage.must(cluster.pod(&second));
    assert_eq!(stage.must(image_of(&found)), format!("localhost:7439/{image}"));
    stage.must(machine.start_sources());

    stage.must(cluster.apply(&pull_secret_of("wrong", "stranger", WRONG)));
    for (name, asked, secret) in [
        ("plain", image.clone(), None),
        ("rewritten", format!("localhost:7439/{image}"), None),
        ("wrong", image.clone(), Some("wrong")),
    ] {
        let pod = Pod::new(name, &asked).namespace("stranger").on(&nodes[2]);
        let pod = secret.into_iter().fold(pod, Pod::pull_secret);
        stage.must(cluster.apply(&pod.manifest()));
        stage.must(never_runs(cluster, &pod, &image));
        stage.must(cluster.delete(&pod));
    }
    stage.must(leak::check(&stage, &[PASSWORD, WRONG]));
    for pod in [first, second] {
        stage.must(cluster.delete(&pod));
    }
}

/// The pod keeps its own image, and does not start.
fn never_runs(cluster: &Cluster, pod: &Pod, image: &str) -> Result<()> {
    let started = wait::until(PATIENCE, "a pod that must not start", || {
        let found = cluster.pod(pod)?;
        ensure!(image_of(&found)? == image, "its image is {}", image_of(&found)?);
        Ok(is_ready(&found).then_some(()))
    });
    ensure!(started.is_err(), "it runs an image its namespace has no right to");
    let found = cluster.pod(pod)?;
    ensure!(image_of(&found)? == image, "its image is {}", image_of(&found)?);
    Ok(())
}
