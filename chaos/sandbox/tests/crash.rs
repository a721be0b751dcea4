//! Nodes die by kill -9 in the middle of things.

#![allow(clippy::unwrap_used, reason = "a test ends where it fails")]

use std::io::Read;
use std::thread;

use sandbox::{Cluster, Relay, SourceRegistry, http, image};

const HOST: &str = "registry.test";
const BIG: &str = "library/big:1";
/// Past every buffer between a node and a client, well before the end of the blob.
const MIDDLE_BYTES: usize = 40_000_000;

/// Reads part of a blob, lets `fault` happen, reads the rest, and checks the digest.
fn read_through(url: &str, digest: &str, middle: usize, fault: impl FnOnce()) {
    let mut response = http::get(url).unwrap();
    assert_eq!(response.status, 200);
    let mut first = vec![0; middle];
    response.body.read_exact(&mut first).unwrap();
    fault();
    let rest = response.bytes().unwrap();
    let whole = [first, rest].concat();
    assert_eq!(oci::Digest::sha256(&whole).to_string(), digest, "{} bytes", whole.len());
}

#[test]
fn a_node_killed_in_the_middle_of_a_cached_blob_is_not_noticed() {
    let mut source = SourceRegistry::start().unwrap();
    let (digest, _) = image::largest_blob(&source.url(), BIG).unwrap();
    let mut cluster = Cluster::builder()
        .copies(3)
        .upstream(HOST, &source.url())
        .start()
        .unwrap();
    image::digests(cluster.proxy_url(), &format!("{HOST}/{BIG}")).unwrap();
    cluster.wait_copies_made().unwrap();
    source.stop();
    // One of the three serves it and one leads: killing each in turn kills both.
    for node in 0..3 {
        let url = format!("{}/v2/{HOST}/library/big/blobs/{digest}", cluster.proxy_url());
        read_through(&url, &digest, MIDDLE_BYTES, || cluster.kill(node).unwrap());
        cluster.restart().unwrap();
    }
}

#[test]
fn a_node_killed_in_the_middle_of_a_fill_is_not_noticed() {
    let source = SourceRegistry::start().unwrap();
    let (digest, _) = image::largest_blob(&source.url(), "library/app:1").unwrap();
    for node in 0..3 {
        let relay = Relay::start(&source.authority()).unwrap();
        relay.set_rate(Some(2_000_000));
        let cluster = Cluster::builder().upstream(HOST, &relay.url()).start().unwrap();
        http::get_bytes(&format!("{}/v2/{HOST}/library/app/manifests/1", cluster.proxy_url())).unwrap();
        let url = format!("{}/v2/{HOST}/library/app/blobs/{digest}", cluster.proxy_url());
        read_through(&url, &digest, 1_000_000, || cluster.kill(node).unwrap());
    }
}

#[test]
fn what_was_acknowledged_survives_all_nodes_killed_at_once() {
    let mut source = SourceRegistry::start().unwrap();
    let relay = Relay::start(&source.authority()).unwrap();
    relay.set_rate(Some(10_000_000));
    let mut cluster = Cluster::builder().upstream(HOST, &relay.url()).start().unwrap();
    let names = ["library/docker:1", "library/app:1", "library/app:2"];
    let url = cluster.proxy_url().to_owned();
    let puller = thread::spawn(move || {
        for name in names {
            // The pull that is under way when everything dies may fail; the ones before may not be lost.
            let _ = image::digests(&url, &format!("{HOST}/{name}"));
        }
    });
    cluster.wait_complete(&format!("{HOST}/library/docker:1")).unwrap();
    for node in 0..3 {
        cluster.kill_without_waiting(node).unwrap();
    }
    puller.join().unwrap();
    source.stop();
    drop(relay);
    cluster.restart().unwrap();
    image::digests(cluster.proxy_url(), &format!("{HOST}/library/docker:1")).unwrap();
    for name in names {
        assert_explained_as_it_is(&cluster, name);
    }
}

/// Whatever `kuik explain` calls cached can be pulled without the source.
fn assert_explained_as_it_is(cluster: &Cluster, name: &str) {
    // An image that no node heard of before the crash is an error, and a true answer.
    let Ok(explained) = cluster.kuik(&["explain", &format!("{HOST}/{name}"), "--platform", "all"]) else {
        return;
    };
    let repository = format!("{HOST}/{}", name.split(':').next().unwrap());
    let manifests = explained["manifests"].as_array().unwrap();
    for manifest in manifests.iter().filter(|manifest| manifest["cached"] == true) {
        let digest = manifest["digest"].as_str().unwrap();
        image::fetch_manifest_and_blobs(cluster.proxy_url(), &repository, digest).unwrap();
    }
}
