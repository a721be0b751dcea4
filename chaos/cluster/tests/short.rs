//! What kuik promises its users, on a real cluster. The gate runs these; `full` has the rest.

#![allow(clippy::unwrap_used, reason = "a test ends where it fails")]

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use cluster::pods::{image_of, is_ready, name_of, node_of};
use cluster::{Cluster, Deployment, Installer, NAMESPACE, PROXY_NAMESPACE, Pod, Source, Stage, wait};
use serde_json::{Value, json};

/// For a pod that is pulled through the cache, on a busy machine.
const RUNNING: Duration = Duration::from_secs(60);

/// For the controller to see a pod and the tier to have its image whole.
const CACHED: Duration = Duration::from_secs(60);

#[test]
fn three_cache_nodes_are_ready_a_minute_after_helm_install() {
    let Some(stage) = Stage::enter() else { return };
    println!(
        "ready {:.1} s after helm install",
        stage.kuik().ready_after.as_secs_f64()
    );
    assert!(stage.kuik().ready_after <= Duration::from_secs(60));
    let nodes = stage.must(stage.cluster().list(&[
        "pods",
        "--namespace",
        NAMESPACE,
        "--selector",
        "app.kubernetes.io/component=registry",
    ]));
    assert_eq!(nodes.iter().filter(|pod| is_ready(pod)).count(), 3);
}

#[test]
fn pods_of_a_deployment_run_from_rewritten_images_on_every_node() {
    let Some(stage) = Stage::enter() else { return };
    let image = stage.app_image("rewritten:1");
    stage.must(run_everywhere(stage.cluster(), "rewritten", &image));
    stage.must(stage.cluster().kubectl(&["delete", "deployment", "rewritten"]));
}

/// Runs a pod of a Deployment on each node, and looks at what the webhook made of them.
fn run_everywhere(cluster: &Cluster, name: &str, image: &str) -> Result<()> {
    let n_nodes = cluster.nodes()?.len();
    cluster.apply(&Deployment::new(name, image, u32::try_from(n_nodes)?).manifest())?;
    cluster.wait_for(&["deployment", name], "available", RUNNING, |found| {
        found["status"]["readyReplicas"] == n_nodes
    })?;
    let pods = cluster.pods_of(name)?;
    for pod in &pods {
        ensure!(image_of(pod)? == format!("localhost:7439/{image}"), "{pod}");
        let annotation = &pod["metadata"]["annotations"]["original-image-app"];
        ensure!(annotation == image, "the pod does not say what it was: {annotation}");
    }
    let mut nodes = pods.iter().map(node_of).collect::<Result<Vec<_>>>()?;
    nodes.sort_unstable();
    nodes.dedup();
    ensure!(nodes.len() == n_nodes, "the pods are on {nodes:?}");
    Ok(())
}

#[test]
fn kubectl_prints_v1s_columns_and_they_tell_the_truth() {
    let Some(stage) = Stage::enter_own() else { return };
    let image = stage.must(stage.machine().publish(Source::Public, "columns:1"));
    let pod = Pod::new("columns", &image);
    stage.must(stage.cluster().start(&pod, RUNNING));
    let cached = stage.must(stage.cluster().wait_cached(&image, CACHED));
    let name = stage.must(name_of(&cached)).to_owned();
    assert_eq!(name, "source.kuik.test-columns-1", "v1's name");

    let (header, row) = stage.must(table(stage.cluster(), "cachedimages", &name));
    assert_eq!(
        header,
        ["NAME", "STATUS", "CACHED", "RETAIN", "EXPIRES AT", "PODS COUNT", "AGE"]
    );
    assert_eq!(&row[..3], [name.as_str(), "Ready", "true"]);
    assert_eq!(row[5], "1", "one pod uses it: {row:?}");

    let (header, row) = stage.must(table(stage.cluster(), "repositories", "source.kuik.test-columns"));
    assert_eq!(header, ["NAME", "STATUS", "IMAGES", "AGE"]);
    assert_eq!(&row[..3], ["source.kuik.test-columns", "Ready", "1"]);

    stage.must(stage.cluster().delete(&pod));
    stage.must(wait::until(CACHED, "the image to be unused", || {
        let (_, row) = table(stage.cluster(), "cachedimages", &name)?;
        Ok((row[5] == "0" && !row[4].is_empty()).then_some(()))
    }));
    let unused = stage.must(stage.cluster().get(&["cachedimage", &name]));
    let users = unused["status"]["usedBy"]["pods"].as_array().map_or(0, Vec::len);
    assert_eq!(users, 0, "{}", unused["status"]);
}

