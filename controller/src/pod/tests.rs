use serde_json::{Value, json};

use super::*;

fn proxies() -> ProxyPods {
    ProxyPods {
        namespace: "kuik".to_owned(),
        component: "proxy",
    }
}

fn facts(pod: Value) -> PodFacts {
    let pod: Pod = serde_json::from_value(pod).unwrap();
    reduce(&pod, &proxies()).unwrap().1
}

fn originals(facts: &PodFacts) -> Vec<(&str, &str, bool)> {
    let all = facts.images.iter();
    all.map(|image| (image.name.as_str(), image.original.as_str(), image.rewritten))
        .collect()
}

#[test]
fn originals_come_from_annotations_of_rewritten_images_alone() {
    let facts = facts(json!({
        "metadata": {"name": "p", "namespace": "n", "annotations": {
            "original-image-app": "reg.io:5000/app:1",
            "original-init-image-app": "busybox",
            "original-image-changed": "old:1",
            "original-ephemeral-image-debug": "debug:1",
            "original-volume-image-model": "models/m:1",
        }},
        "spec": {
            "initContainers": [{"name": "app", "image": "localhost:7439/busybox"}],
            "containers": [
                {"name": "app", "image": "localhost:7439/reg.io-5000/app:1"},
                {"name": "changed", "image": "new:2"},
                {"name": "bare", "image": "localhost:7439/quay.io/a/b:1"},
                {"name": "plain", "image": "nginx"},
            ],
            "ephemeralContainers": [{"name": "debug", "image": "localhost:7439/debug:1"}],
            "volumes": [{"name": "model", "image": {"reference": "localhost:7439/models/m:1"}}, {"name": "other"}],
        },
    }));
    let expected = [
        ("app", "busybox", true),
        ("app", "reg.io:5000/app:1", true),
        ("changed", "new:2", false),
        ("bare", "quay.io/a/b:1", true),
        ("plain", "nginx", false),
        ("debug", "debug:1", true),
        ("model", "models/m:1", true),
    ];
    assert_eq!(originals(&facts), expected);
}

#[test]
fn only_containers_without_their_image_wait_for_it() {
    let status = |name: &str, image_id: &str, state: Value| json!({"name": name, "image": "x", "imageID": image_id, "ready": false, "restartCount": 0, "state": state});
    let waits = |reason: &str| json!({"waiting": {"reason": reason}});
    let containers = ["a", "b", "c", "d", "e"].map(|name| json!({"name": name, "image": "localhost:7439/x"}));
    let facts = facts(json!({
        "metadata": {"name": "p", "namespace": "n"},
        "spec": {"containers": containers},
        "status": {"phase": "Running", "containerStatuses": [
            status("a", "", waits("ImagePullBackOff")),
            status("b", "", waits("ContainerCreating")),
            status("c", "sha256:1", waits("CrashLoopBackOff")),
            status("d", "sha256:1", json!({"running": {}})),
        ]},
    }));
    let waiting: Vec<Waiting> = facts.images.iter().map(|image| image.waiting).collect();
    assert_eq!(
        waiting,
        [
            Waiting::PullFailed,
            Waiting::Creating,
            Waiting::No,
            Waiting::No,
            Waiting::No
        ]
    );
}

#[test]
fn containers_of_a_pod_that_has_not_begun_wait() {
    let facts = facts(json!({
        "metadata": {"name": "p", "namespace": "n"},
        "spec": {"containers": [{"name": "a", "image": "localhost:7439/x"}]},
        "status": {"phase": "Pending"},
    }));
    assert_eq!(facts.images[0].waiting, Waiting::Creating);
}

#[test]
fn finished_ready_and_proxy_pods_are_told_apart() {
    let pod = |namespace: &str, phase: &str, ready: &str| {
        facts(json!({
            "metadata": {"name": "p", "namespace": namespace, "labels": {"app.kubernetes.io/component": "proxy"},
                "finalizers": ["pod.kuik.enix.io/finalizer", "other"]},
            "spec": {"nodeName": "node", "containers": [], "imagePullSecrets": [{"name": "s"}], "serviceAccountName": "sa"},
            "status": {"phase": phase, "conditions": [{"type": "Ready", "status": ready}]},
        }))
    };
    let running = pod("kuik", "Running", "True");
    assert!(running.is_proxy && running.ready && !running.finished);
    assert_eq!(
        (running.node.as_str(), running.service_account.as_str()),
        ("node", "sa")
    );
    assert_eq!(running.pull_secrets, ["s"]);
    assert_eq!(running.finalizers.len(), 2);
    let done = pod("other", "Succeeded", "False");
    assert!(!done.is_proxy && !done.ready && done.finished);
}

#[test]
fn what_was_put_back_before_is_read_off_the_pod() {
    let noted = |text: &str| {
        let facts = facts(json!({
            "metadata": {"name": "p", "namespace": "n", "annotations": {"kuik.enix.io/restored": text}},
            "spec": {"containers": []},
        }));
        facts.restored.into_iter().collect::<Vec<_>>()
    };
    let expected = ("app".to_owned(), "no proxy".to_owned());
    assert_eq!(noted(r#"{"app": "no proxy"}"#), [expected]);
    for text in ["", "app", "[1]"] {
        assert_eq!(noted(text), [], "{text}");
    }
}
