//! The source answers, but not what was asked for: refusals, lies and errors.

#![allow(clippy::unwrap_used, reason = "a test ends where it fails")]

use std::time::Duration;

use sandbox::{Cluster, http, image, wait};
use testkit::{FakeRegistry, Fault, On, Stage};
use tokio::runtime::Runtime;
use tokio::time::Instant;

const HOST: &str = "registry.test";
const CACHED: &str = "registry.test/library/cached:latest";
const STALE_MAX: Duration = Duration::from_millis(3500);

struct Faked {
    registry: FakeRegistry,
    cluster: Cluster,
    // Runs the registry; dropped last.
    _runtime: Runtime,
}

/// A cluster that has cached one image of a source that can misbehave, and has not seen the other.
fn faked() -> Faked {
    let runtime = Runtime::new().unwrap();
    let registry = runtime.block_on(FakeRegistry::start());
    for (name, seed) in [("library/cached", 1), ("library/cold", 2)] {
        let image = testkit::image(name)
            .platform("linux/amd64")
            .random_layer(300_000, seed)
            .build();
        registry.push(&image);
    }
    let cluster = Cluster::builder().upstream(HOST, &registry.url()).start().unwrap();
    image::digests(cluster.proxy_url(), CACHED).unwrap();
    cluster.wait_complete(CACHED).unwrap();
    Faked {
        registry,
        cluster,
        _runtime: runtime,
    }
}

impl Faked {
    fn manifest_url(&self, name: &str) -> String {
        format!("{}/v2/{HOST}/{name}/manifests/latest", self.cluster.proxy_url())
    }

    /// The cached image is whole, and soon there.
    fn assert_cached_is_served(&self, fault: &Fault) {
        let started = Instant::now();
        let answer = http::get(&self.manifest_url("library/cached")).unwrap();
        assert_eq!(answer.status, 200, "{fault:?}");
        assert!(started.elapsed() < STALE_MAX, "{fault:?}: {:?}", started.elapsed());
        image::digests(self.cluster.proxy_url(), CACHED).unwrap();
    }
}

#[test]
fn refusals_and_errors_never_hide_what_is_cached_and_never_reach_a_runtime_as_429() {
    let faked = faked();
    for status in [401, 403, 404, 429, 500, 502, 503] {
        let fault = Fault::Status(status);
        let handle = faked.registry.fault(On::everything(), fault.clone());
        faked.assert_cached_is_served(&fault);
        let cold = http::get(&faked.manifest_url("library/cold")).unwrap().status;
        assert!(cold >= 400 && cold != 429, "{status} upstream became {cold}");
        handle.lift();
    }
}

#[test]
fn resets_and_hangs_at_every_stage_never_hide_what_is_cached() {
    let faked = faked();
    let stages = [Stage::Headers, Stage::FirstByte, Stage::Body { after_bytes: 100 }];
    for fault in stages
        .into_iter()
        .flat_map(|stage| [Fault::Reset(stage), Fault::Hang(stage)])
    {
        let handle = faked.registry.fault(On::everything(), fault.clone());
        faked.assert_cached_is_served(&fault);
        handle.lift();
    }
}

#[test]
fn a_source_that_lies_never_makes_a_complete_wrong_body() {
    let faked = faked();
    let manifest = http::get_bytes(&faked.manifest_url("library/cold")).unwrap();
    let expected = oci::Digest::sha256(&manifest).to_string();
    let digest = layer_of(&manifest);
    let url = format!("{}/v2/{HOST}/library/cold/blobs/{digest}", faked.cluster.proxy_url());
    for fault in [
        Fault::FlipByte { at: 1000 },
        Fault::LieLength { delta: -7 },
        Fault::LieLength { delta: 7 },
    ] {
        let handle = faked.registry.fault(On::blobs(), fault.clone());
        if let Ok(found) = http::digest_of(&url) {
            assert_eq!(found, digest, "{fault:?}");
        }
        handle.lift();
    }
    // A fill that began under the last fault may still be ending.
    let whole = wait::until(Duration::from_secs(10), "the right bytes", || {
        image::digests(faked.cluster.proxy_url(), "registry.test/library/cold:latest").map(Some)
    });
    assert_eq!(whole.unwrap().top, expected);
}

#[test]
fn a_repository_that_was_never_there_is_a_clear_miss() {
    let faked = faked();
    let answer = http::get(&faked.manifest_url("library/nowhere")).unwrap();
    assert_eq!(answer.status, 404);
    let document: serde_json::Value = serde_json::from_slice(&answer.bytes().unwrap()).unwrap();
    assert!(document["errors"][0]["code"].is_string(), "{document}");
}

fn layer_of(manifest: &[u8]) -> String {
    let manifest: serde_json::Value = serde_json::from_slice(manifest).unwrap();
    manifest["layers"][0]["digest"].as_str().unwrap().to_owned()
}
