//! What the port promises.

use std::time::Duration;

use daemon::shutdown::{Cause, GRACE_DEFAULT};
use serde_json::json;
use testkit::eventually;
use webhook::proxies::Proxies;

use crate::fake_control::{FakeControl, Mood};
use crate::harness::{image, pod, reason, start, webhook};

#[tokio::test]
async fn pod_is_rewritten_and_keeps_all_else() {
    let node = FakeControl::start(Mood::Answers).await;
    let webhook = webhook(&[&node]).await;
    let (created, _took) = webhook.create("default", &pod("reg.io:5000/a:1")).await;
    let mut expected = pod("localhost:7439/reg.io-5000/a:1");
    expected["metadata"]["labels"]["kuik.enix.io/managed"] = json!("true");
    expected["metadata"]["annotations"] = json!({
        "kuik.enix.io/rewrite-images": "true",
        "original-image-app": "reg.io:5000/a:1",
    });
    assert_eq!(created, expected);
    let asked = &node.asked()[0];
    assert_eq!(asked.namespace, "default");
    assert_eq!(asked.references, ["reg.io:5000/a:1"]);
}

#[tokio::test]
async fn private_image_without_a_grant_is_left_and_says_why() {
    let node = FakeControl::start(Mood::Answers).await;
    let webhook = webhook(&[&node]).await;
    let (created, _took) = webhook.create("default", &pod("quay.io/private/a")).await;
    assert_eq!(image(&created), "quay.io/private/a");
    assert_eq!(reason(&created).as_deref(), Some("NoGrant"));
    let behind_proxy = pod("localhost:7439/quay.io/private/a");
    let (created, _took) = webhook.create("default", &behind_proxy).await;
    assert_eq!(image(&created), "quay.io/private/a");
}

#[tokio::test]
async fn nothing_is_rewritten_without_proxies_and_the_tier_is_not_asked() {
    let node = FakeControl::start(Mood::Answers).await;
    let webhook = webhook(&[&node]).await;
    for absent in [Proxies::None, Proxies::Unknown] {
        webhook.proxies.send(absent).unwrap();
        let (created, _took) = webhook.create("default", &pod("nginx")).await;
        assert_eq!(image(&created), "nginx");
        assert_eq!(reason(&created).as_deref(), Some("NoProxy"));
    }
    assert!(node.asked().is_empty());
    webhook.proxies.send(Proxies::Everywhere).unwrap();
    let (created, _took) = webhook.create("default", &pod("nginx")).await;
    assert_eq!(image(&created), "localhost:7439/nginx");
}

#[tokio::test]
async fn kuiks_own_pods_are_not_touched() {
    let node = FakeControl::start(Mood::Answers).await;
    let webhook = webhook(&[&node]).await;
    for namespace in ["kuik", "kuik-proxy", "kube-system"] {
        let (created, _took) = webhook.create(namespace, &pod("nginx")).await;
        assert_eq!(created, pod("nginx"), "{namespace}");
    }
}

#[tokio::test]
async fn what_is_no_review_is_refused_clearly() {
    let node = FakeControl::start(Mood::Answers).await;
    let webhook = webhook(&[&node]).await;
    let table: [(&str, &[u8], u16); 6] = [
        ("POST /mutate-core-v1-pod", b"", 400),
        ("POST /mutate-core-v1-pod", b"{\"kind\":", 400),
        ("POST /mutate-core-v1-pod", b"{\"kind\": \"Pod\"}", 400),
        ("POST /mutate-core-v1-pod", &vec![b' '; 9 << 20], 413),
        ("GET /mutate-core-v1-pod", b"", 405),
        ("POST /elsewhere", b"", 404),
    ];
    for (head, body, status) in table {
        let answer = webhook.request(head, body).await.unwrap();
        assert_eq!(answer.status, status, "{head} with {} bytes", body.len());
    }
    let answer = webhook.request("POST /mutate-core-v1-pod", b"{}").await.unwrap();
    let text = String::from_utf8(answer.body).unwrap();
    assert!(text.contains("admission.k8s.io/v1 AdmissionReview"), "{text}");
}

#[tokio::test]
async fn policy_acts_without_a_restart_and_a_bad_one_changes_nothing() {
    let node = FakeControl::start(Mood::Answers).await;
    let webhook = webhook(&[&node]).await;
    std::fs::write(webhook.policy_file(), "ignored_images = [\"^nginx\"]").unwrap();
    eventually(Duration::from_secs(10), "the new policy", async || {
        let (created, _took) = webhook.create("default", &pod("nginx")).await;
        reason(&created).filter(|reason| reason == "Ignored")
    })
    .await;
    std::fs::write(webhook.policy_file(), "ignored_images = [\"(\"]").unwrap();
    tokio::time::sleep(Duration::from_secs(5)).await;
    let (created, _took) = webhook.create("default", &pod("nginx")).await;
    assert_eq!(reason(&created).as_deref(), Some("Ignored"));
    assert!(webhook.readiness.is_ready());
}

#[tokio::test]
async fn not_ready_before_there_is_a_certificate() {
    let node = FakeControl::start(Mood::Answers).await;
    let webhook = start(&format!("http://{}", node.address)).await;
    let reasons = webhook.readiness.unready_reasons();
    assert!(reasons[0].starts_with("certificate: "), "{reasons:?}");
    assert!(webhook.connect().await.is_err());
    webhook.write_certificate();
    tokio::time::timeout(Duration::from_secs(10), webhook.readiness.ready())
        .await
        .unwrap();
    assert!(webhook.connect().await.is_ok());
}

#[tokio::test]
async fn a_pod_made_again_and_again_is_left_alone() {
    let node = FakeControl::start(Mood::Answers).await;
    let webhook = webhook(&[&node]).await;
    let mut pod = pod("postgres:17");
    pod["metadata"] = json!({
        "name": "db-1",
        "ownerReferences": [
            {"apiVersion": "db.example/v1", "kind": "Cluster", "name": "db", "uid": "u", "controller": true},
        ],
    });
    let mut left_after = None;
    for attempt in 0..20 {
        let (created, _took) = webhook.create("default", &pod).await;
        if image(&created) == "postgres:17" {
            assert_eq!(reason(&created).as_deref(), Some("Loop"));
            left_after = Some(attempt);
            break;
        }
    }
    assert_eq!(left_after, Some(6));
}

#[tokio::test]
async fn after_sigterm_it_goes_on_answering_until_everyone_has_heard() {
    let node = FakeControl::start(Mood::Answers).await;
    let webhook = webhook(&[&node]).await;
    webhook.shutdown.begin(Cause::Signal("SIGTERM"));
    assert!(!webhook.readiness.is_ready());
    let shutdown = webhook.shutdown.clone();
    let ending = tokio::spawn(async move { shutdown.run(GRACE_DEFAULT).await });
    tokio::time::sleep(Duration::from_secs(2)).await;
    let (created, _took) = webhook.create("default", &pod("nginx")).await;
    assert_eq!(image(&created), "localhost:7439/nginx");
    let ended = ending.await.unwrap();
    assert!(ended.still_running.is_empty());
    assert!(webhook.connect().await.is_err());
}
