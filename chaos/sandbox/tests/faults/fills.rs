//! Many clients ask for one cold blob at once, while its source falls silent or the node that fetches it dies.

use std::thread;
use std::time::Duration;

use http::Method;
use testkit::{Fault, On, Stage, image};

use crate::download::Download;
use crate::world::{World, blob_url};

const CLIENTS: usize = 64;
const SILENCE: Duration = Duration::from_secs(20);

#[test]
fn one_get_per_blob_serves_64_clients_through_20_silent_seconds() {
    let world = World::start(|cluster, _| cluster);
    let image = image("library/app")
        .random_layer(6_000_000, 1)
        .random_layer(7_000_000, 2)
        .build();
    let layers: Vec<_> = image
        .blobs()
        .iter()
        .filter(|(_, bytes)| bytes.len() > 1_000_000)
        .collect();
    let silent_at = [Stage::Headers, Stage::Body { after_bytes: 2_000_000 }];
    for ((digest, _), stage) in layers.iter().zip(silent_at) {
        world
            .source
            .fault(On::blob(digest).method(Method::GET), Fault::Pause(stage, SILENCE));
    }
    world.source.push(&image);
    world.learn(&image);
    let listeners = world.listeners();
    let image = &image;
    thread::scope(|scope| {
        for n in 0..CLIENTS {
            let (listener, (digest, _)) = (&listeners[n % listeners.len()], layers[n / listeners.len() % 2]);
            scope.spawn(move || Download::open(&blob_url(listener, image, digest), digest).finish());
        }
    });
    for (digest, bytes) in layers {
        let gets = world.source.count(&On::blob(digest).method(Method::GET));
        assert_eq!(gets, 1, "GETs of {digest}");
        assert_eq!(world.source.bytes_sent(digest), bytes.len() as u64);
    }
}

#[test]
fn the_fetching_nodes_death_costs_the_source_less_than_5_percent() {
    const SIZE: u64 = 36_000_000;
    let world = World::start(|cluster, _| cluster);
    let image = image("library/app").random_layer(SIZE as usize, 1).build();
    let (digest, _) = image.largest_blob();
    world.source.push(&image);
    world.source.limit_rate(Some(4_000_000));
    world.learn(&image);
    let url = blob_url(world.cluster.proxy_url(), &image, digest);
    thread::scope(|scope| {
        for _ in 0..24 {
            scope.spawn(|| Download::open(&url, digest).finish());
        }
        let fetching = world.fetching_node(digest, SIZE / 3);
        world.cluster.kill(fetching).unwrap();
    });
    let sent = world.source.bytes_sent(digest);
    assert!(
        sent < SIZE / 100 * 105,
        "the source sent {sent} bytes of a blob of {SIZE}"
    );
}

#[test]
fn a_node_that_comes_back_joins_the_fetch_that_went_on_without_it() {
    const SIZE: u64 = 72_000_000;
    let mut world = World::start(|cluster, _| cluster.restart(true));
    let image = image("library/app").random_layer(SIZE as usize, 1).build();
    let (digest, _) = image.largest_blob();
    world.source.push(&image);
    world.source.limit_rate(Some(4_000_000));
    world.learn(&image);
    let url = blob_url(world.cluster.proxy_url(), &image, digest);
    let download = thread::spawn({
        let (url, digest) = (url.clone(), digest.clone());
        move || Download::open(&url, &digest).finish()
    });
    let fetching = world.fetching_node(digest, SIZE / 6);
    world.cluster.kill(fetching).unwrap();
    world.cluster.wait_restarted(fetching).unwrap();
    assert!(!download.is_finished(), "too late to join anything");
    let node = &world.listeners()[fetching];
    let stranger = testkit::image("library/stranger").build();
    let refused = sandbox::http::get(&blob_url(node, &stranger, digest)).unwrap();
    assert_eq!(refused.status, 404, "another repository's source does not have it");
    let own = blob_url(node, &image, digest);
    Download::open(&own, digest).finish();
    download.join().unwrap();
    let sent = world.source.bytes_sent(digest);
    assert!(
        sent < SIZE / 100 * 105,
        "the source sent {sent} bytes of a blob of {SIZE}"
    );
}
