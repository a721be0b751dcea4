//! The source misbehaves: what is cached is still answered in time, and a wrong byte never arrives.

#![allow(clippy::unwrap_used, reason = "a test ends where it fails")]

use std::time::Duration;

use sandbox::{Cluster, Fault, Relay, SourceRegistry, http, image, wait};
use tokio::time::Instant;

const HOST: &str = "registry.test";
const APP: &str = "registry.test/library/app:1";
/// The 2 s after which a cached tag is answered without its source, and some for a busy machine.
const STALE_MAX: Duration = Duration::from_millis(3500);

struct Wired {
    source: SourceRegistry,
    relay: Relay,
    cluster: Cluster,
}

fn wired() -> Wired {
    let source = SourceRegistry::start().unwrap();
    let relay = Relay::start(&source.authority()).unwrap();
    let cluster = Cluster::builder().upstream(HOST, &relay.url()).start().unwrap();
    Wired { source, relay, cluster }
}

impl Wired {
    fn digests(&self) -> anyhow::Result<image::ImageDigests> {
        image::digests(self.cluster.proxy_url(), APP)
    }

    fn largest_blob_url(&self) -> (String, String) {
        let (digest, _) = image::largest_blob(&self.source.url(), "library/app:1").unwrap();
        (
            format!("{}/v2/{HOST}/library/app/blobs/{digest}", self.cluster.proxy_url()),
            digest,
        )
    }

    fn tag_url(&self, tag: &str) -> String {
        format!("{}/v2/{HOST}/library/app/manifests/{tag}", self.cluster.proxy_url())
    }
}

#[test]
fn a_cached_tag_is_answered_in_time_whatever_the_source_does() {
    let wired = wired();
    let expected = wired.digests().unwrap();
    wired.cluster.wait_complete(APP).unwrap();
    for fault in [
        Fault::Silence,
        Fault::Reset,
        Fault::CutAfter(0),
        Fault::SilenceAfter(20),
    ] {
        wired.relay.set_fault(fault);
        let started = Instant::now();
        let manifest = http::get_bytes(&wired.tag_url("1")).unwrap();
        assert!(started.elapsed() < STALE_MAX, "{fault:?}: {:?}", started.elapsed());
        assert_eq!(oci::Digest::sha256(&manifest).to_string(), expected.top, "{fault:?}");
        assert_eq!(wired.digests().unwrap(), expected, "{fault:?}");
    }
}

#[test]
fn a_silent_source_ends_a_cold_pull_and_a_mirror_answers_a_miss_sooner() {
    let wired = wired();
    wired.relay.set_fault(Fault::Silence);
    let started = Instant::now();
    let mirrored = format!("{}/v2/library/app/manifests/1?ns={HOST}", wired.cluster.proxy_url());
    let status = http::get(&mirrored).unwrap().status;
    assert!(status == 404 || status >= 500, "{status}");
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    let started = Instant::now();
    let status = http::get(&wired.tag_url("1")).unwrap().status;
    assert!(status >= 400 && status != 429, "{status}");
    assert!(started.elapsed() < Duration::from_secs(40), "{:?}", started.elapsed());
}

#[test]
fn a_flipped_byte_from_the_source_never_makes_a_whole_answer() {
    let wired = wired();
    let expected = image::digests(&wired.source.url(), "library/app:1").unwrap();
    let (url, digest) = wired.largest_blob_url();
    http::get_bytes(&wired.tag_url("1")).unwrap();
    wired.relay.set_fault(Fault::FlipBitAt(1_000_000));
    if let Ok(found) = http::digest_of(&url) {
        assert_eq!(found, digest, "a complete wrong body");
    }
    wired.relay.set_fault(Fault::None);
    assert_eq!(wired.digests().unwrap(), expected);
}

#[test]
fn a_source_that_cuts_connections_is_resumed() {
    let wired = wired();
    let (url, digest) = wired.largest_blob_url();
    http::get_bytes(&wired.tag_url("1")).unwrap();
    wired.relay.set_fault(Fault::CutAfter(3_000_000));
    assert_eq!(http::digest_of(&url).unwrap(), digest);
}

#[test]
fn a_moved_tag_is_seen_at_the_next_pull_and_the_old_image_survives_a_source_that_dies_halfway() {
    let mut wired = wired();
    wired.source.tag("library/app:1", "library/app:latest").unwrap();
    let latest = format!("{HOST}/library/app:latest");
    let old = image::digests(wired.cluster.proxy_url(), &latest).unwrap();
    wired.cluster.wait_complete(&latest).unwrap();
    wired.source.tag("library/app:2", "library/app:latest").unwrap();
    wired.relay.set_rate(Some(500_000));
    // What the source last said is shared for a second.
    wait::until(Duration::from_secs(5), "the new image to be seen", || {
        let manifest = http::get_bytes(&wired.tag_url("latest"))?;
        Ok((oci::Digest::sha256(&manifest).to_string() != old.top).then_some(()))
    })
    .unwrap();
    wired.source.stop();
    wired.relay.set_fault(Fault::Reset);
    wait::until(Duration::from_secs(5), "the old image to be served again", || {
        let manifest = http::get_bytes(&wired.tag_url("latest"))?;
        Ok((oci::Digest::sha256(&manifest).to_string() == old.top).then_some(()))
    })
    .unwrap();
    assert_eq!(image::digests(wired.cluster.proxy_url(), &latest).unwrap(), old);
}

#[test]
fn a_byte_flipped_on_disk_never_reaches_a_client() {
    let wired = wired();
    let expected = wired.digests().unwrap();
    wired.cluster.wait_copies_made().unwrap();
    let (_, digest) = wired.largest_blob_url();
    for node in 0..3 {
        let copies = wired.cluster.flip_stored_bit(node, &digest).unwrap();
        assert!(copies > 0, "node {node} has a copy");
        assert_eq!(wired.digests().unwrap(), expected);
    }
}
