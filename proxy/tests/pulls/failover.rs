//! Whoever dies, the client gets the right bytes.

use distribution::{CacheIndex, Source};
use testkit::{Fault, On, Pull, Stage, image};

use crate::client;
use crate::world::{BLOB_BYTES, HOST, Link, World};

#[tokio::test]
async fn a_node_killed_mid_blob_is_not_seen_by_the_client() {
    for link in [Link::MutualTls, Link::Plain] {
        let mut world = World::start(3, link).await;
        for node in &world.nodes {
            node.set(|settings| settings.stalls_at = Some(BLOB_BYTES / 2));
        }
        let mut open = client::open(world.address, "GET", &world.blob_path(), &[]).await;
        open.read_at_least(BLOB_BYTES / 4).await;
        world.serving().kill();
        let reply = open.finish().await;
        world.assert_whole_blob(&reply);
        assert_eq!(world.n_asked("blob"), 2, "{link:?}");
        assert!(
            world.source.requests().is_empty(),
            "the source registry is not bothered"
        );
    }
}

#[tokio::test]
async fn all_nodes_killed_mid_blob_leave_the_source_registry() {
    for source in [Source::Upstream, Source::Local] {
        let mut world = World::start(2, Link::MutualTls).await;
        for node in &world.nodes {
            node.set(|settings| (settings.stalls_at, settings.source) = (Some(BLOB_BYTES / 2), source));
        }
        let mut open = client::open(world.address, "GET", &world.blob_path(), &[]).await;
        open.read_at_least(BLOB_BYTES / 4).await;
        world.nodes.iter_mut().for_each(|node| node.kill());
        let reply = open.finish().await;
        world.assert_whole_blob(&reply);
        assert_eq!(world.source.count(&On::blobs()), 1, "{source:?}");
    }
}

#[tokio::test]
async fn with_the_whole_tier_stopped_pulls_go_straight_to_the_source() {
    let mut world = World::start(3, Link::MutualTls).await;
    world.nodes.iter_mut().for_each(|node| node.kill());
    let reply = world.get(&world.blob_path()).await;
    world.assert_whole_blob(&reply);
    let reply = world.get("/v2/quay.example/a/b/manifests/v1").await;
    assert_eq!((reply.status, &reply.body[..]), (200, &world.manifest[..]));
    let head = client::request(world.address, "HEAD", "/v2/a/b/manifests/v1?ns=quay.example", &[]).await;
    assert_eq!(head.status, 200);
    for name in ["docker-content-digest", "content-length", "content-type"] {
        assert!(head.header(name).is_some(), "{name}");
    }
}

#[tokio::test]
async fn a_flipped_byte_from_the_source_never_makes_a_whole_body() {
    let world = World::start(0, Link::Plain).await;
    for at in [0, BLOB_BYTES / 2, BLOB_BYTES - 1] {
        world.source.fault(On::blobs(), Fault::FlipByte { at: at as u64 });
        let reply = world.get(&world.blob_path()).await;
        assert!(
            !reply.whole && reply.body.len() < BLOB_BYTES,
            "flip at {at}: {} bytes",
            reply.body.len()
        );
    }
    world.source.lift_all();
    let reply = world.get(&world.blob_path()).await;
    world.assert_whole_blob(&reply);
}

#[tokio::test]
async fn a_flipped_byte_over_a_plain_link_never_makes_a_whole_body() {
    let world = World::start(1, Link::Plain).await;
    world.nodes[0].set(|settings| settings.flips = Some(BLOB_BYTES - 1));
    let reply = world.get(&world.blob_path()).await;
    assert!(!reply.whole && reply.body.len() < BLOB_BYTES);
}

