//! Objects, certificates and pods, with the program's own code against a real API server.

use std::time::Duration;

use crate::support::Story;
use controller::crd::{CachedImage, Repository};
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Event, Pod, Secret};
use kube::ResourceExt;
use kube::api::{Patch, PatchParams};
use proto::v1::{ImagePhase, ImageState};
use serde_json::{Value, json};
use tokio::time::Instant;

const NGINX: &str = "docker.io-library-nginx-1.25";

fn pod(name: &str, image: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {"nodeName": "node", "containers": [{"name": "app", "image": image}]}})
}

fn ready(reference: &str) -> ImageState {
    ImageState {
        reference: reference.to_owned(),
        phase: ImagePhase::Ready.into(),
        digest: format!("sha256:{}", "a".repeat(64)),
        source_digest: format!("sha256:{}", "a".repeat(64)),
        copies: 3,
        copies_wanted: 3,
        ..ImageState::default()
    }
}

async fn image(story: &Story, name: &str, holds: impl Fn(&CachedImage) -> bool) -> CachedImage {
    let what = format!("CachedImage {name}");
    story
        .until(&what, async || {
            story
                .all::<CachedImage>()
                .get(name)
                .await
                .ok()
                .filter(|object| holds(object))
        })
        .await
}

fn phase(object: &CachedImage) -> &str {
    object
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref())
        .unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_are_there_before_anyone_can_wait_for_them() {
    let Some(mut story) = Story::begin("certificates").await else {
        return;
    };
    let webhook = json!({"name": "mpod.kb.io", "admissionReviewVersions": ["v1"], "sideEffects": "None",
        "clientConfig": {"service": {"name": "f-webhook", "namespace": story.namespace}}});
    let name = json!({"name": "f-mutating-webhook"});
    story
        .make::<MutatingWebhookConfiguration>(json!({"metadata": name, "webhooks": [webhook]}))
        .await;
    let began = Instant::now();
    story.start("one");
    for name in ["f-ca", "f-kek", "f-registry-tls", "f-webhook-tls"] {
        story
            .until(name, async || {
                story.inside::<Secret>().get_opt(name).await.unwrap().map(drop)
            })
            .await;
    }
    story
        .until("authority in the webhook's configuration", async || {
            let found = story
                .all::<MutatingWebhookConfiguration>()
                .get("f-mutating-webhook")
                .await
                .unwrap();
            found.webhooks?[0].client_config.ca_bundle.clone()
        })
        .await;
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    story
        .all::<MutatingWebhookConfiguration>()
        .delete("f-mutating-webhook", &Default::default())
        .await
        .unwrap();
    story.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cache_nodes_have_their_sealing_key_where_others_make_the_certificates() {
    let settings =
        "[certificates]\nmode = \"provided\"\ntls = { ca = \"/no/ca\", cert = \"/no/cert\", key = \"/no/key\" }";
    let Some(mut story) = Story::begin_with("provided", settings).await else {
        return;
    };
    story.start("one");
    let read = async |name: &str| story.inside::<Secret>().get_opt(name).await.unwrap();
    let key = story.until("f-kek", async || read("f-kek").await).await;
    assert!(key.data.unwrap().contains_key("active"));
    for name in ["f-ca", "f-registry-tls", "f-webhook-tls"] {
        assert!(read(name).await.is_none(), "{name} is for others to make");
    }
    story.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pods_image_is_kept_shown_and_told_to_the_tier() {
    let Some(mut story) = Story::begin("images").await else {
        return;
    };
    story.node("node").await;
    story.make_in::<Pod>(pod("old", "nginx:1.25")).await;
    story.start("one");
    image(&story, NGINX, |object| phase(object) == "Synchronizing").await;
    story
        .until("the tier is told", async || {
            let told = story.tier.told(|told| (told.desired.clone(), told.platforms.clone()));
            (told.0.contains_key("docker.io/library/nginx:1.25") && told.1 == ["linux/amd64"]).then_some(())
        })
        .await;
    story.tier.say(ready("docker.io/library/nginx:1.25"));
    let shown = image(&story, NGINX, |object| phase(object) == "Ready").await;
    let status = shown.status.unwrap();
    assert_eq!((status.is_cached, status.digest.unwrap().len()), (Some(true), 64));
    assert_eq!(
        status.used_by.unwrap().pods[0].namespaced_name,
        format!("{}/old", story.namespace)
    );
    assert_eq!(
        shown.metadata.owner_references.unwrap()[0].name,
        "docker.io-library-nginx"
    );
    story
        .until("an event", async || {
            let events = kube::Api::<Event>::default_namespaced(story.client.clone())
                .list(&Default::default())
                .await
                .unwrap();
            let ours = events.items.into_iter().find(|event| {
                event.reason.as_deref() == Some("Cached") && event.involved_object.name.as_deref() == Some(NGINX)
            });
            ours.map(drop)
        })
        .await;
    let lost = ImageState {
        phase: ImagePhase::Lost.into(),
        ..ready("docker.io/library/nginx:1.25")
    };
    story.tier.say(lost);
    image(&story, NGINX, |object| phase(object) == "Pulling").await;
    story.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_prints_the_columns_of_v1() {
    let Some(mut story) = Story::begin("columns").await else {
        return;
    };
    story.node("node").await;
    story.make_in::<Pod>(pod("p", "nginx:1.25")).await;
    story.tier.say(ready("docker.io/library/nginx:1.25"));
    story.start("one");
    image(&story, NGINX, |object| phase(object) == "Ready").await;
    let table = async |path: &str| -> Value {
        let request = http::Request::get(path).header("accept", "application/json;as=Table;v=v1;g=meta.k8s.io");
        story.client.request(request.body(Vec::new()).unwrap()).await.unwrap()
    };
    let columns = |table: &Value| -> Vec<String> {
        let all = table["columnDefinitions"].as_array().unwrap().iter();
        let shown = all.filter(|column| column["priority"] == 0);
        shown
            .map(|column| column["name"].as_str().unwrap().to_owned())
            .collect()
    };
    let images = table("/apis/kuik.enix.io/v1alpha1/cachedimages").await;
    assert_eq!(
        columns(&images),
        ["Name", "Status", "Cached", "Retain", "Expires at", "Pods count", "Age"]
    );
    let cells = &images["rows"][0]["cells"].as_array().unwrap()[..6];
    assert_eq!(
        cells,
        &[
            json!(NGINX),
            json!("Ready"),
            json!(true),
            Value::Null,
            Value::Null,
            json!(1)
        ]
    );
    let repositories = table("/apis/kuik.enix.io/v1alpha1/repositories").await;
    assert_eq!(columns(&repositories), ["Name", "Status", "Images", "Age"]);
    story.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_of_v1_are_adopted_as_they_are() {
    let Some(mut story) = Story::begin("adoption").await else {
        return;
    };
    let old = json!({"metadata": {"name": "redis-of-v1", "finalizers": ["cachedimage.kuik.enix.io/finalizer"]},
        "spec": {"sourceImage": "redis:6", "expiresAt": "2020-01-01T00:00:00Z"}});
    let old = story.make::<CachedImage>(old).await;
    let status =
        json!({"status": {"phase": "Ready", "isCached": true, "digest": "ff", "lastSync": "2020-01-01T00:00:00Z"}});
    story
        .all::<CachedImage>()
        .patch_status("redis-of-v1", &PatchParams::default(), &Patch::Merge(status))
        .await
        .unwrap();
    story
        .make::<Repository>(
            json!({"metadata": {"name": "docker.io-library-redis", "finalizers": ["repository.kuik.enix.io/finalizer"]},
        "spec": {"name": "docker.io/library/redis", "pullSecretNames": ["mine"], "pullSecretsNamespace": "gone"}}),
        )
        .await;
    story.start("one");
    let adopted = image(&story, "redis-of-v1", |object| {
        let told = object
            .status
            .as_ref()
            .is_some_and(|status| !status.conditions.is_empty());
        object.finalizers().is_empty() && told && !object.owner_references().is_empty()
    })
    .await;
    assert_eq!(adopted.spec, old.spec, "the specification belongs to its user");
    let status = adopted.status.unwrap();
    assert_eq!(
        (status.is_cached, status.digest),
        (Some(false), None),
        "what v1 said is not believed"
    );
    assert!(status.expires_at.is_some());
    let repository = story.until("finalizer of the repository", async || {
        story
            .all::<Repository>()
            .get("docker.io-library-redis")
            .await
            .ok()
            .filter(|object| object.finalizers().is_empty())
    });
    assert_eq!(repository.await.spec.pull_secret_names, ["mine"]);
    assert_eq!(
        story
            .all::<CachedImage>()
            .list(&Default::default())
            .await
            .unwrap()
            .items
            .len(),
        1
    );
    story.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forced_update_is_asked_for_and_consumed() {
    let Some(mut story) = Story::begin("forced").await else {
        return;
    };
    let annotations = json!({"cachedimage.kuik.enix.io/forceUpdate": "true", "other": "stays"});
    story
        .make::<CachedImage>(
            json!({"metadata": {"name": "warm", "annotations": annotations}, "spec": {"sourceImage": "nginx"}}),
        )
        .await;
    story.start("one");
    let consumed = image(&story, "warm", |object| {
        !object
            .annotations()
            .contains_key("cachedimage.kuik.enix.io/forceUpdate")
    })
    .await;
    assert!(consumed.annotations().contains_key("other"));
    assert_eq!(
        story.tier.told(|told| told.refreshed.clone()),
        ["docker.io/library/nginx:latest"]
    );
    assert!(
        story
            .tier
            .told(|told| told.desired.contains_key("docker.io/library/nginx:latest")),
        "pre-heated"
    );
    story.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_image_is_deleted_and_forgotten() {
    let Some(mut story) = Story::begin("expiry").await else {
        return;
    };
    story
        .make::<CachedImage>(json!({"metadata": {"name": "old"}, "spec": {"sourceImage": "old:1"}}))
        .await;
    let status = json!({"status": {"unusedSince": "2020-01-01T00:00:00Z"}});
    story
        .all::<CachedImage>()
        .patch_status("old", &PatchParams::default(), &Patch::Merge(status))
        .await
        .unwrap();
    story.start("one");
    story
        .until("the object goes", async || {
            story
                .all::<CachedImage>()
                .get_opt("old")
                .await
                .unwrap()
                .is_none()
                .then_some(())
        })
        .await;
    story
        .until("the tier drops it", async || {
            story.tier.told(|told| told.desired.is_empty()).then_some(())
        })
        .await;
    story.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_of_a_deployment_scaled_to_nothing_is_kept() {
    let Some(mut story) = Story::begin("templates").await else {
        return;
    };
    let labels = json!({"app": "night"});
    let template =
        json!({"metadata": {"labels": labels}, "spec": {"containers": [{"name": "app", "image": "night:1"}]}});
    let spec = json!({"replicas": 0, "selector": {"matchLabels": labels}, "template": template});
    story
        .make_in::<Deployment>(json!({"metadata": {"name": "night"}, "spec": spec}))
        .await;
    for name in ["night", "gone"] {
        let spec = json!({"sourceImage": format!("{name}:1")});
        story
            .make::<CachedImage>(json!({"metadata": {"name": name}, "spec": spec}))
            .await;
        let status = Patch::Merge(json!({"status": {"unusedSince": "2020-01-01T00:00:00Z"}}));
        story
            .all::<CachedImage>()
            .patch_status(name, &PatchParams::default(), &status)
            .await
            .unwrap();
    }
    story.start("one");
    story
        .until("the other one goes", async || {
            let gone = story.all::<CachedImage>().get_opt("gone").await.unwrap();
            gone.is_none().then_some(())
        })
        .await;
    let kept = image(&story, "night", |object| {
        let status = object.status.as_ref();
        status.is_some_and(|status| status.unused_since.is_none())
    })
    .await;
    let used_by = kept.status.unwrap().used_by.unwrap();
    assert_eq!(used_by.count, 0);
    assert_eq!(used_by.workloads[0].kind, "Deployment");
    assert_eq!(
        used_by.workloads[0].namespaced_name,
        format!("{}/night", story.namespace)
    );
    story.end().await;
}