/// The header and the row of one object as `kubectl get` prints them.
fn table(cluster: &Cluster, kind: &str, name: &str) -> Result<(Vec<String>, Vec<String>)> {
    let text = cluster.kubectl(&["get", kind, name])?;
    let mut lines = text.lines();
    let header = lines.next().context("a header")?;
    let row = lines.next().context("a row")?;
    let starts = column_starts(header);
    Ok((cells(header, &starts), cells(row, &starts)))
}

/// Where the columns of `kubectl get` begin: after two spaces or more.
fn column_starts(header: &str) -> Vec<usize> {
    let two_before = |at: usize| at == 0 || header[..at].ends_with("  ");
    let starts = header
        .char_indices()
        .filter(|(at, letter)| *letter != ' ' && two_before(*at));
    starts.map(|(at, _)| at).collect()
}

fn cells(line: &str, starts: &[usize]) -> Vec<String> {
    let ends = starts.iter().skip(1).copied().chain([line.len()]);
    let cells = starts
        .iter()
        .zip(ends)
        .map(|(start, end)| line.get(*start..end).unwrap_or("").trim());
    cells.map(str::to_owned).collect()
}

#[test]
fn a_pod_comes_back_on_another_node_with_its_source_down_and_a_cache_pod_killed() {
    let Some(stage) = Stage::enter_own() else { return };
    let image = stage.must(stage.machine().publish_sized(Source::Public, "outage:1", 20));
    stage.must(stage.cluster().apply(&Deployment::new("outage", &image, 1).manifest()));
    stage.must(
        stage
            .cluster()
            .wait_for(&["deployment", "outage"], "available", RUNNING, is_available),
    );
    stage.must(stage.cluster().wait_cached(&image, CACHED));
    let first = stage.must(only_node(stage.cluster(), "outage"));
    stage.must(stage.cluster().kubectl(&["cordon", &first]));
    for node in stage
        .must(stage.cluster().nodes())
        .iter()
        .filter(|node| **node != first)
    {
        stage.must(stage.machine().remove_image(node, &image));
        let images = stage.must(stage.machine().images(node));
        assert!(
            !images.iter().any(|name| name.ends_with(&image)),
            "{node} has it already: {images:?}"
        );
    }

    stage.must(stage.machine().stop_sources());
    let cache_pod = stage.must(a_pod_of(stage.cluster(), "registry"));
    stage.must(stage.cluster().kubectl(&[
        "delete",
        "pod",
        "--namespace",
        NAMESPACE,
        &cache_pod,
        "--force",
        "--grace-period=0",
    ]));
    stage.must(
        stage
            .cluster()
            .kubectl(&["delete", "pod", "--selector", "app=outage", "--wait=false"]),
    );
    let back = wait::until(RUNNING, "the pod to be back", || {
        let pods = stage.cluster().pods_of("outage")?;
        Ok(pods.into_iter().find(is_ready))
    });
    let (pod, took) = stage.must(back);
    println!("back {:.1} s after it was deleted", took.as_secs_f64());
    assert_ne!(stage.must(node_of(&pod)), first);

    stage.must(stage.machine().start_sources());
    stage.must(stage.cluster().kubectl(&["uncordon", &first]));
    stage.must(stage.cluster().kubectl(&["delete", "deployment", "outage"]));
    stage.must(cluster::wait_ready(stage.cluster(), RUNNING));
}

fn is_available(deployment: &Value) -> bool {
    deployment["status"]["availableReplicas"].as_u64().unwrap_or(0) > 0
}

fn only_node(cluster: &Cluster, app: &str) -> Result<String> {
    let pods = cluster.pods_of(app)?;
    Ok(node_of(pods.first().context("a pod")?)?.to_owned())
}

/// The name of a pod of one of kuik's components.
fn a_pod_of(cluster: &Cluster, component: &str) -> Result<String> {
    let selector = format!("app.kubernetes.io/component={component}");
    let pods = cluster.list(&["pods", "--namespace", NAMESPACE, "--selector", &selector])?;
    Ok(name_of(pods.first().context("a pod")?)?.to_owned())
}

