//! Real clients pull real images through the proxy: with the source, without it, and with nodes dead.

#![allow(clippy::unwrap_used, reason = "a test ends where it fails")]

use sandbox::client::{Client, Containerd};
use sandbox::image::ImageDigests;
use sandbox::{Cluster, SourceRegistry, image};

const HOST: &str = "registry.test";
const IMAGES: [&str; 2] = ["library/app:1", "library/docker:1"];

fn started(copies: u8) -> (SourceRegistry, Cluster) {
    let source = SourceRegistry::start().unwrap();
    let cluster = Cluster::builder()
        .copies(copies)
        .upstream(HOST, &source.url())
        .start()
        .unwrap();
    (source, cluster)
}

/// Every client pulls every image and ends with the source's digests.
fn assert_clients_pull(cluster: &Cluster, expected: &[(&str, ImageDigests)]) {
    for client in Client::installed() {
        for (name, digests) in expected {
            let pulled = client.pull(&format!("{}/{HOST}/{name}", cluster.authority())).unwrap();
            assert_eq!(pulled.top, digests.top, "{client:?}, {name}");
            if client.pulls_every_platform() {
                assert_eq!(pulled.all, digests.all, "{client:?}, {name}");
            } else {
                assert!(pulled.all.is_subset(&digests.all), "{client:?}, {name}: {pulled:?}");
            }
        }
    }
}

fn digests_at(source: &SourceRegistry) -> Vec<(&'static str, ImageDigests)> {
    IMAGES
        .iter()
        .map(|name| (*name, image::digests(&source.url(), name).unwrap()))
        .collect()
}

#[test]
fn clients_get_the_sources_digests_with_it_without_it_and_with_any_node_dead() {
    let (mut source, mut cluster) = started(3);
    let expected = digests_at(&source);
    assert_clients_pull(&cluster, &expected);
    cluster.wait_copies_made().unwrap();
    source.stop();
    assert_clients_pull(&cluster, &expected);
    for node in 0..3 {
        cluster.kill(node).unwrap();
        assert_clients_pull(&cluster, &expected);
        cluster.restart().unwrap();
    }
}

#[test]
fn one_node_of_three_is_enough_once_every_copy_is_made() {
    let (mut source, mut cluster) = started(3);
    let expected = digests_at(&source);
    for (name, digests) in &expected {
        assert_eq!(
            image::digests(cluster.proxy_url(), &format!("{HOST}/{name}")).unwrap(),
            *digests
        );
    }
    cluster.wait_copies_made().unwrap();
    source.stop();
    for left in 0..3 {
        for node in (0..3).filter(|node| *node != left) {
            cluster.kill(node).unwrap();
        }
        for (name, digests) in &expected {
            let pulled = image::digests(cluster.proxy_url(), &format!("{HOST}/{name}")).unwrap();
            assert_eq!(pulled, *digests, "only node {left} lives");
        }
        cluster.restart().unwrap();
    }
}

#[test]
fn containerd_pulls_through_the_proxy_as_a_mirror() {
    if !Client::installed().contains(&Client::Containerd) {
        return;
    }
    let (mut source, cluster) = started(3);
    let expected = image::digests(&source.url(), "library/app:1").unwrap();
    let pull = || {
        let store = tempfile::tempdir().unwrap();
        let hosts = store.path().join("hosts");
        std::fs::create_dir_all(hosts.join(HOST)).unwrap();
        let url = cluster.proxy_url();
        let toml =
            format!("server = \"http://127.0.0.1:1\"\n[host.\"{url}\"]\ncapabilities = [\"pull\", \"resolve\"]\n");
        std::fs::write(hosts.join(HOST).join("hosts.toml"), toml).unwrap();
        let containerd = Containerd::start(store.path()).unwrap();
        containerd
            .pull_by_mirror(&format!("{HOST}/library/app:1"), &hosts)
            .unwrap()
    };
    let first = pull();
    assert_eq!(first.top, expected.top);
    assert!(first.all.is_subset(&expected.all));
    cluster.wait_copies_made().unwrap();
    source.stop();
    assert_eq!(pull(), first);
}

#[test]
fn pulls_go_straight_to_the_source_when_the_whole_tier_is_dead() {
    let (source, cluster) = started(3);
    let expected = digests_at(&source);
    for node in 0..3 {
        cluster.kill(node).unwrap();
    }
    assert_clients_pull(&cluster, &expected);
}
