//! Changes of kuik itself, under pods that keep coming.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::Result;
use cluster::{Cluster, PROXY_NAMESPACE, Pod, Source, Stage, wait};

use crate::nodes::failed_pulls;
use crate::{CACHED, READY, RUNNING, proxy_daemon_set};

/// A new pod on every node.
const INTERVAL: Duration = Duration::from_secs(1);

#[test]
#[ignore = "long: make e2e"]
fn no_pull_fails_while_the_proxies_are_replaced() {
    let Some(stage) = Stage::enter_own() else { return };
    let name = stage.must(proxy_daemon_set(stage.cluster()));
    under_pulls(&stage, "rollout", || {
        let daemon_set = format!("daemonset/{name}");
        stage
            .cluster()
            .kubectl(&["rollout", "restart", &daemon_set, "--namespace", PROXY_NAMESPACE])?;
        cluster::wait_ready(stage.cluster(), READY)
    });
}

#[test]
#[ignore = "long: make e2e"]
fn no_pull_fails_during_an_upgrade_and_a_rollback() {
    let Some(mut stage) = Stage::enter_own() else { return };
    under_pulls(&stage, "upgrade", || {
        let changed =
            ["registry", "proxy", "webhook", "controllers"].map(|part| format!("{part}.podAnnotations.changed=yes"));
        let values: Vec<&str> = changed.iter().flat_map(|value| ["--set", value]).collect();
        stage.kuik().upgrade(stage.cluster(), &values, READY)?;
        stage.kuik().rollback(stage.cluster(), READY)
    });
    stage.forget_kuik();
}

/// Makes a change while a pod a second starts on every node, each of which must pull.
fn under_pulls(stage: &Stage, name: &str, change: impl FnOnce() -> Result<()>) {
    let cluster = stage.cluster();
    let image = stage.must(stage.machine().publish(Source::Public, &format!("{name}:1")));
    stage.must(cluster.start(&Pod::new(name, &image), RUNNING));
    stage.must(cluster.wait_cached(&image, CACHED));
    stage.must(cluster.kubectl(&["delete", "events", "--all"]));
    let nodes = stage.must(cluster.nodes());
    let over = AtomicBool::new(false);
    let (changed, started) = thread::scope(|scope| {
        let pods = scope.spawn(|| start_pods(cluster, &nodes, name, &image, &over));
        let changed = change();
        over.store(true, Ordering::Relaxed);
        (changed, pods.join())
    });
    stage.must(changed);
    let pods = stage.must(started.expect("the pods' thread ends"));
    println!("{} pods started meanwhile", pods.len());
    for pod in &pods {
        stage.must(ended(cluster, pod));
    }
    let failed = stage.must(failed_pulls(cluster));
    assert!(failed.is_empty(), "{failed:#?}");
    stage.must(cluster.kubectl(&["delete", "pods", "--all"]));
}

fn start_pods(cluster: &Cluster, nodes: &[String], name: &str, image: &str, over: &AtomicBool) -> Result<Vec<Pod>> {
    let mut pods = Vec::new();
    while !over.load(Ordering::Relaxed) {
        for node in nodes {
            let pod = Pod::new(&format!("{name}-{}", pods.len()), image)
                .on(node)
                .always()
                .ending();
            cluster.apply(&pod.manifest())?;
            pods.push(pod);
        }
        thread::sleep(INTERVAL);
    }
    Ok(pods)
}

fn ended(cluster: &Cluster, pod: &Pod) -> Result<()> {
    wait::until(RUNNING, "a pod to end well", || {
        let found = cluster.pod(pod)?;
        Ok((found["status"]["phase"] == "Succeeded").then_some(()))
    })?;
    Ok(())
}
