//! A stored copy goes bad.

use std::io::Read;
use std::time::Duration;

use oci::Digest;
use sandbox::{http, wait};
use testkit::image as make;

use crate::download::Download;
use crate::world::{World, blob_url};

/// A bad copy is fetched again from a peer in the background.
const REPAIRED_WITHIN: Duration = Duration::from_secs(60);
const SIZE: usize = 5_000_000;

#[test]
fn a_flipped_bit_of_a_stored_blob_reaches_no_client_of_that_node_and_is_repaired_from_a_peer() {
    let mut world = World::start(|cluster, _| cluster.copies(3));
    let image = make("library/app").random_layer(SIZE, 1).build();
    let (digest, bytes) = image.largest_blob();
    world.source.push(&image);
    world.cache(&image);
    world.cluster.wait_copies_made().unwrap();
    world.stop_source();
    for (node, status) in world.cluster.nodes().iter().enumerate() {
        let url = blob_url(&status.url, &image, digest);
        assert_eq!(
            world.cluster.flip_stored_bit(node, digest.as_str()).unwrap(),
            1,
            "copies on node {node}"
        );
        // The bit lies in the middle: in this range, and then in the whole.
        let range = [("Range", format!("bytes={}-{}", SIZE / 2 - 10, SIZE / 2 + 9))];
        let headers = range.each_ref().map(|(name, value)| (*name, value.as_str()));
        let mut answer = http::request("GET", &url, &headers).unwrap();
        assert_eq!(answer.status, 206, "node {node}");
        let mut part = Vec::new();
        answer.body.read_to_end(&mut part).unwrap();
        assert_eq!(part, bytes[SIZE / 2 - 10..SIZE / 2 + 10], "a range of node {node}");
        Download::open(&url, digest).finish();
        wait::until(REPAIRED_WITHIN, "the copy to be repaired", || {
            let copies = world.cluster.stored_copies(node, digest.as_str())?;
            let good =
                |path: &std::path::PathBuf| std::fs::read(path).is_ok_and(|found| Digest::sha256(&found) == *digest);
            Ok((copies.len() == 1 && copies.iter().all(good)).then_some(()))
        })
        .unwrap();
    }
    world.assert_pulls(&image);
}
