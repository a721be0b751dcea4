//! The leader's volume hangs: every write waits, and nothing fails.

#![allow(clippy::unwrap_used, reason = "a test ends where it fails")]

use std::time::Duration;

use sandbox::{Cluster, SourceRegistry, http, image, wait};
use tokio::time::Instant;

const HOST: &str = "registry.test";
const VOLUME_BYTES: u64 = 512 * 1024 * 1024;
/// Leadership moves after two seconds; the rest is for a busy machine.
const MOVES_WITHIN: Duration = Duration::from_secs(60);
/// A fill waits five seconds for a write, once.
const PULL_MAX: Duration = Duration::from_secs(60);

/// The place of the leader as `asked` knows it, once it is another than `not`.
fn leader_but(cluster: &Cluster, asked: usize, not: usize) -> usize {
    let place = |id| cluster.nodes().iter().position(|node| node.id == id);
    let leader = wait::until(MOVES_WITHIN, "another leader", || {
        let known = cluster.node_status(asked)?.leader;
        Ok(known.and_then(|id| place(Some(id))).filter(|leader| *leader != not))
    });
    leader.unwrap()
}

/// The node that leads, made to be one whose disk can hang.
fn leader_that_can_hang(cluster: &Cluster) -> usize {
    let leader = cluster.leader().unwrap();
    if leader != 0 {
        return leader;
    }
    cluster.pause(0).unwrap();
    let leader = leader_but(cluster, 1, 0);
    cluster.resume(0).unwrap();
    leader
}

fn is_ready(cluster: &Cluster, node: usize) -> bool {
    http::get(&format!("{}/readyz", cluster.nodes()[node].admin)).is_ok_and(|answer| answer.status == 200)
}

#[test]
fn pulls_go_on_and_another_node_leads_when_the_leaders_disk_hangs() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: only root can mount a volume and freeze it");
        return;
    }
    let source = SourceRegistry::start().unwrap();
    let builder = Cluster::builder().copies(3).upstream(HOST, &source.url());
    let cluster = (1..3).fold(builder, |builder, node| builder.freezable_disk(node, VOLUME_BYTES));
    let cluster = cluster.start().unwrap();
    let (cached, cold) = (format!("{HOST}/library/app:1"), format!("{HOST}/library/app:2"));
    let expected = [
        image::digests(&source.url(), "library/app:1"),
        image::digests(&source.url(), "library/app:2"),
    ];
    let [expected, expected_cold] = expected.map(Result::unwrap);
    image::digests(cluster.proxy_url(), &cached).unwrap();
    cluster.wait_complete(&cached).unwrap();
    let first = leader_that_can_hang(&cluster);

    cluster.freeze_disk(first, true).unwrap();
    let begun = Instant::now();
    assert_eq!(image::digests(cluster.proxy_url(), &cold).unwrap(), expected_cold);
    assert!(begun.elapsed() < PULL_MAX, "a cold pull took {:?}", begun.elapsed());
    let of_hung = &cluster.nodes()[first].url;
    assert_eq!(
        image::digests(of_hung, &cached).unwrap(),
        expected,
        "the hung node serves what it has"
    );
    let second = leader_but(&cluster, (first + 1) % 3, first);
    let said = wait::until(MOVES_WITHIN, "the hung node to say so", || {
        let reasons = cluster.node_status(first)?.degraded;
        let says = reasons.iter().any(|reason| reason.contains("hangs")) && !is_ready(&cluster, first);
        Ok(says.then_some(()))
    });
    cluster.freeze_disk(first, false).unwrap();
    assert_ne!(second, first);
    said.unwrap();

    cluster.wait_ready(first).unwrap();
    wait::until(PULL_MAX, "the new image to be kept", || {
        assert_eq!(image::digests(cluster.proxy_url(), &cold).unwrap(), expected_cold);
        Ok(cluster.is_complete(&cold)?.then_some(()))
    })
    .unwrap();
}