#[tokio::test]
async fn a_node_that_forgot_part_of_a_tags_history_is_passed_over() {
    let world = World::start(2, Link::MutualTls).await;
    let path = "/v2/quay.example/a/b/manifests/v1";
    let index = |index| Some(CacheIndex { epoch: 1, index });
    world
        .nodes
        .iter()
        .for_each(|node| node.set(|settings| settings.cache_index = index(7)));
    assert_eq!(world.get(path).await.header("x-cache-index"), Some("1:7"));
    let first = world
        .nodes
        .iter()
        .position(|node| node.n_asked("manifest") == 1)
        .unwrap();
    world.nodes[first].set(|settings| settings.cache_index = index(6));
    assert_eq!(world.get(path).await.header("x-cache-index"), Some("1:7"));
    let asked = world.nodes[first].shelf.asked.lock().unwrap().clone();
    assert_eq!(asked.last().unwrap().cache_index, index(7), "the token travels");
    assert_eq!(
        (asked.last().unwrap().ns.as_deref(), asked.last().unwrap().hop),
        (Some("quay.example"), 1)
    );
}

#[tokio::test]
async fn a_node_that_lost_content_does_not_make_a_miss() {
    let world = World::start(2, Link::MutualTls).await;
    world
        .nodes
        .iter()
        .for_each(|node| node.set(|settings| settings.empty = true));
    let reply = world.get(&world.blob_path()).await;
    world.assert_whole_blob(&reply);
    assert_eq!(world.get("/v2/quay.example/a/b/manifests/v2").await.status, 404);
}

#[tokio::test]
async fn ranges_survive_the_death_of_their_node() {
    let mut world = World::start(2, Link::MutualTls).await;
    world
        .nodes
        .iter()
        .for_each(|node| node.set(|settings| settings.stalls_at = Some(BLOB_BYTES / 2)));
    let range = format!("bytes=0-{}", BLOB_BYTES - 2);
    let mut open = client::open(world.address, "GET", &world.blob_path(), &[("Range", &range)]).await;
    open.read_at_least(1000).await;
    world.serving().kill();
    let reply = open.finish().await;
    assert!(reply.whole && reply.status == 206);
    assert!(reply.body == world.blob[..BLOB_BYTES - 1]);
}

#[tokio::test]
async fn with_the_whole_tier_stopped_images_are_pulled_whole() {
    let mut world = World::start(3, Link::MutualTls).await;
    world.nodes.iter_mut().for_each(|node| node.kill());
    let wanted = image("team/app")
        .platform("linux/amd64")
        .random_layer(200_000, 1)
        .platform("linux/arm64/v8");
    let wanted = wanted.random_layer(100_000, 2).attested().build();
    world.source.push(&wanted);
    let proxy = format!("http://{}", world.address);
    let by_path = Pull::new(&proxy, &format!("{HOST}/team/app"), "latest");
    let by_ns = Pull::new(&proxy, "team/app", wanted.root()).ns(HOST);
    for pull in [by_path, by_ns] {
        let pulled = pull.run().await.unwrap();
        assert_eq!(pulled.root.as_ref(), Some(wanted.root()));
        assert_eq!(pulled.blobs.len(), wanted.blobs().len());
    }
}

#[tokio::test]
async fn a_source_that_breaks_off_is_asked_for_the_rest() {
    let world = World::start(0, Link::Plain).await;
    for fault in [
        Fault::Truncate { after_bytes: 1_000_000 },
        Fault::Reset(Stage::Body { after_bytes: 1_000_000 }),
    ] {
        let fault = world.source.fault(On::blobs().times(2), fault);
        let reply = world.get(&world.blob_path()).await;
        world.assert_whole_blob(&reply);
        assert_eq!(fault.hits(), 2);
        fault.lift();
    }
}

#[tokio::test]
async fn a_source_that_lies_about_the_length_never_makes_a_whole_body() {
    for delta in [-1, 1, -1000] {
        let world = World::start(0, Link::Plain).await;
        world.source.fault(On::blobs(), Fault::LieLength { delta });
        let reply = world.get(&world.blob_path()).await;
        assert!(
            reply.status != 200 || !reply.whole,
            "{delta}: {} bytes",
            reply.body.len()
        );
    }
}
