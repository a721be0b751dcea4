//! What a node does about a source that answers some questions and not others: nobody waits twice.

#![expect(clippy::unwrap_used, reason = "a test that meets an error is to stop there")]

mod support;

use std::time::Duration;

use http::Method;
use support::Node;
use testkit::{FakeRegistry, Fault, Image, On, Stage, image};
use tokio::time::Instant;

fn hello(seed: u64) -> Image {
    image("team/hello").tag("1").random_layer(300_000, seed).build()
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_moved_tag_whose_manifest_hangs_only_one_pull_waits() {
    let source = FakeRegistry::start().await;
    let (old, new) = (hello(1), hello(2));
    source.push(&old);
    let node = Node::start(&source, "").await;
    node.cache(&old).await;
    source.push(&new);
    let hangs = On::manifest(new.root().as_str()).method(Method::GET);
    let held = source.fault(hangs.clone(), Fault::Hang(Stage::Headers));
    // An answer of a source serves everyone who asks within a second.
    tokio::time::sleep(Duration::from_millis(1100)).await;

    let first = node.pull(&old, "1").manifest().await.unwrap();
    assert_eq!(first.digest(), old.root());
    assert!(held.hits() > 0, "the source was asked for the new manifest");
    for _ in 0..3 {
        let begun = Instant::now();
        let next = node.pull(&old, "1").manifest().await.unwrap();
        assert_eq!(next.digest(), old.root());
        assert!(
            begun.elapsed() < Duration::from_secs(1),
            "it took {:?}",
            begun.elapsed()
        );
    }
    assert_eq!(held.hits(), 1, "one question for all");
}
