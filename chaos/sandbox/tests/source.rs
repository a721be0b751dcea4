//! The source registry and the clients by themselves: what they see without a cache is what a cache must show them.

use sandbox::client::{Client, Containerd};
use sandbox::{SourceRegistry, http, image};

#[test]
fn every_client_gets_every_digest_straight_from_the_source() {
    let source = SourceRegistry::start().unwrap();
    let expected = image::digests(&source.url(), "library/app:1").unwrap();
    assert!(
        expected.all.len() > 8,
        "an index of two platforms and an attestation: {expected:?}"
    );
    for client in Client::installed() {
        let pulled = client.pull(&format!("{}/library/app:1", source.authority())).unwrap();
        assert_eq!(pulled.top, expected.top, "{client:?}");
        if client.pulls_every_platform() {
            assert_eq!(pulled.all, expected.all, "{client:?}");
        } else {
            assert!(pulled.all.is_subset(&expected.all), "{client:?}: {pulled:?}");
        }
    }
}

#[test]
fn containerd_finds_a_registry_through_its_hosts_directory() {
    if !Client::installed().contains(&Client::Containerd) {
        return;
    }
    let source = SourceRegistry::start().unwrap();
    let store = tempfile::tempdir().unwrap();
    let hosts = store.path().join("hosts/registry.test");
    std::fs::create_dir_all(&hosts).unwrap();
    let url = source.url();
    let toml = format!("server = \"{url}\"\n[host.\"{url}\"]\ncapabilities = [\"pull\", \"resolve\"]\n");
    std::fs::write(hosts.join("hosts.toml"), toml).unwrap();
    let containerd = Containerd::start(store.path()).unwrap();
    let pulled = containerd
        .pull_by_mirror("registry.test/library/app:1", &store.path().join("hosts"))
        .unwrap();
    assert_eq!(pulled.top, image::digests(&source.url(), "library/app:1").unwrap().top);
}

#[test]
fn a_stopped_source_comes_back_with_its_tags_and_a_moved_tag_moves() {
    let mut source = SourceRegistry::start().unwrap();
    source.tag("library/app:1", "library/app:latest").unwrap();
    let url = format!("{}/v2/library/app/manifests/latest", source.url());
    let first = http::get_bytes(&url).unwrap();
    source.stop();
    assert!(http::get(&url).is_err());
    source.resume().unwrap();
    assert_eq!(http::get_bytes(&url).unwrap(), first);
    source.tag("library/app:2", "library/app:latest").unwrap();
    assert_ne!(http::get_bytes(&url).unwrap(), first);
}

#[test]
fn the_big_image_has_a_layer_over_200_mb() {
    let source = SourceRegistry::start().unwrap();
    let (_, size) = image::largest_blob(&source.url(), "library/big:1").unwrap();
    assert!(size > 200_000_000, "{size}");
}
