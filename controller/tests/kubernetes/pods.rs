//! Pods that cannot pull, pull secrets, leadership and cleanup, against a real API server.

use crate::support::Story;
use controller::lease::Election;
use daemon::shutdown::Shutdown;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Event, Pod, Secret};
use kube::ResourceExt;
use kube::api::{Patch, PatchParams};
use proto::pod::{ANNOTATION_RESTORED, ANNOTATION_REWRITE_IMAGES};
use serde_json::{Value, json};

fn rewritten(name: &str) -> Value {
    json!({
        "metadata": {"name": name, "annotations": {"original-image-app": "reg.io:5000/app:1", "original-image-side": "busybox"}},
        "spec": {"nodeName": "node", "containers": [
            {"name": "app", "image": "localhost:7439/reg.io-5000/app:1"},
            {"name": "side", "image": "localhost:7439/busybox"},
        ]},
    })
}

/// `app` waits for its image, `side` runs.
fn half_begun() -> Value {
    let status = |name: &str, image_id: &str, state: Value| json!({"name": name, "image": "x", "imageID": image_id, "ready": false, "restartCount": 0, "state": state});
    json!({"phase": "Pending", "containerStatuses": [
        status("app", "", json!({"waiting": {"reason": "ImagePullBackOff"}})),
        status("side", "sha256:1", json!({"running": {}})),
    ]})
}

/// `app` runs from its original, and `side`, which ran, cannot pull any more.
fn other_half_fails() -> Value {
    let status = |name: &str, image_id: &str, state: Value| json!({"name": name, "image": "x", "imageID": image_id, "ready": false, "restartCount": 0, "state": state});
    json!({"phase": "Running", "containerStatuses": [
        status("app", "sha256:2", json!({"running": {}})),
        status("side", "sha256:1", json!({"waiting": {"reason": "ImagePullBackOff"}})),
    ]})
}

