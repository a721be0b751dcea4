//! What an install consists of, and how its parts are set up.

use serde_json::{Value, json};

use super::chart;
use super::helm::{NAMESPACE, installed};
use crate::metadata::workspace_root;

#[test]
fn a_release_named_as_the_chart_has_the_names_of_v1() {
    let Some(chart) = chart() else { return };
    let objects = chart.release("kube-image-keeper").render();
    let names = objects.names();
    for name in [
        "StatefulSet/kube-image-keeper-registry",
        "DaemonSet/kube-image-keeper-proxy",
        "Deployment/kube-image-keeper-controllers",
        "Deployment/kube-image-keeper-webhook",
        "Service/kube-image-keeper-registry",
        "Service/kube-image-keeper-registry-peers",
        "Service/kube-image-keeper-webhook",
        "MutatingWebhookConfiguration/kube-image-keeper-mutating-webhook",
        "ConfigMap/kube-image-keeper-config",
        "CustomResourceDefinition/cachedimages.kuik.enix.io",
        "CustomResourceDefinition/repositories.kuik.enix.io",
        "Namespace/kuik-system-proxy",
    ] {
        assert!(names.iter().any(|found| found == name), "no {name} among {names:?}");
    }
    assert_eq!(
        objects.get("Service", "kube-image-keeper-registry")["spec"]["ports"][0]["port"],
        5000
    );
}

#[test]
fn names_follow_the_release_and_the_overrides() {
    let Some(chart) = chart() else { return };
    let long = "a".repeat(53);
    let table = [
        (chart.clone(), "kuik-kube-image-keeper"),
        (
            chart.clone().release("my-kube-image-keeper-2"),
            "my-kube-image-keeper-2",
        ),
        (chart.clone().set("nameOverride=kuik"), "kuik"),
        (chart.clone().set("fullnameOverride=cache"), "cache"),
        (chart.clone().release(&long), &long[..43]),
    ];
    for (chart, expected) in table {
        let objects = chart.render();
        let found = objects.of("StatefulSet").next().expect("a StatefulSet");
        assert_eq!(found["metadata"]["name"], format!("{expected}-registry"));
    }
}

#[test]
fn versions_are_the_workspaces() {
    let manifest = std::fs::read_to_string(workspace_root().join("Cargo.toml")).unwrap();
    let manifest: toml::Table = manifest.parse().unwrap();
    let version = manifest["workspace"]["package"]["version"].as_str().unwrap();
    let chart: Value = serde_yaml_ng::from_str(&crate::chart::read("Chart.yaml").unwrap()).unwrap();
    assert_eq!(
        (&chart["version"], &chart["appVersion"]),
        (&json!(version), &json!(version))
    );
}

#[test]
fn cache_nodes_start_together_and_find_each_other_before_they_are_ready() {
    let Some(chart) = chart() else { return };
    let objects = chart.render();
    let set = objects.get("StatefulSet", "kuik-kube-image-keeper-registry");
    assert_eq!(set["spec"]["podManagementPolicy"], "Parallel");
    assert_eq!(set["spec"]["replicas"], 3);
    let peers = objects.get("Service", set["spec"]["serviceName"].as_str().unwrap());
    assert_eq!(
        (&peers["spec"]["clusterIP"], &peers["spec"]["publishNotReadyAddresses"]),
        (&json!("None"), &json!(true))
    );
    let budget = objects.get("PodDisruptionBudget", "kuik-kube-image-keeper-registry");
    assert_eq!(budget["spec"]["maxUnavailable"], 1);
    let spread = &set["spec"]["template"]["spec"]["topologySpreadConstraints"];
    assert!(
        spread
            .as_array()
            .unwrap()
            .iter()
            .all(|one| one["whenUnsatisfiable"] == "ScheduleAnyway"),
        "{spread}"
    );
}

