//! One cache node in this process, over a source registry that misbehaves on demand: what a client of its port sees.

#![expect(clippy::unwrap_used, reason = "a test that meets an error is to stop there")]

mod support;

use std::time::Duration;

use http::{Method, StatusCode};
use support::{Node, SOON};
use testkit::{FakeRegistry, Fault, Image, On, Pull, Stage, eventually, image};
use tokio::time::Instant;

const STALE: &str = "110";

fn hello(tag: &str, seed: u64) -> Image {
    image("team/hello")
        .tag(tag)
        .platform("linux/amd64")
        .random_layer(300_000, seed)
        .index()
        .build()
}

/// An answer of a source serves everyone who asks within a second.
async fn let_shared_answers_expire() {
    tokio::time::sleep(Duration::from_millis(1100)).await;
}

fn is_stale(pulled: &testkit::Pulled) -> bool {
    pulled.answers.iter().any(|answer| {
        answer
            .warning
            .as_deref()
            .is_some_and(|warning| warning.starts_with(STALE))
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_pulled_once_is_served_without_its_source() {
    let mut source = FakeRegistry::start().await;
    let image = hello("1", 1);
    source.push(&image);
    let node = Node::start(&source, "").await;
    node.cache(&image).await;
    source.stop().await;
    eventually(
        SOON,
        "a whole pull that says that nobody could check the tag",
        || async {
            let pulled = node.pull(&image, "1").run().await.unwrap();
            assert_eq!(pulled.root.as_ref(), Some(image.root()));
            is_stale(&pulled).then_some(())
        },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_wrong_with_the_source_the_cached_tag_comes_within_two_seconds() {
    let source = FakeRegistry::start().await;
    let image = hello("1", 2);
    source.push(&image);
    let node = Node::start(&source, "").await;
    node.cache(&image).await;
    let faults = [
        Fault::Status(401),
        Fault::Status(403),
        Fault::Status(404),
        Fault::Status(429),
        Fault::Status(500),
        Fault::Reset(Stage::Headers),
        Fault::Hang(Stage::Headers),
    ];
    for fault in faults {
        let_shared_answers_expire().await;
        let held = source.fault(On::everything(), fault.clone());
        let begun = Instant::now();
        let manifest = node.pull(&image, "1").manifest().await.unwrap();
        assert!(
            begun.elapsed() < Duration::from_millis(2500),
            "{fault:?} took {:?}",
            begun.elapsed()
        );
        assert_eq!(manifest.digest(), image.root(), "{fault:?}");
        held.lift();
    }
    let begun = Instant::now();
    node.pull(&image, "1").manifest().await.unwrap();
    assert!(
        begun.elapsed() < Duration::from_millis(500),
        "a source known to be down is not waited for"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_that_moved_is_seen_at_the_next_pull() {
    let source = FakeRegistry::start().await;
    let (old, new) = (hello("1", 3), hello("1", 4));
    source.push(&old);
    let node = Node::start(&source, "").await;
    node.cache(&old).await;
    source.push(&new);
    let_shared_answers_expire().await;
    let pulled = node.pull(&new, "1").run().await.unwrap();
    assert_eq!(pulled.root.as_ref(), Some(new.root()));
    assert!(!is_stale(&pulled));
    node.cache(&new).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_image_once_given_out_is_not_taken_back_while_its_source_lives() {
    let source = FakeRegistry::start().await;
    let (old, new) = (hello("1", 20), hello("1", 21));
    source.push(&old);
    let node = Node::start(&source, "").await;
    node.cache(&old).await;
    source.push(&new);
    let_shared_answers_expire().await;
    let until = Instant::now() + Duration::from_secs(3);
    while Instant::now() < until {
        let manifest = node.pull(&new, "1").manifest().await.unwrap();
        assert_eq!(manifest.digest(), new.root());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_old_image_is_served_whole_when_the_source_dies_halfway_through_the_new_one() {
    let mut source = FakeRegistry::start().await;
    let (old, new) = (hello("1", 5), hello("1", 6));
    source.push(&old);
    let node = Node::start(&source, "").await;
    node.cache(&old).await;
    source.push(&new);
    let (layer, _) = new.largest_blob();
    let held = source.fault(On::blob(layer), Fault::Hang(Stage::Body { after_bytes: 100_000 }));
    let_shared_answers_expire().await;
    let half = node.pull(&new, "1").within(Duration::from_secs(2)).run().await;
    assert!(half.is_err(), "the new image cannot be had whole: {half:?}");
    source.stop().await;
    held.lift();
    let pulled = node.pull(&old, "1").run().await.unwrap();
    assert_eq!(pulled.root.as_ref(), Some(old.root()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_of_never_asks_the_source_no_more() {
    let source = FakeRegistry::start().await;
    let (old, new) = (hello("1", 7), hello("1", 8));
    source.push(&old);
    let node = Node::start(&source, "freshness.default = \"never\"").await;
    node.cache(&old).await;
    source.push(&new);
    source.forget_requests();
    let pulled = node.pull(&old, "1").run().await.unwrap();
    assert_eq!(pulled.root.as_ref(), Some(old.root()));
    assert_eq!(source.count(&On::everything()), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_pulls_of_a_tag_at_once_are_one_question() {
    let source = FakeRegistry::start().await;
    let image = hello("1", 9);
    source.push(&image);
    let node = Node::start(&source, "").await;
    node.cache(&image).await;
    let_shared_answers_expire().await;
    source.forget_requests();
    let pulls = (0..100).map(|_| async { node.pull(&image, "1").manifest().await.unwrap() });
    futures::future::join_all(pulls).await;
    assert_eq!(source.count(&On::manifests().method(Method::HEAD)), 1);
    assert_eq!(source.count(&On::manifests().method(Method::GET)), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repository_gives_out_only_what_its_own_source_has() {
    let source = FakeRegistry::start().await;
    let secret = image("team/secret")
        .tag("1")
        .platform("linux/amd64")
        .random_layer(50_000, 10)
        .build();
    source.push(&secret);
    source.push(&hello("1", 11));
    let node = Node::start(&source, "").await;
    node.cache(&secret).await;
    let (layer, _) = secret.largest_blob();
    let other = Pull::new(&node.url, "source.example/team/hello", "1").within(SOON);
    let refused = other.blob(layer).await.unwrap_err();
    assert_eq!(refused.status(), Some(StatusCode::NOT_FOUND), "{refused}");
    assert!(node.pull(&secret, "1").blob(layer).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_read_through_the_name_under_which_nodes_copy() {
    let source = FakeRegistry::start().await;
    let image = hello("1", 30);
    source.push(&image);
    let node = Node::start(&source, "").await;
    node.cache(&image).await;
    let (layer, _) = image.largest_blob();
    let copies = Pull::new(&node.url, "kuik.local/copies", "1").within(SOON);
    assert_eq!(
        copies.blob(layer).await.unwrap_err().status(),
        Some(StatusCode::NOT_FOUND)
    );
}

// Defect 8 of v1: anybody in the cluster could push to its registry, and delete from it.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_pushes_to_a_node_or_deletes_from_it() {
    let mut source = FakeRegistry::start().await;
    let image = hello("1", 15);
    source.push(&image);
    let node = Node::start(&source, "").await;
    node.cache(&image).await;
    let (layer, _) = image.largest_blob();
    let repository = "/v2/source.example/team/hello";
    let writes = [
        format!("PUT {repository}/manifests/1"),
        format!("POST {repository}/blobs/uploads/"),
        format!("POST {repository}/blobs/uploads/?mount={layer}&from=a/b"),
        format!("DELETE {repository}/manifests/1"),
        format!("DELETE {repository}/manifests/{}", image.root()),
        format!("DELETE {repository}/blobs/{layer}"),
    ];
    for write in &writes {
        assert_eq!(node.statuses(write).await, [405, 405], "{write}");
    }
    source.stop().await;
    let pulled = node.pull(&image, "1").run().await.unwrap();
    assert_eq!(pulled.root.as_ref(), Some(image.root()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_with_a_next_host_gets_a_miss_instead_of_a_wait() {
    let source = FakeRegistry::start().await;
    let image = hello("1", 12);
    source.push(&image);
    let node = Node::start(&source, "").await;
    let _held = source.fault(On::everything(), Fault::Hang(Stage::Headers));
    let begun = Instant::now();
    let mirror = Pull::new(&node.url, "team/hello", "1")
        .ns("source.example")
        .within(SOON);
    let missed = mirror.manifest().await.unwrap_err();
    assert_eq!(missed.status(), Some(StatusCode::SERVICE_UNAVAILABLE), "{missed}");
    let took = begun.elapsed();
    assert!(
        took >= Duration::from_millis(2500) && took < Duration::from_millis(4500),
        "{took:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn explain_says_cached_only_of_what_lies_on_the_disk() {
    let source = FakeRegistry::start().await;
    let image = hello("1", 13);
    source.push(&image);
    let node = Node::start(&source, "").await;
    node.cache(&image).await;
    let explained = node.report("/explain?image=source.example/team/hello:1").await;
    let child = explained["manifests"]
        .as_array()
        .unwrap()
        .iter()
        .find(|manifest| manifest["is_index"] == false)
        .unwrap();
    for blob in child["blobs"].as_array().unwrap() {
        assert_eq!(
            (&blob["here"], blob["source"].as_str()),
            (&true.into(), Some("upstream")),
            "{blob}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_and_what_is_held_can_be_watched() {
    let source = FakeRegistry::start().await;
    let image = hello("1", 14);
    source.push(&image);
    let node = Node::start(&source, "").await;
    node.cache(&image).await;
    let metrics = node.admin("/metrics").await;
    for name in [
        "kube_image_keeper_node_manifest_answers_total{source=\"upstream\"}",
        "kube_image_keeper_node_blob_answers_total{source=\"upstream\"}",
        "kube_image_keeper_node_copies_missing",
        "kube_image_keeper_node_disk_free_bytes",
        "kube_image_keeper_raft_has_quorum",
    ] {
        assert!(metrics.contains(name), "{name} in {metrics}");
    }
    assert!(
        !metrics.contains("team/hello") && !metrics.contains("sha256:"),
        "no name is a label"
    );
}