fn images(pod: &Pod) -> Vec<&str> {
    let containers = pod
        .spec
        .as_ref()
        .map(|spec| spec.containers.as_slice())
        .unwrap_or_default();
    containers
        .iter()
        .filter_map(|container| container.image.as_deref())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_without_a_proxy_pulls_its_original_image() {
    let Some(mut story) = Story::begin("restore").await else {
        return;
    };
    story.node("node").await;
    story.make_in::<Pod>(rewritten("p")).await;
    story.pod_status("p", half_begun()).await;
    story.start("one");
    let restored = story
        .until("the image is put back", async || {
            let pod = story.inside::<Pod>().get("p").await.unwrap();
            pod.annotations().contains_key(ANNOTATION_RESTORED).then_some(pod)
        })
        .await;
    assert_eq!(
        images(&restored),
        ["reg.io:5000/app:1", "localhost:7439/busybox"],
        "what runs is left alone"
    );
    assert_eq!(restored.annotations()[ANNOTATION_REWRITE_IMAGES], "false");
    assert!(restored.annotations()[ANNOTATION_RESTORED].contains("no proxy is ready on node node"));
    story.pod_status("p", other_half_fails()).await;
    let again = story
        .until("the other one is put back too", async || {
            let pod = story.inside::<Pod>().get("p").await.unwrap();
            (images(&pod) == ["reg.io:5000/app:1", "busybox"]).then_some(pod)
        })
        .await;
    let noted: Value = serde_json::from_str(&again.annotations()[ANNOTATION_RESTORED]).unwrap();
    assert!(noted["app"].is_string() && noted["side"].is_string(), "{noted}");
    story.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_secret_becomes_a_grant_and_a_place() {
    let Some(mut story) = Story::begin("grants").await else {
        return;
    };
    story.node("node").await;
    let config = json!({"auths": {"reg.io:5000": {"username": "user", "password": "canary-password"}}}).to_string();
    story
        .make_in::<Secret>(
            json!({"metadata": {"name": "pull"}, "type": "kubernetes.io/dockerconfigjson",
            "stringData": {".dockerconfigjson": config}}),
        )
        .await;
    let mut pod = rewritten("p");
    pod["spec"]["imagePullSecrets"] = json!([{"name": "pull"}, {"name": "missing"}]);
    story.make_in::<Pod>(pod).await;
    story.start("one");
    story
        .until("the node is told of", async || {
            story
                .tier
                .told(|told| (told.places.get("node")? == &["reg.io:5000/app"]).then_some(()))
        })
        .await;
    let granted = story.tier.told(|told| told.grants.clone());
    let [request] = granted.as_slice() else {
        panic!("one grant, for the repository that a secret is for")
    };
    assert_eq!(
        (request.namespace.as_str(), request.reference.as_str()),
        (story.namespace.as_str(), "reg.io:5000/app:1")
    );
    let [credential] = request.credentials.as_slice() else {
        panic!("one credential")
    };
    assert_eq!(
        (credential.username.as_str(), credential.password.as_str()),
        ("user", "canary-password")
    );
    assert_eq!(credential.origin, format!("{}/pull", story.namespace));
    story.another_leads().await;
    let placed_anew = async || story.tier.told(|told| (told.n_whole_places > 1).then_some(()));
    story.until("the next leader places all", placed_anew).await;
    assert_eq!(story.tier.told(|told| told.grants.len()), 1, "it knows what stands");
    story
        .inside::<Pod>()
        .delete("p", &kube::api::DeleteParams::default().grace_period(0))
        .await
        .unwrap();
    story
        .until("the place is taken back", async || {
            story
                .tier
                .told(|told| told.places.get("node")?.is_empty().then_some(()))
        })
        .await;
    story.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_misspelt_tag_costs_the_namespace_no_grant() {
    let Some(mut story) = Story::begin("typo").await else {
        return;
    };
    story.node("node").await;
    let config = json!({"auths": {"reg.io:5000": {"username": "user", "password": "p"}}}).to_string();
    let secret = json!({"metadata": {"name": "pull"}, "type": "kubernetes.io/dockerconfigjson",
        "stringData": {".dockerconfigjson": config}});
    story.make_in::<Secret>(secret).await;
    for (name, tag) in [("wrong", "0-typo"), ("right", "1")] {
        let containers = json!([{"name": "app", "image": format!("reg.io:5000/app:{tag}")}]);
        let spec = json!({"nodeName": "node", "containers": containers, "imagePullSecrets": [{"name": "pull"}]});
        story
            .make_in::<Pod>(json!({"metadata": {"name": name}, "spec": spec}))
            .await;
    }
    story.start("one");
    let told = story
        .until("people are told", async || {
            let events: kube::Api<Event> = kube::Api::default_namespaced(story.client.clone());
            let events = events.list(&Default::default()).await.unwrap();
            let about_it = |event: &Event| event.message.as_deref().unwrap_or_default().contains(&story.namespace);
            let reasons = events
                .items
                .into_iter()
                .filter(about_it)
                .filter_map(|event| event.reason);
            let reasons: Vec<String> = reasons.collect();
            (!reasons.is_empty()).then_some(reasons)
        })
        .await;
    assert_eq!(told, ["CredentialsAccepted"]);
    let tried = story.tier.told(|told| told.grants.clone());
    let tried: Vec<&str> = tried.iter().map(|request| request.reference.as_str()).collect();
    assert_eq!(tried, ["reg.io:5000/app:0-typo", "reg.io:5000/app:1"]);
    story.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_leads_as_soon_as_the_leader_stops() {
    let Some(mut story) = Story::begin("lease").await else {
        return;
    };
    let first = story.start("first");
    let holder = async || {
        let lease = story.inside::<Lease>().get_opt("f-controllers").await.unwrap()?;
        lease.spec?.holder_identity
    };
    story
        .until("the first leads", async || (holder().await? == "first").then_some(()))
        .await;
    let mut second = Election::new(story.controllers.clone(), &story.namespace, "f-controllers", "second");
    let waits = tokio::time::timeout(std::time::Duration::from_secs(3), second.win()).await;
    assert!(waits.is_err(), "while the first lives nobody else leads");
    first.begin(daemon::shutdown::Cause::Requested("it stops"));
    first.run(std::time::Duration::from_secs(5)).await;
    let began = tokio::time::Instant::now();
    second.win().await;
    assert!(
        began.elapsed() < std::time::Duration::from_secs(5),
        "{:?}",
        began.elapsed()
    );
    second.release().await;
    story.end().await;
}

// Defect 17 of v1: its health endpoints said 200 whatever happened.
#[tokio::test(flavor = "multi_thread")]
async fn a_controller_is_ready_only_while_the_api_server_lets_it_work() {
    let Some(mut story) = Story::begin("ready").await else {
        return;
    };
    let nobody = story.nobody().await;
    let without_rights = story.start_as(nobody, "nobody", &Shutdown::new());
    assert!(!without_rights.is_ready(), "nothing is known yet");
    story
        .until("it says why it is not ready", async || {
            let reasons = without_rights.unready_reasons();
            (reasons.len() == 1 && reasons[0].contains("forbidden")).then_some(())
        })
        .await;
    let (leads, waits) = (Shutdown::new(), Shutdown::new());
    let leads = story.start_as(story.controllers.clone(), "leads", &leads);
    let waits = story.start_as(story.controllers.clone(), "waits", &waits);
    story
        .until(
            "those with rights are ready, also the one that waits to lead",
            async || (leads.is_ready() && waits.is_ready()).then_some(()),
        )
        .await;
    assert!(!without_rights.is_ready());
    story.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_that_claim_at_once_one_leads() {
    let Some(story) = Story::begin("claims").await else {
        return;
    };
    let names = ["a", "b", "c", "d", "e", "f"];
    let claims = names.map(|name| {
        let mut election = Election::new(story.controllers.clone(), &story.namespace, "f-controllers", name);
        async move {
            tokio::time::timeout(std::time::Duration::from_secs(6), election.win())
                .await
                .is_ok()
        }
    });
    let won = futures::future::join_all(claims).await;
    assert_eq!(won.into_iter().filter(|won| *won).count(), 1);
    story.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cleanup_leaves_nothing_that_needs_the_install() {
    let Some(mut story) = Story::begin("cleanup").await else {
        return;
    };
    story.node("node").await;
    let configuration = json!({"metadata": {"name": "f-mutating-webhook"}, "webhooks": []});
    story.make::<MutatingWebhookConfiguration>(configuration).await;
    story.make_in::<Pod>(rewritten("waits")).await;
    story.pod_status("waits", half_begun()).await;
    story.make_in::<Pod>(rewritten("runs")).await;
    story.pod_status("runs", json!({"phase": "Running"})).await;
    let finalizers = Patch::Merge(json!({"metadata": {"finalizers": ["pod.kuik.enix.io/finalizer"]}}));
    story
        .inside::<Pod>()
        .patch("runs", &PatchParams::default(), &finalizers)
        .await
        .unwrap();
    let shutdown = story.start("one");
    story
        .until("secrets", async || {
            story.inside::<Secret>().get_opt("f-webhook-tls").await.unwrap()
        })
        .await;
    shutdown.begin(daemon::shutdown::Cause::Requested("the deployment is deleted"));
    shutdown.run(std::time::Duration::from_secs(5)).await;
    let leftovers = controller::clean_up(&story.controllers, story.config()).await.unwrap();
    assert_eq!(leftovers.restored, [format!("{}/waits", story.namespace)].into());
    assert_eq!(leftovers.running, [format!("{}/runs", story.namespace)].into());
    assert_eq!(leftovers.undone, Vec::<String>::new());
    let events = story.inside::<Event>().list(&Default::default()).await.unwrap();
    let told = events.iter().find(|event| event.reason.as_deref() == Some("CleanedUp"));
    let told = told.unwrap().message.as_deref().unwrap();
    assert!(told.contains(&format!("{}/runs", story.namespace)), "{told}");
    let waits = story.inside::<Pod>().get("waits").await.unwrap();
    assert_eq!(images(&waits), ["reg.io:5000/app:1", "localhost:7439/busybox"]);
    assert_eq!(
        story.inside::<Pod>().get("runs").await.unwrap().finalizers(),
        Vec::<String>::new()
    );
    assert!(
        story
            .all::<MutatingWebhookConfiguration>()
            .get_opt("f-mutating-webhook")
            .await
            .unwrap()
            .is_none()
    );
    let secrets = story.inside::<Secret>().list(&Default::default()).await.unwrap();
    let kept: Vec<String> = secrets.iter().map(ResourceExt::name_any).collect();
    assert_eq!(kept, ["f-kek"], "it goes with the volumes");
    assert!(
        story
            .inside::<Lease>()
            .get_opt("f-controllers")
            .await
            .unwrap()
            .is_none()
    );
    story.end().await;
}