#[test]
fn a_pod_on_a_node_without_a_proxy_gets_its_image_back_and_runs() {
    let Some(stage) = Stage::enter_own() else { return };
    let image = stage.must(stage.machine().publish(Source::Public, "no-proxy:1"));
    let node = stage.must(stage.cluster().nodes()).pop().unwrap();
    stage.must(banish_proxy(stage.cluster(), &node));
    let pod = Pod::new("no-proxy", &image).on(&node);
    let took = stage.must(stage.cluster().start(&pod, RUNNING));
    println!("running {:.1} s after it was created", took.as_secs_f64());
    let found = stage.must(stage.cluster().pod(&pod));
    assert_eq!(stage.must(image_of(&found)), image, "it has its own image back");
    let about = "involvedObject.name=no-proxy,reason=OriginalImageRestored";
    let events = stage.must(stage.cluster().list(&["events", "--field-selector", about]));
    assert_eq!(events.len(), 1, "an event says so");
    stage.must(stage.cluster().delete(&pod));
    stage.must(set_proxy_affinity(stage.cluster(), &Value::Null));
    stage.must(cluster::wait_ready(stage.cluster(), RUNNING));
}

/// Keeps the proxy off one node, and waits until it is gone from there.
fn banish_proxy(cluster: &Cluster, node: &str) -> Result<()> {
    let elsewhere = json!([{"key": "kubernetes.io/hostname", "operator": "NotIn", "values": [node]}]);
    let affinity = json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {
        "nodeSelectorTerms": [{"matchExpressions": elsewhere}],
    }}});
    set_proxy_affinity(cluster, &affinity)?;
    wait::until(RUNNING, "the proxy to leave its node", || {
        let on_node = format!("spec.nodeName={node}");
        let pods = cluster.list(&["pods", "--namespace", PROXY_NAMESPACE, "--field-selector", &on_node])?;
        Ok(pods.is_empty().then_some(()))
    })?;
    cluster::wait_ready(cluster, RUNNING)
}

fn set_proxy_affinity(cluster: &Cluster, affinity: &Value) -> Result<()> {
    let patch = json!({"spec": {"template": {"spec": {"affinity": affinity}}}}).to_string();
    let names = cluster.list(&["daemonsets", "--namespace", PROXY_NAMESPACE])?;
    let name = name_of(names.first().context("a DaemonSet")?)?;
    let patching = [
        "patch",
        "daemonset",
        name,
        "--namespace",
        PROXY_NAMESPACE,
        "--patch",
        &patch,
    ];
    cluster.kubectl(&patching)?;
    Ok(())
}

#[test]
fn an_uninstall_leaves_nothing_that_waits_for_kuik() {
    let Some(mut stage) = Stage::enter_own() else { return };
    let image = stage.must(stage.machine().publish(Source::Public, "uninstall:1"));
    let running = Pod::new("uninstall-running", &image);
    stage.must(stage.cluster().start(&running, RUNNING));
    stage.must(stage.cluster().wait_cached(&image, CACHED));
    let waiting = Pod::new("uninstall-waiting", "source.kuik.test/not-there-yet:1");
    stage.must(stage.cluster().apply(&waiting.manifest()));
    stage.forget_kuik();
    stage.must(Installer::Helm3.uninstall(stage.cluster(), stage.image(), &[]));

    let webhooks = stage.must(
        stage
            .cluster()
            .kubectl(&["get", "mutatingwebhookconfigurations", "--output", "name"]),
    );
    assert_eq!(webhooks, "", "no webhook is left");
    let found = stage.must(stage.cluster().pod(&waiting));
    assert_eq!(stage.must(image_of(&found)), "source.kuik.test/not-there-yet:1");
    assert!(found["metadata"]["finalizers"].is_null(), "no finalizer on a pod");
    stage.must(stage.machine().publish(Source::Public, "not-there-yet:1"));
    stage.must(stage.cluster().delete(&waiting));
    stage.must(stage.cluster().start(&waiting, RUNNING));
    let left = stage.must(stage.cluster().pod(&running));
    assert!(is_ready(&left), "what ran still runs");
    // Objects stay with their definitions, and can be deleted though nobody is there to finish them.
    stage.must(
        stage
            .cluster()
            .kubectl(&["delete", "cachedimages,repositories", "--all", "--timeout=20s"]),
    );
    for pod in [running, waiting] {
        stage.must(stage.cluster().delete(&pod));
    }
}
