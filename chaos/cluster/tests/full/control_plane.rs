//! Without an API server, and after everything lost its power.

use cluster::pods::image_of;
use cluster::{Pod, Source, Stage};

use crate::{CACHED, READY, RUNNING};

#[test]
#[ignore = "long: make e2e"]
fn pulls_go_on_while_the_api_server_is_away() {
    let Some(stage) = Stage::enter_own() else { return };
    let (cluster, machine) = (stage.cluster(), stage.machine());
    let known = stage.must(machine.publish(Source::Public, "no-api-known:1"));
    let unknown = stage.must(machine.publish(Source::Public, "no-api-unknown:1"));
    let nodes = stage.must(cluster.nodes());
    stage.must(cluster.start(&Pod::new("no-api", &known).on(&nodes[0]), RUNNING));
    stage.must(cluster.wait_cached(&known, CACHED));
    stage.must(machine.stop_apiserver());
    let pulled: Vec<_> = [&unknown, &known]
        .into_iter()
        .flat_map(|image| nodes.iter().map(move |node| (node, image)))
        .map(|(node, image)| machine.pull(node, &format!("localhost:7439/{image}")))
        .collect();
    stage.must(machine.start_apiserver());
    for pull in pulled {
        stage.must(pull);
    }
    stage.must(cluster::wait_ready(cluster, READY));
    stage.must(cluster.kubectl(&["delete", "pods", "--all"]));
}

#[test]
#[ignore = "long: make e2e"]
fn everything_comes_back_after_a_blackout_with_every_source_down() {
    let Some(mut stage) = Stage::enter_own_with(&["--set", "registry.persistence.enabled=true"]) else {
        return;
    };
    let (cluster, machine) = (stage.cluster(), stage.machine());
    let image = stage.must(machine.publish(Source::Public, "blackout:1"));
    let nodes = stage.must(cluster.nodes());
    stage.must(cluster.start(&Pod::new("blackout", &image).on(&nodes[0]), RUNNING));
    stage.must(cluster.wait_cached(&image, CACHED));
    stage.must(machine.stop_sources());
    stage.must(machine.blackout());
    stage.must(machine.end_blackout());
    stage.must(cluster::wait_ready(cluster, READY));
    stage.must(cluster.wait_running(&Pod::new("blackout", &image), RUNNING));
    let pod = Pod::new("blackout-elsewhere", &image).on(&nodes[1]);
    stage.must(cluster.start(&pod, RUNNING));
    let found = stage.must(cluster.pod(&pod));
    assert_eq!(stage.must(image_of(&found)), format!("localhost:7439/{image}"));
    stage.must(machine.start_sources());
    stage.must(cluster.kubectl(&["delete", "pods", "--all"]));
    stage.remove_kuik();
}
