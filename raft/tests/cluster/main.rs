//! Three nodes in one process, over loopback gRPC: formation, writes, failures, return.

#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "tests own their tasks, and fail by panic"
)]

mod disk;
mod harness;

use harness::{Disk, assert_same_state, layout_version, leader, places, short_log, start_all, write_layout};
use proto::v1 as pb;
use proto::v1::raft_client::RaftClient;
use raft::{FormationError, WriteError};
use tonic::Code;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_through_a_follower_is_seen_everywhere() {
    let mut places = places(3, Disk::memory).await;
    start_all(&mut places).await;
    let follower = (leader(&places).await + 1) % 3;

    let version = write_layout(places[follower].handle()).await;

    for place in &places {
        place.handle().linearizable().await.unwrap();
        assert_eq!(layout_version(place.handle()), version);
    }
    assert_same_state(&places).await;
    assert!(places.iter().all(|place| place.fatal.reasons().is_empty()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_go_on_when_the_leader_is_killed() {
    let mut places = places(3, Disk::memory).await;
    start_all(&mut places).await;
    let first = leader(&places).await;
    let before = write_layout(places[first].handle()).await;

    places[first].kill().await;

    let survivor = (first + 1) % 3;
    assert_eq!(write_layout(places[survivor].handle()).await, before + 1);
    places[first].start().await.unwrap();
    assert_same_state(&places).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leadership_is_given_away_on_request() {
    let mut places = places(3, Disk::memory).await;
    start_all(&mut places).await;
    let first = leader(&places).await;

    assert!(places[first].handle().hand_over().await);

    let second = leader(&places).await;
    assert_ne!(first, second);
    write_layout(places[first].handle()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_quorum_local_reads_go_on_and_writes_end_in_time() {
    let mut places = places(3, Disk::memory).await;
    places
        .iter_mut()
        .for_each(|place| place.config.limits.write_deadline = std::time::Duration::from_secs(3));
    start_all(&mut places).await;
    let version = write_layout(places[0].handle()).await;
    places[0].handle().linearizable().await.unwrap();
    places[1].kill().await;
    places[2].kill().await;

    places[0]
        .wait_until("quorum is lost", |status| !status.has_quorum)
        .await;

    assert_eq!(layout_version(places[0].handle()), version);
    let command = meta::Command::SetFeatureLevel(meta::SetFeatureLevel {
        level: meta::FeatureLevel::SUPPORTED,
    });
    assert!(matches!(
        places[0].handle().write(command).await,
        Err(WriteError::TimedOut)
    ));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_returns_and_reads_although_nobody_else_is_there() {
    let mut places = places(3, Disk::memory).await;
    start_all(&mut places).await;
    let version = write_layout(places[1].handle()).await;
    places[1].handle().linearizable().await.unwrap();
    for place in &mut places {
        place.kill().await;
    }

    tokio::time::timeout(harness::PATIENCE, places[1].start())
        .await
        .unwrap()
        .unwrap();

    assert_eq!(layout_version(places[1].handle()), version);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_far_behind_catches_up_from_a_snapshot() {
    far_behind(Disk::memory).await;
}

async fn far_behind(disk: impl Fn() -> Disk) {
    let mut places = places(3, disk).await;
    places.iter_mut().for_each(|place| place.config.retention = short_log());
    start_all(&mut places).await;
    let leader = leader(&places).await;
    let behind = (leader + 1) % 3;
    places[behind].kill().await;
    for _ in 0..100 {
        write_layout(places[leader].handle()).await;
    }
    let version = layout_version(places[leader].handle());

    places[behind].start().await.unwrap();

    places[behind].handle().linearizable().await.unwrap();
    assert_eq!(layout_version(places[behind].handle()), version);
    assert_same_state(&places).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_node_forms_a_cluster_of_one() {
    let mut places = places(1, Disk::memory).await;
    start_all(&mut places).await;
    assert_eq!(write_layout(places[0].handle()).await, 1);
    places[0].kill().await;
    places[0].start().await.unwrap();
    assert_eq!(write_layout(places[0].handle()).await, 2);
    assert_eq!(places[0].handle().boot_count(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_nodes_form_five_voters_and_do_without_any_two() {
    let mut places = places(5, Disk::memory).await;
    start_all(&mut places).await;
    for place in &places {
        place.wait_until("five voters", |status| status.voters.len() == 5).await;
    }
    let first = leader(&places).await;
    let before = write_layout(places[first].handle()).await;

    places[first].kill().await;
    places[(first + 1) % 5].kill().await;

    let survivor = (first + 2) % 5;
    assert_eq!(write_layout(places[survivor].handle()).await, before + 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_disk_comes_back_as_a_learner_with_a_new_id() {
    let mut places = places(3, Disk::memory).await;
    start_all(&mut places).await;
    let lost = (leader(&places).await + 1) % 3;
    let old = places[lost].handle().member().node;
    places[lost].kill().await;
    places[lost].disk = Disk::memory();

    places[lost].start().await.unwrap();

    let new = places[lost].handle().member().node;
    assert_ne!(old, new);
    places[lost]
        .wait_until("learner", |status| status.learners.contains(&new))
        .await;
    assert_same_state(&places).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_of_another_cluster_or_for_another_node_are_refused() {
    let mut places = places(1, Disk::memory).await;
    start_all(&mut places).await;
    let member = places[0].handle().member();
    let address = &places[0].config.addresses.grpc;
    let mut client = RaftClient::connect(format!("http://{address}")).await.unwrap();
    let vote = pb::Vote {
        term: 1_000,
        node_id: 9,
        committed: false,
    };
    for (cluster_id, to) in [("0".repeat(32), 1), (member.cluster.to_string(), 2)] {
        let route = Some(pb::Route {
            cluster_id,
            from: 9,
            to,
        });
        let request = pb::VoteRequest {
            route,
            vote: Some(vote),
            last_log_id: None,
            leadership_transfer: false,
        };
        let status = client.vote(request).await.unwrap_err();
        assert_eq!(status.code(), Code::FailedPrecondition, "{status}");
    }
    assert!(places[0].handle().status().borrow().term < 1_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn data_of_another_cluster_is_not_brought_in() {
    let mut one = places(1, Disk::memory).await;
    start_all(&mut one).await;
    let mut other = places(1, Disk::memory).await;
    start_all(&mut other).await;
    other[0].kill().await;
    let stranger = raft::Peer {
        ordinal: 1,
        address: one[0].config.addresses.grpc.clone(),
    };
    other[0].config.peers.push(stranger);

    let result = other[0].start().await;

    assert!(matches!(result, Err(FormationError::OtherCluster { .. })), "{result:?}");
}

#[cfg(feature = "rocksdb")]
mod on_disk {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_restart_of_all_keeps_everything() {
        let mut places = places(3, Disk::directory).await;
        start_all(&mut places).await;
        let version = write_layout(places[0].handle()).await;
        let member = places[1].handle().member();
        for place in &mut places {
            place.kill().await;
        }

        start_all(&mut places).await;

        assert_eq!(places[1].handle().member(), member);
        for place in &places {
            place.handle().linearizable().await.unwrap();
            assert_eq!(layout_version(place.handle()), version);
        }
        assert_same_state(&places).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn the_state_of_a_stopped_node_passes_its_check() {
        let mut places = places(1, Disk::directory).await;
        start_all(&mut places).await;
        write_layout(places[0].handle()).await;
        let Disk::Directory(directory) = places[0].disk.clone() else {
            unreachable!("made on disk");
        };
        assert!(raft::fsck(directory.path()).is_err(), "the node runs");
        let (index, _) = places[0].handle().state_hash();
        places[0].kill().await;

        let report = raft::fsck(directory.path()).unwrap();

        assert!(report.findings.is_empty(), "{report:?}");
        assert!(report.index >= index);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_node_far_behind_catches_up_from_a_snapshot() {
        far_behind(Disk::directory).await;
    }
}
