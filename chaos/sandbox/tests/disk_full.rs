//! Volumes fill up: one node's, or every node's.

#![allow(clippy::unwrap_used, reason = "a test ends where it fails")]

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use sandbox::{Cluster, SourceRegistry, http, image, wait};

const HOST: &str = "registry.test";
const VOLUME_BYTES: u64 = 256 * 1024 * 1024;
/// Less than a twentieth: neither blobs nor new entries.
const LEFT_BYTES: u64 = 8 * 1024 * 1024;
/// Less than an eightieth: the ballast has to go.
const ALMOST_NOTHING: u64 = 2 * 1024 * 1024;
/// The least there may be; less than what the big image needs.
const QUOTA_BYTES: u64 = 192 * 1024 * 1024;
/// A pull proposes again what was not recorded, every ten seconds.
const RECORDED_WITHIN: Duration = Duration::from_secs(90);
/// A few looks at the disk, on a busy machine.
const SOON: Duration = Duration::from_secs(30);

fn may_mount() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("SKIPPED: only root can mount a small volume");
    }
    root
}

fn says(cluster: &Cluster, node: usize, what: &str) -> anyhow::Result<bool> {
    let reasons = cluster.node_status(node)?.degraded;
    Ok(reasons.iter().any(|reason| reason.contains(what)))
}

fn wait_until_node_says(cluster: &Cluster, node: usize, what: &str) {
    let said = wait::until(SOON, what, || Ok(says(cluster, node, what)?.then_some(())));
    said.unwrap();
}

/// What the files below a directory take up.
fn bytes_below(directory: &Path) -> u64 {
    let entries = std::fs::read_dir(directory).unwrap().map(Result::unwrap);
    entries
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => bytes_below(&entry.path()),
            // Databases remove files while they are counted.
            metadata => metadata.map_or(0, |metadata| metadata.blocks() * 512),
        })
        .sum()
}

fn assert_ready(cluster: &Cluster, node: usize) {
    let answer = http::get(&format!("{}/readyz", cluster.nodes()[node].admin)).unwrap();
    assert_eq!(answer.status, 200, "node {node} is not ready");
}

#[test]
fn pulls_go_on_when_one_node_is_full_and_the_node_says_so() {
    if !may_mount() {
        return;
    }
    let mut source = SourceRegistry::start().unwrap();
    let cluster = Cluster::builder()
        .copies(3)
        .upstream(HOST, &source.url())
        .small_disk(1, VOLUME_BYTES)
        .start()
        .unwrap();
    cluster.fill_disk(1, LEFT_BYTES).unwrap();
    let names = ["library/big:1", "library/app:1", "library/app:2"];
    for name in names {
        let expected = image::digests(&source.url(), name).unwrap();
        let pulled = image::digests(cluster.proxy_url(), &format!("{HOST}/{name}")).unwrap();
        assert_eq!(pulled, expected, "{name}");
        cluster.wait_complete(&format!("{HOST}/{name}")).unwrap();
    }
    wait_until_node_says(&cluster, 1, "disk full");
    assert_ready(&cluster, 1);
    source.stop();
    for name in names {
        image::digests(cluster.proxy_url(), &format!("{HOST}/{name}")).unwrap();
    }
}

#[test]
fn nodes_with_a_quota_on_a_large_disk_stay_below_it_and_say_what_does_not_fit() {
    let source = SourceRegistry::start().unwrap();
    let cluster = Cluster::builder()
        .copies(3)
        .upstream(HOST, &source.url())
        .settings(&format!("[storage]\nquota_bytes = {QUOTA_BYTES}\n"))
        .start()
        .unwrap();
    let pulled = |name: &str| {
        let expected = image::digests(&source.url(), name).unwrap();
        assert_eq!(
            image::digests(cluster.proxy_url(), &format!("{HOST}/{name}")).unwrap(),
            expected
        );
    };
    pulled("library/app:1");
    cluster.wait_complete(&format!("{HOST}/library/app:1")).unwrap();
    let (_, bytes) = image::largest_blob(&source.url(), "library/big:1").unwrap();
    for node in 0..3 {
        let disk = cluster.node_status(node).unwrap().disk;
        assert!(disk.total_bytes == QUOTA_BYTES && disk.free_bytes < bytes, "{disk:?}");
    }
    for _ in 0..3 {
        pulled("library/big:1");
    }
    assert!((0..3).any(|node| says(&cluster, node, "disk too small").unwrap()));
    for node in 0..3 {
        assert_ready(&cluster, node);
        let taken = bytes_below(&cluster.nodes()[node].data);
        assert!(taken <= QUOTA_BYTES, "node {node} takes {taken}");
    }
}

#[test]
fn a_tier_whose_disks_are_all_full_serves_what_it_has_and_goes_on_when_there_is_room_again() {
    if !may_mount() {
        return;
    }
    let source = SourceRegistry::start().unwrap();
    let cluster = Cluster::builder()
        .copies(3)
        .upstream(HOST, &source.url())
        .shared_disk(3 * VOLUME_BYTES)
        .start()
        .unwrap();
    let (cached, new) = (format!("{HOST}/library/app:1"), format!("{HOST}/library/app:2"));
    let expected = |name: &str| image::digests(&source.url(), name).unwrap();
    let pull = |name: &str| image::digests(cluster.proxy_url(), name).unwrap();
    assert_eq!(pull(&cached), expected("library/app:1"));
    cluster.wait_complete(&cached).unwrap();
    wait::until(SOON, "the ballasts to be made", || {
        Ok((0..3).all(|node| cluster.has_ballast(node)).then_some(()))
    })
    .unwrap();

    cluster.fill_disk(0, 3 * LEFT_BYTES).unwrap();
    for node in 0..3 {
        wait_until_node_says(&cluster, node, "proposes nothing new");
        assert_ready(&cluster, node);
        assert!(cluster.has_ballast(node), "it is for worse times");
    }
    assert_eq!(pull(&cached), expected("library/app:1"));
    assert_eq!(pull(&new), expected("library/app:2"), "streamed");
    assert!(!cluster.is_complete(&new).unwrap(), "recorded all the same");

    cluster.fill_disk(0, ALMOST_NOTHING).unwrap();
    wait::until(SOON, "a ballast to be let go", || {
        Ok((0..3).any(|node| !cluster.has_ballast(node)).then_some(()))
    })
    .unwrap();
    assert_eq!(pull(&cached), expected("library/app:1"));

    cluster.empty_disk(0).unwrap();
    wait::until(SOON, "the ballasts to return", || {
        Ok((0..3).all(|node| cluster.has_ballast(node)).then_some(()))
    })
    .unwrap();
    // What could not be recorded is, when it is pulled again.
    wait::until(RECORDED_WITHIN, "the new image to be kept", || {
        assert_eq!(pull(&new), expected("library/app:2"));
        Ok(cluster.is_complete(&new)?.then_some(()))
    })
    .unwrap();
}
