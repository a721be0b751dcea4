//! A tag moves at the source, which dies before the new image is whole.

use std::thread;
use std::time::Duration;

use sandbox::{http, image, wait};
use testkit::{Fault, On, Stage, image as make};
use tokio::time::Instant;

use crate::world::{ANSWERS_ARE_OLD, World, digests, manifest_url, name};

/// Probes of a source that was down are seconds apart.
const RECOVERY_MAX: Duration = Duration::from_secs(40);

#[test]
fn a_moved_tag_is_seen_at_once_and_its_old_image_outlives_a_source_that_dies_halfway() {
    let mut world = World::start(|cluster, _| cluster);
    let version = |seed| {
        make("library/app")
            .random_layer(3_000_000, seed)
            .random_layer(2_000_000, seed + 1)
            .build()
    };
    let (old, new) = (version(1), version(10));
    world.source.push(&old);
    world.cache(&old);
    world.source.push(&new);
    thread::sleep(ANSWERS_ARE_OLD);
    let half = Stage::Body { after_bytes: 1_500_000 };
    world.source.fault(On::blob(new.largest_blob().0), Fault::Hang(half));
    let seen = http::get_bytes(&manifest_url(world.cluster.proxy_url(), &new)).unwrap();
    assert_eq!(
        oci::Digest::sha256(&seen),
        *new.root(),
        "the next pull sees the new image"
    );
    // What was seen once is seen by everyone from then on, fetched or not.
    let until = Instant::now() + ANSWERS_ARE_OLD;
    while Instant::now() < until {
        for listener in world.listeners() {
            let seen = http::get_bytes(&manifest_url(&listener, &new)).unwrap();
            assert_eq!(oci::Digest::sha256(&seen), *new.root(), "asked of {listener}");
        }
    }
    world.fetching_node(new.largest_blob().0, 1_000_000);
    world.stop_source();
    thread::sleep(ANSWERS_ARE_OLD);
    for listener in world.listeners() {
        let pulled = image::digests(&listener, &name(&old)).unwrap();
        assert_eq!(pulled, digests(&old), "asked of {listener}");
    }
    world.cluster.restart().unwrap();
    for listener in world.listeners() {
        let pulled = image::digests(&listener, &name(&old)).unwrap();
        assert_eq!(pulled, digests(&old), "asked of {listener} after a restart");
    }
    world.source.lift_all();
    world.restart_source();
    let new_is_served = || Ok((image::digests(world.cluster.proxy_url(), &name(&new))? == digests(&new)).then_some(()));
    wait::until(RECOVERY_MAX, "the new image", new_is_served).unwrap();
    world.cluster.wait_complete(&name(&new)).unwrap();
    world.stop_source();
    world.assert_pulls(&new);
}
