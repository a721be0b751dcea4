//! What a real API server makes of our answers.

use std::time::Duration;

use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use kube::{Client, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use testkit::eventually;

use crate::control_plane::ControlPlane;
use crate::fake_control::{FakeControl, Mood};
use crate::harness::{Webhook, image, reason, watching};

const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

async fn create<K>(api: &Api<K>, object: Value) -> K
where
    K: Resource + Clone + DeserializeOwned + Serialize + std::fmt::Debug,
    K::DynamicType: Default,
{
    let object = serde_json::from_value(object).unwrap();
    api.create(&PostParams::default(), &object).await.unwrap()
}

async fn register(client: &Client, webhook: &Webhook) {
    use base64::Engine as _;
    let authority = base64::engine::general_purpose::STANDARD.encode(webhook.authority.pem());
    let configuration = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": "kuik-mutating-webhook"},
        "webhooks": [{
            "name": "pods.kuik.enix.io", "admissionReviewVersions": ["v1"], "sideEffects": "None",
            "clientConfig": {
                "url": format!("https://127.0.0.1:{}/mutate-core-v1-pod", webhook.address.port()),
                "caBundle": authority,
            },
            // An answer that is wrong must show here.
            "failurePolicy": "Fail", "reinvocationPolicy": "IfNeeded", "timeoutSeconds": 3,
            "rules": [
                {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"], "resources": ["pods"]},
                {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["UPDATE"],
                 "resources": ["pods/ephemeralcontainers"]},
            ],
        }],
    });
    create(&Api::<MutatingWebhookConfiguration>::all(client.clone()), configuration).await;
}

async fn proxies_ready(client: &Client, number: i32) {
    let daemonsets: Api<DaemonSet> = Api::namespaced(client.clone(), "kuik-proxy");
    let status = json!({"status": {
        "numberReady": number, "currentNumberScheduled": 1, "numberMisscheduled": 0, "desiredNumberScheduled": 1,
    }});
    let parameters = PatchParams::default();
    daemonsets
        .patch_status("kuik-proxy", &parameters, &Patch::Merge(status))
        .await
        .unwrap();
}

async fn create_proxies(client: &Client) {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    create(&namespaces, json!({"metadata": {"name": "kuik-proxy"}})).await;
    let labels = json!({"app": "proxy"});
    let daemonset = json!({
        "metadata": {"name": "kuik-proxy"},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [{"name": "proxy", "image": "kuik"}]},
            },
        },
    });
    create(&Api::<DaemonSet>::namespaced(client.clone(), "kuik-proxy"), daemonset).await;
}

fn pod(name: &str) -> Value {
    json!({
        "metadata": {"name": name},
        "spec": {
            "initContainers": [{"name": "setup", "image": format!("busybox@{DIGEST}")}],
            "containers": [{"name": "app", "image": "reg.io:5000/a:1"}, {"name": "secret", "image": "quay.io/private:1"}],
            "volumes": [{"name": "data", "image": {"reference": "quay.io/data:1"}}],
        },
    })
}

