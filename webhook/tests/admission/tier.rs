//! Cache nodes that do not answer as they should: nothing is rewritten that they did not admit, and nobody waits long.

use std::time::Duration;

use testkit::eventually;

use crate::certificates::Authority;
use crate::fake_control::{FakeControl, Mood, WHY_NOT_READY};
use crate::harness::{image, pod, reason, start, start_signed, webhook};
use crate::relay::Relay;

/// Longest a pod may wait for us; API servers give a webhook two seconds at least.
const PATIENCE: Duration = Duration::from_millis(1700);

#[tokio::test]
async fn silent_tier_holds_nobody_up() {
    let node = FakeControl::start(Mood::Hangs).await;
    let webhook = webhook(&[&node]).await;
    let (created, took) = webhook.create("default", &pod("nginx")).await;
    assert_eq!(image(&created), "nginx");
    assert_eq!(reason(&created).as_deref(), Some("TierSilent"));
    assert!(took < PATIENCE, "{took:?}");
}

#[tokio::test]
async fn impatient_api_server_gets_its_answer_in_time() {
    let node = FakeControl::start(Mood::Hangs).await;
    let webhook = webhook(&[&node]).await;
    let (created, took) = webhook.create_within(1, "default", &pod("nginx")).await;
    assert_eq!(reason(&created).as_deref(), Some("TierSilent"));
    assert!(took < Duration::from_secs(1), "{took:?}");
}

#[tokio::test]
async fn refusing_or_absent_tier_is_noticed_at_once() {
    let node = FakeControl::start(Mood::Refuses).await;
    let refused = webhook(&[&node]).await;
    let (created, took) = refused.create("default", &pod("nginx")).await;
    assert_eq!(reason(&created).as_deref(), Some("TierSilent"));
    assert!(took < Duration::from_millis(1000), "{took:?}");
    node.set(Mood::Miscounts);
    let mut two = pod("nginx");
    two["spec"]["initContainers"] = serde_json::json!([{"name": "setup", "image": "busybox"}]);
    let (created, _took) = refused.create("default", &two).await;
    assert_eq!(reason(&created).as_deref(), Some("TierSilent"));

    let absent = start("http://127.0.0.1:1").await;
    absent.serves().await;
    let (created, took) = absent.create("default", &pod("nginx")).await;
    assert_eq!(reason(&created).as_deref(), Some("TierSilent"));
    assert!(took < PATIENCE, "{took:?}");
}

#[tokio::test]
async fn any_node_that_answers_is_enough() {
    for bad in [Mood::Hangs, Mood::Refuses, Mood::NotReady] {
        let broken = [FakeControl::start(bad).await, FakeControl::start(bad).await];
        let good = FakeControl::start(Mood::Answers).await;
        let webhook = webhook(&[&broken[0], &broken[1], &good]).await;
        for name in ["nginx", "redis", "postgres", "quay.io/a/b"] {
            let (created, took) = webhook.create("default", &pod(name)).await;
            assert_eq!(image(&created), format!("localhost:7439/{name}"));
            assert!(took < PATIENCE, "{took:?}");
        }
    }
}

#[tokio::test]
async fn node_that_hung_is_asked_last_for_a_while() {
    let (hangs, good) = (
        FakeControl::start(Mood::Hangs).await,
        FakeControl::start(Mood::Answers).await,
    );
    let webhook = webhook(&[&hangs, &good]).await;
    for number in 0..10 {
        webhook.create("default", &pod(&format!("nginx:{number}"))).await;
    }
    assert!(hangs.asked().len() <= 1, "asked {} times", hangs.asked().len());
}

#[tokio::test]
async fn tier_that_cannot_serve_says_so() {
    let node = FakeControl::start(Mood::NotReady).await;
    let webhook = webhook(&[&node]).await;
    let (created, _took) = webhook.create("default", &pod("nginx")).await;
    assert_eq!(image(&created), "nginx");
    assert_eq!(reason(&created).as_deref(), Some("TierNotReady"));
    assert!(created["metadata"]["annotations"].to_string().contains(WHY_NOT_READY));
}

#[tokio::test]
async fn not_ready_before_a_cache_node_can_answer_and_ready_from_then_on() {
    let node = FakeControl::start(Mood::NotReady).await;
    let webhook = webhook(&[&node]).await;
    let probes = async |more: usize| {
        let enough = node.probes() + more;
        let asked = async || (node.probes() >= enough).then_some(());
        eventually(Duration::from_secs(20), "probes", asked).await;
    };
    // The first of two is over.
    probes(2).await;
    assert_eq!(webhook.readiness.unready_reasons(), ["tier: no cache node answers yet"]);
    node.set(Mood::Answers);
    tokio::time::timeout(Duration::from_secs(10), webhook.readiness.ready())
        .await
        .unwrap();
    node.set(Mood::NotReady);
    probes(2).await;
    assert!(
        webhook.readiness.is_ready(),
        "it can still say why nothing is rewritten"
    );
}

#[tokio::test]
async fn connection_that_went_dead_is_made_anew_before_a_pod_waits_for_it() {
    let node = FakeControl::start(Mood::Answers).await;
    let relay = Relay::to(node.address).await;
    let webhook = start(&relay.url).await;
    webhook.serves().await;
    webhook.readiness.ready().await;
    let before = relay.accepted();
    relay.go_dead();
    let anew = async || (relay.accepted() > before).then_some(());
    eventually(Duration::from_secs(20), "a new connection", anew).await;
    let (created, _took) = webhook.create("default", &pod("nginx")).await;
    assert_eq!(image(&created), "localhost:7439/nginx");
}

#[tokio::test]
async fn the_tier_is_asked_under_mutual_tls_as_soon_as_there_are_certificates() {
    let authority = Authority::new();
    let node = FakeControl::start_tls(Mood::Answers, &authority).await;
    let url = format!("https://localhost:{}", node.address.port());
    let webhook = start_signed(std::slice::from_ref(&url), true, authority).await;
    webhook.serves().await;
    eventually(Duration::from_secs(10), "an admission", async || {
        let (created, _took) = webhook.create("default", &pod("nginx")).await;
        (image(&created) == "localhost:7439/nginx").then_some(())
    })
    .await;

    let stranger = start_signed(&[url], true, Authority::new()).await;
    stranger.serves().await;
    let asked = node.asked().len();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let (created, _took) = stranger.create("default", &pod("nginx")).await;
    assert_eq!(reason(&created).as_deref(), Some("TierSilent"));
    assert_eq!(node.asked().len(), asked);
}
