//! How long anybody waits for whom.

use std::time::Duration;

use testkit::{Fault, On, Stage};
use tokio::net::TcpListener;
use tokio::time::Instant;

use crate::world::{Link, World};

/// Listens, takes what the kernel takes, and never answers: a node that hangs.
async fn silent_listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.unwrap()
}

#[tokio::test]
async fn a_node_that_hangs_costs_two_seconds_once() {
    let (first, second) = (silent_listener().await, silent_listener().await);
    let hanging = [first.local_addr().unwrap(), second.local_addr().unwrap()];
    let world = World::start_beside(1, Link::Plain, &hanging[..1]).await;
    let started = Instant::now();
    for _ in 0..4 {
        // Other digests are other orders of nodes: sooner or later the hanging one comes first.
        let reply = world.get("/v2/quay.example/a/b/manifests/v1").await;
        assert_eq!(reply.status, 200);
        let reply = world.get(&world.blob_path()).await;
        world.assert_whole_blob(&reply);
    }
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    drop(second);
}

#[tokio::test]
async fn with_every_node_hanging_the_source_answers_soon() {
    let silent = [silent_listener().await, silent_listener().await];
    let addresses = [silent[0].local_addr().unwrap(), silent[1].local_addr().unwrap()];
    let world = World::start_beside(0, Link::Plain, &addresses).await;
    let reply = world.get(&world.blob_path()).await;
    world.assert_whole_blob(&reply);
    let started = Instant::now();
    let reply = world.get(&world.blob_path()).await;
    world.assert_whole_blob(&reply);
    assert!(
        started.elapsed() < Duration::from_secs(2),
        "known by now: {:?}",
        started.elapsed()
    );
}

#[tokio::test]
async fn a_slow_node_that_lives_is_waited_for() {
    let world = World::start(3, Link::MutualTls).await;
    world
        .nodes
        .iter()
        .for_each(|node| node.set(|settings| settings.slow_by = Duration::from_millis(2500)));
    let reply = world.get(&world.blob_path()).await;
    world.assert_whole_blob(&reply);
    assert_eq!(world.n_asked("blob"), 1, "nobody else is asked");
    assert!(world.source.requests().is_empty());
}

#[tokio::test]
async fn a_client_with_a_next_host_gets_its_miss_in_three_seconds() {
    let world = World::start(0, Link::Plain).await;
    world.source.fault(On::everything(), Fault::Hang(Stage::Headers));
    let started = Instant::now();
    let reply = world.get(&world.blob_path_with_ns()).await;
    assert!(matches!(reply.status, 404 | 503 | 504), "{}", reply.status);
    let took = started.elapsed();
    assert!(
        took >= Duration::from_millis(2900) && took < Duration::from_millis(3500),
        "{took:?}"
    );
    let started = Instant::now();
    assert!(world.get(&world.blob_path_with_ns()).await.status >= 404);
    assert!(started.elapsed() < Duration::from_millis(3500));
}
