//! Nodes that go, come back, and join.

use anyhow::{Context, Result};
use cluster::pods::{image_of, name_of, node_of};
use cluster::{Deployment, Kuik, NAMESPACE, PROXY_NAMESPACE, Pod, Source, Stage};
use serde_json::Value;

use crate::traffic::failed_events;
use crate::{CACHED, READY, RUNNING, pods_of, proxy_daemon_set};

/// Names an image that every node must pull and the whole tier has.
fn cached_image(stage: &Stage, name: &str) -> String {
    let (cluster, machine) = (stage.cluster(), stage.machine());
    let image = stage.must(machine.publish_sized(Source::Public, &format!("{name}:1"), 10));
    let nodes = stage.must(cluster.nodes());
    stage.must(cluster.start(&Pod::new(name, &image).on(&nodes[0]), RUNNING));
    stage.must(cluster.wait_cached(&image, CACHED));
    image
}

#[test]
#[ignore = "long: make e2e"]
fn a_partitioned_node_costs_the_others_nothing() {
    let Some(stage) = Stage::enter_own() else { return };
    let (cluster, machine) = (stage.cluster(), stage.machine());
    let image = cached_image(&stage, "partition");
    let nodes = stage.must(cluster.nodes());
    stage.must(machine.stop_sources());
    stage.must(machine.partition_node(&nodes[2]));
    let pod = Pod::new("partition-other", &image).on(&nodes[1]);
    let took = stage.must(cluster.start(&pod, RUNNING));
    println!("started {:.1} s after a node was cut off", took.as_secs_f64());
    stage.must(machine.heal_node(&nodes[2]));
    stage.must(cluster::wait_ready(cluster, READY));
    let pod = Pod::new("partition-same", &image).on(&nodes[2]);
    stage.must(cluster.start(&pod, RUNNING));
    stage.must(machine.start_sources());
    stage.must(cluster.kubectl(&["delete", "pods", "--all"]));
}

#[test]
#[ignore = "long: make e2e"]
fn a_node_without_power_costs_the_others_nothing_and_comes_back() {
    let Some(stage) = Stage::enter_own() else { return };
    let (cluster, machine) = (stage.cluster(), stage.machine());
    let image = cached_image(&stage, "power");
    let nodes = stage.must(cluster.nodes());
    stage.must(machine.stop_sources());
    stage.must(machine.cut_node(&nodes[2]));
    let pod = Pod::new("power-other", &image).on(&nodes[1]);
    let took = stage.must(cluster.start(&pod, RUNNING));
    println!("started {:.1} s after a node lost power", took.as_secs_f64());
    stage.must(machine.start_node(&nodes[2]));
    stage.must(cluster::wait_ready(cluster, READY));
    let pod = Pod::new("power-same", &image).on(&nodes[2]);
    stage.must(cluster.start(&pod, RUNNING));
    stage.must(machine.start_sources());
    stage.must(cluster.kubectl(&["delete", "pods", "--all"]));
}

#[test]
#[ignore = "long: make e2e"]
fn a_leader_killed_during_a_pull_is_not_noticed() {
    let Some(stage) = Stage::enter_own() else { return };
    let (cluster, machine) = (stage.cluster(), stage.machine());
    let image = stage.must(machine.publish_sized(Source::Public, "leader:1", 100));
    let leader = stage.must(leader(&stage));
    stage.must(cluster.apply(&Deployment::new("leader", &image, 3).manifest()));
    let namespace = ["--namespace", NAMESPACE];
    stage.must(
        cluster.kubectl(
            &[
                &["delete", "pod", &leader, "--force", "--grace-period=0"],
                namespace.as_slice(),
            ]
            .concat(),
        ),
    );
    let took = stage.must(
        cluster.wait_for(&["deployment", "leader"], "available", RUNNING, |found| {
            found["status"]["readyReplicas"] == 3
        }),
    );
    println!("three pods of 100 MB ran after {:.1} s", took.as_secs_f64());
    let failed = stage.must(failed_events(cluster, "leader"));
    assert!(failed.is_empty(), "{failed:#?}");
    stage.must(cluster.kubectl(&["delete", "deployment", "leader"]));
    stage.must(cluster::wait_ready(cluster, READY));
}

/// The pod of the cache node that leads.
fn leader(stage: &Stage) -> Result<String> {
    for pod in pods_of(stage.cluster(), "registry")? {
        let address = pod["status"]["podIP"].as_str().context("a pod has an address")?;
        let url = format!("http://{address}:8080/status");
        let text = stage
            .machine()
            .exec("n1", &["curl", "--silent", "--max-time", "5", &url])?;
        let status: Value = serde_json::from_str(&text).with_context(|| format!("parse {text}"))?;
        if status["role"] == "leader" || status["role"] == "Leader" {
            return Ok(name_of(&pod)?.to_owned());
        }
    }
    anyhow::bail!("no cache node says that it leads")
}

#[test]
#[ignore = "long: make e2e"]
fn a_pod_on_a_new_node_runs_before_anyone_has_waited_for_the_proxy() {
    let Some(stage) = Stage::enter_own() else { return };
    let (cluster, machine) = (stage.cluster(), stage.machine());
    let image = cached_image(&stage, "new-node");
    let node = stage.must(machine.add_node());
    let pod = Pod::new("new-node-first", &image).on(&node);
    let took = stage.must(cluster.start(&pod, RUNNING));
    println!("running {:.1} s after its node was ready", took.as_secs_f64());
    let found = stage.must(cluster.pod(&pod));
    assert_eq!(stage.must(node_of(&found)), node);
    stage.must(cluster.kubectl(&["delete", "pods", "--all"]));
    stage.must(cluster::wait_ready(cluster, READY));
}

#[test]
#[ignore = "long: make e2e"]
fn pods_run_from_their_own_images_when_the_proxies_are_deleted() {
    let Some(mut stage) = Stage::enter_own() else { return };
    let image = stage.must(stage.machine().publish(Source::Public, "no-proxies:1"));
    let name = stage.must(proxy_daemon_set(stage.cluster()));
    stage.forget_kuik();
    stage.must(stage.cluster().kubectl(&[
        "delete",
        "daemonset",
        &name,
        "--namespace",
        PROXY_NAMESPACE,
        "--wait=false",
    ]));
    for node in stage.must(stage.cluster().nodes()) {
        let pod = Pod::new(&format!("no-proxies-{node}"), &image).on(&node);
        stage.must(stage.cluster().start(&pod, RUNNING));
        let found = stage.must(stage.cluster().pod(&pod));
        assert_eq!(stage.must(image_of(&found)), image);
    }
    stage.must(stage.cluster().kubectl(&["delete", "pods", "--all"]));
    stage.must(Kuik::install(stage.cluster(), stage.image(), &[]));
}
