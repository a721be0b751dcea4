//! One node's volume fills up.

#![allow(clippy::unwrap_used, reason = "a test ends where it fails")]

use sandbox::{Cluster, SourceRegistry, image};

const HOST: &str = "registry.test";
const VOLUME_BYTES: u64 = 256 * 1024 * 1024;
/// Less than a node leaves alone for its metadata, so there is no room for a blob.
const LEFT_BYTES: u64 = 8 * 1024 * 1024;

#[test]
fn pulls_go_on_when_one_node_is_full_and_the_node_says_so() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: only root can mount a small volume");
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
    let degraded = sandbox::wait::until(std::time::Duration::from_secs(30), "the full node to say so", || {
        Ok(Some(cluster.node_status(1)?.degraded).filter(|reasons| !reasons.is_empty()))
    });
    assert!(degraded.unwrap().iter().any(|reason| reason.contains("disk")));
    source.stop();
    for name in names {
        image::digests(cluster.proxy_url(), &format!("{HOST}/{name}")).unwrap();
    }
}