#[test]
fn proxies_replace_each_other_without_a_gap_on_every_node() {
    let Some(chart) = chart() else { return };
    let objects = chart.render();
    let set = objects.get("DaemonSet", "kuik-kube-image-keeper-proxy");
    let pod = &set["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    assert_eq!(set["metadata"]["namespace"], "kuik-system-proxy");
    assert_eq!(
        set["spec"]["updateStrategy"]["rollingUpdate"],
        json!({ "maxSurge": 1, "maxUnavailable": 0 })
    );
    assert_eq!(
        (&pod["hostNetwork"], &pod["dnsPolicy"]),
        (&json!(true), &json!("ClusterFirstWithHostNet"))
    );
    // A declared port would be taken by the pod that is to be replaced, and the next one could not be scheduled.
    assert_eq!(container["ports"], Value::Null);
    assert_eq!(pod["tolerations"], json!([{ "operator": "Exists" }]));
    assert_eq!(pod["priorityClassName"], "system-node-critical");
    for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
        assert_eq!(container[probe]["exec"]["command"][1], "check", "{probe}");
    }
    let configuration = objects.configuration("proxy.toml");
    assert_eq!(configuration["reuse_port"].as_bool(), Some(true));
    let drain = configuration["limits"]["drain_seconds"].as_integer().unwrap();
    assert!(
        drain < pod["terminationGracePeriodSeconds"].as_i64().unwrap(),
        "{drain}"
    );
}

#[test]
fn pods_restart_for_their_configuration_and_not_for_the_policy() {
    let Some(chart) = chart() else { return };
    let checksums = |value: &str| {
        let objects = chart.clone().set(value).render();
        let annotations = objects.pods().map(|(object, pod)| {
            (
                object["metadata"]["name"].as_str().unwrap().to_owned(),
                pod["metadata"]["annotations"]["checksum/config"].to_string(),
            )
        });
        annotations.collect::<std::collections::BTreeMap<_, _>>()
    };
    let before = checksums("logFormat=json");
    let after = checksums("controllers.webhook.ignoredImages={^x}");
    assert_eq!(before, after);
    let changed = |after: std::collections::BTreeMap<String, String>| {
        after
            .into_iter()
            .filter(|(name, sum)| before[name] != *sum)
            .map(|(name, _)| name)
            .collect::<Vec<_>>()
    };
    assert_eq!(
        changed(checksums("registry.copies=2")),
        ["kuik-kube-image-keeper-registry"]
    );
    assert_eq!(
        changed(checksums("controllers.webhook.ignoredNamespaces={a}")),
        ["kuik-kube-image-keeper-controllers"]
    );
}