async fn stored(pods: &Api<Pod>, name: &str) -> Value {
    serde_json::to_value(pods.get(name).await.unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_server_takes_our_patches() {
    let Some(mut control_plane) = ControlPlane::start().await else {
        return;
    };
    let client = control_plane.client.clone();
    let node = FakeControl::start(Mood::Answers).await;
    create_proxies(&client).await;
    let webhook = watching(&client, &node).await;
    register(&client, &webhook).await;
    let pods: Api<Pod> = Api::default_namespaced(client.clone());

    let try_out = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    let dry_run = async || {
        let tried = serde_json::from_value(pod("tried")).unwrap();
        let tried = pods.create(&try_out, &tried).await.ok()?;
        serde_json::to_value(tried).ok()
    };
    eventually(Duration::from_secs(10), "the webhook to be asked", async || {
        reason(&dry_run().await?).filter(|reason| reason == "NoProxy")
    })
    .await;
    proxies_ready(&client, 1).await;
    eventually(Duration::from_secs(10), "the proxies to be noticed", async || {
        let tried = dry_run().await?;
        image(&tried).starts_with("localhost:7439/").then_some(())
    })
    .await;

    created_pod_is_rewritten_everywhere(&pods).await;
    changed_image_is_rewritten_and_a_label_changes_nothing(&pods).await;
    ephemeral_container_is_rewritten(&pods).await;
    deleted_proxies_stop_it_and_a_lost_api_server_does_not(&mut control_plane, &webhook).await;
}

async fn created_pod_is_rewritten_everywhere(pods: &Api<Pod>) {
    create(pods, pod("web")).await;
    let web = stored(pods, "web").await;
    let spec = &web["spec"];
    assert_eq!(image(&web), "localhost:7439/reg.io-5000/a:1");
    assert_eq!(spec["containers"][1]["image"], "quay.io/private:1");
    assert_eq!(
        spec["initContainers"][0]["image"],
        format!("localhost:7439/busybox@{DIGEST}")
    );
    assert_eq!(
        spec["volumes"][0]["image"]["reference"],
        "localhost:7439/quay.io/data:1"
    );
    let annotations = &web["metadata"]["annotations"];
    assert_eq!(annotations["original-image-app"], "reg.io:5000/a:1");
    assert!(
        annotations["kuik.enix.io/not-rewritten"]
            .as_str()
            .unwrap()
            .contains("NoGrant")
    );
}

async fn changed_image_is_rewritten_and_a_label_changes_nothing(pods: &Api<Pod>) {
    let parameters = PatchParams::default();
    let before = stored(pods, "web").await;
    let label = json!({"metadata": {"labels": {"a": "b"}}});
    pods.patch("web", &parameters, &Patch::Merge(label)).await.unwrap();
    let after = stored(pods, "web").await;
    assert_eq!(after["spec"], before["spec"]);
    assert_eq!(after["metadata"]["annotations"], before["metadata"]["annotations"]);
    let set = json!({"spec": {"containers": [{"name": "app", "image": "reg.io:5000/a:2"}]}});
    pods.patch("web", &parameters, &Patch::Strategic(set)).await.unwrap();
    let after = stored(pods, "web").await;
    assert_eq!(image(&after), "localhost:7439/reg.io-5000/a:2");
    assert_eq!(
        after["metadata"]["annotations"]["original-image-app"],
        "reg.io:5000/a:2"
    );
}

async fn ephemeral_container_is_rewritten(pods: &Api<Pod>) {
    let debug = json!({"spec": {"ephemeralContainers": [{"name": "debug", "image": "busybox:1"}]}});
    let debug: Patch<Value> = Patch::Strategic(debug);
    pods.patch_ephemeral_containers("web", &PatchParams::default(), &debug)
        .await
        .unwrap();
    let web = stored(pods, "web").await;
    assert_eq!(
        web["spec"]["ephemeralContainers"][0]["image"],
        "localhost:7439/busybox:1"
    );
}

async fn deleted_proxies_stop_it_and_a_lost_api_server_does_not(control_plane: &mut ControlPlane, webhook: &Webhook) {
    let client = control_plane.client.clone();
    let simple = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "app", "image": "nginx"}]}});
    control_plane.kill_apiserver();
    tokio::time::sleep(Duration::from_secs(3)).await;
    let (created, _took) = webhook.create("default", &simple).await;
    assert_eq!(
        image(&created),
        "localhost:7439/nginx",
        "what was known of the proxies stays"
    );

    control_plane.restart_apiserver().await;
    let daemonsets: Api<DaemonSet> = Api::namespaced(client, "kuik-proxy");
    daemonsets.delete("kuik-proxy", &DeleteParams::default()).await.unwrap();
    eventually(Duration::from_secs(60), "the deletion to be noticed", async || {
        let (created, _took) = webhook.create("default", &simple).await;
        reason(&created).filter(|reason| reason == "NoProxy")
    })
    .await;
}
