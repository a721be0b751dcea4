//! Nodes die, or stop without dying, in the middle of things.

use std::collections::BTreeSet;
use std::thread;
use std::time::Duration;

use sandbox::{image, wait};
use serde_json::Value;
use testkit::{Image, image as make};

use crate::download::Download;
use crate::world::{World, blob_url, digests, name};

/// One second of silence, one for the node to be asked whether it lives, and as much again for a busy machine.
const FROZEN_NODE_COSTS_MAX: Duration = Duration::from_secs(6);

#[test]
fn a_leader_killed_mid_blob_is_not_noticed_and_what_comes_later_is_recorded() {
    let world = World::start(|cluster, _| cluster);
    let (first, later) = (
        make("library/first").random_layer(16_000_000, 1).build(),
        make("library/later").random_layer(300_000, 2).build(),
    );
    world.source.push(&first);
    world.source.push(&later);
    world.source.limit_rate(Some(4_000_000));
    let (digest, _) = first.largest_blob();
    world.learn(&first);
    let mut download = Download::open(&blob_url(world.cluster.proxy_url(), &first, digest), digest);
    download.read_past(2_000_000);
    world.cluster.kill(world.cluster.leader().unwrap()).unwrap();
    download.finish();
    for image in [&first, &later] {
        world.cache(image);
    }
}

#[test]
fn a_frozen_node_holds_nobody_up_for_more_than_seconds() {
    let mut world = World::start(|cluster, _| cluster.copies(3));
    let image = make("library/app").random_layer(48_000_000, 1).build();
    let (digest, _) = image.largest_blob();
    world.source.push(&image);
    world.source.limit_rate(Some(8_000_000));
    world.learn(&image);
    let url = blob_url(world.cluster.proxy_url(), &image, digest);
    let mut download = Download::open(&url, digest);
    download.read_past(8_000_000);
    let fetching = world.fetching_node(digest, 8_000_000);
    world.cluster.pause(fetching).unwrap();
    let waited = download.finish();
    assert!(waited < FROZEN_NODE_COSTS_MAX, "a frozen fetching node: {waited:?}");
    world.cluster.resume(fetching).unwrap();
    world.assert_pulls(&image);
    world.cluster.wait_copies_made().unwrap();
    world.stop_source();
    // Who fetches a blob is also the first to be asked for it once it is there.
    let mut download = Download::open(&url, digest);
    download.read_past(4_000_000);
    world.cluster.pause(fetching).unwrap();
    let waited = download.finish();
    assert!(waited < FROZEN_NODE_COSTS_MAX, "a frozen serving node: {waited:?}");
    world.assert_pulls(&image);
}

#[test]
fn what_was_said_to_be_cached_survives_the_death_of_all_nodes_at_once() {
    let mut world = World::start(|cluster, _| cluster.copies(1));
    for round in 0..2 {
        let images: Vec<_> = (0..6).map(|n| small_image(round * 6 + n)).collect();
        images.iter().for_each(|image| world.source.push(image));
        world.source.limit_rate(Some(6_000_000));
        let (complete, cached) = kill_all_during_pulls(&world, &images);
        world.stop_source();
        world.cluster.restart().unwrap();
        let after = complete_images(&world);
        assert!(
            complete.is_subset(&after),
            "complete before {complete:?}, after {after:?}"
        );
        for image in &images {
            let is_cached = says_cached(&world, image);
            assert!(is_cached || !cached.contains(&name(image)), "{} was lost", name(image));
            assert!(
                is_cached || !complete.contains(&name(image)),
                "{} is not there",
                name(image)
            );
            let pulled = image::digests(world.cluster.proxy_url(), &name(image));
            match pulled {
                Ok(pulled) => assert_eq!(pulled, digests(image)),
                Err(error) => assert!(!is_cached, "{} is said to be cached: {error:#}", name(image)),
            }
        }
        world.restart_source();
    }
}

fn small_image(n: u64) -> Image {
    make(&format!("library/small-{n}")).random_layer(1_500_000, n).build()
}

/// Answers what was said to be complete, and what to be cached, before the nodes died.
fn kill_all_during_pulls(world: &World, images: &[Image]) -> (BTreeSet<String>, BTreeSet<String>) {
    let before = complete_images(world).len();
    thread::scope(|scope| {
        for half in images.chunks(images.len() / 2) {
            scope.spawn(move || {
                for image in half {
                    // The proxy finds the source when the nodes are gone; were it not so, this is not the place to say.
                    let _ = image::digests(world.cluster.proxy_url(), &name(image));
                }
            });
        }
        let complete = wait::until(Duration::from_secs(60), "two complete images", || {
            Ok(Some(complete_images(world)).filter(|complete| complete.len() >= before + 2))
        });
        let cached = images
            .iter()
            .filter(|image| says_cached(world, image))
            .map(name)
            .collect();
        for node in 0..world.cluster.nodes().len() {
            world.cluster.kill_without_waiting(node).unwrap();
        }
        (complete.unwrap(), cached)
    })
}

fn complete_images(world: &World) -> BTreeSet<String> {
    let answer = world.cluster.kuik(&["images"]).unwrap();
    let images = answer["images"].as_array().unwrap().iter();
    let complete = images.filter(|image| image["complete"] == Value::Bool(true));
    complete
        .map(|image| {
            format!(
                "{}:{}",
                image["repository"].as_str().unwrap(),
                image["tag"].as_str().unwrap()
            )
        })
        .collect()
}

fn says_cached(world: &World, image: &Image) -> bool {
    let answer = world
        .cluster
        .kuik(&["explain", &name(image), "--platform", "all"])
        .unwrap();
    answer["cached"] == Value::Bool(true)
}