#[test]
fn plain_yaml_has_no_hooks_that_would_run_at_once() {
    let Some(chart) = chart() else { return };
    let hooks = |chart: super::Chart| {
        let rendered = chart.render();
        let hooked = rendered
            .0
            .iter()
            .filter(|object| object["metadata"]["annotations"]["helm.sh/hook"].is_string());
        hooked
            .map(|object| {
                object["metadata"]["annotations"]["helm.sh/hook"]
                    .as_str()
                    .unwrap()
                    .to_owned()
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(hooks(chart.clone()), Vec::<String>::new());
    assert_eq!(hooks(chart.clone().set("cleanup.enabled=true")), ["pre-delete"]);
    assert_eq!(hooks(chart.set("tests.enabled=true")), ["test"; 4]);
}

#[test]
fn definitions_outlive_the_release_unless_told_otherwise() {
    let Some(chart) = chart() else { return };
    let policy = |chart: super::Chart| {
        let objects = chart.render();
        objects
            .of("CustomResourceDefinition")
            .map(|object| object["metadata"]["annotations"]["helm.sh/resource-policy"].clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(policy(chart.clone()), [json!("keep"), json!("keep")]);
    assert_eq!(policy(chart.clone().set("crds.keep=false")), [Value::Null, Value::Null]);
    assert!(policy(chart.clone().set("crds.install=false")).is_empty());
    let rules = |version: &str| {
        chart
            .clone()
            .kubernetes(version)
            .text()
            .unwrap()
            .matches("x-kubernetes-validations")
            .count()
    };
    assert_eq!((rules("1.24.0"), rules("1.25.0")), (0, 2));
}

#[test]
fn keys_that_do_not_exist_are_refused() {
    let Some(chart) = chart() else { return };
    for key in [
        "replicas",
        "registry.replica",
        "proxy.port",
        "webhook.ignoredNamespaces",
        "controllers.pdb.enabled",
        "image.name",
        "persistence.enabled",
    ] {
        let error = chart.clone().set(&format!("{key}=1")).text().unwrap_err();
        assert!(error.contains("not allowed"), "{key}: {error}");
    }
    for wrong in [
        "registry.replicas=0",
        "registry.persistence.enabled=maybe",
        "proxy.hostPort=70000",
        "freshness.default=sometimes",
        "architectures={auto,arm64}",
    ] {
        assert!(chart.clone().set(wrong).text().is_err(), "{wrong}");
    }
}

#[test]
fn images_are_named_as_far_as_they_are_known() {
    let Some(chart) = chart() else { return };
    let image = |values: &[&str]| {
        let chart = values.iter().fold(chart.clone(), |chart, value| chart.set(value));
        let rendered = chart.render();
        let (_, pod) = rendered
            .pods()
            .find(|(object, _)| object["kind"] == "StatefulSet")
            .unwrap();
        pod["spec"]["containers"][0]["image"].as_str().unwrap().to_owned()
    };
    let digest = format!("sha256:{}", "0".repeat(64));
    let own = "ghcr.io/kube-image-keeper/kube-image-keeper-ha";
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(image(&[]), format!("{own}:{version}"));
    assert_eq!(image(&["image.tag=2"]), format!("{own}:2"));
    assert_eq!(image(&[&format!("image.digest={digest}")]), format!("{own}@{digest}"));
    assert_eq!(
        image(&["image.tag=2", &format!("registry.image.digest={digest}")]),
        format!("{own}:2@{digest}")
    );
    assert_eq!(
        image(&["image.registry=", "image.repository=corp:5000/kuik"]),
        format!("corp:5000/kuik:{version}")
    );
    assert_eq!(
        image(&["image.repository=corp:5000/kuik"]),
        format!("corp:5000/kuik:{version}")
    );
    assert_eq!(
        image(&["global.imageRegistry=corp:5000"]),
        format!("corp:5000/kube-image-keeper/kube-image-keeper-ha:{version}")
    );
    assert_eq!(
        image(&["registry.image.repository=team/kuik", "registry.image.tag=3"]),
        "ghcr.io/team/kuik:3"
    );
}

#[test]
fn notes_name_what_is_unsafe() {
    let (Some(chart), Some(_)) = (chart(), installed("KUIK_HELM4")) else {
        return;
    };
    let table = [
        ("registry.replicas=1", "registry.replicas"),
        ("registry.replicas=4", "registry.replicas"),
        ("registry.persistence.enabled=false", "emptyDirs"),
        ("rbac.pullSecrets=false", "rbac.pullSecrets"),
        ("webhook.hostNetwork=true", "webhook.hostNetwork"),
        ("registry.pdb.minAvailable=3", "registry.pdb.minAvailable"),
        (
            &format!("proxy.namespaceOverride={NAMESPACE}"),
            "proxy.namespaceOverride",
        ),
    ];
    let quiet = chart.clone().set("registry.persistence.enabled=true");
    assert!(!quiet.notes().unwrap().contains("Please note"));
    for (value, named) in table {
        let notes = quiet.clone().set(value).notes().unwrap();
        let (_, warnings) = notes
            .split_once("Please note")
            .unwrap_or_else(|| panic!("{value}: no warning in {notes}"));
        assert!(warnings.contains(named), "{value}: {warnings}");
    }
}
