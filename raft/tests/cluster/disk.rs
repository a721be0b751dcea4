//! What becomes of leadership, and of writes, when disks are full or hang.

use std::time::Duration;

use raft::{LogRoom, MetaHandle, WriteError};

use super::harness::{
    Disk, Place, assert_same_state, layout_version, leader, places, short_log, start_all, write_layout,
};

/// A write of the kind that nodes make all the time.
async fn write(handle: &MetaHandle) -> Result<meta::Outcome, WriteError> {
    let level = meta::FeatureLevel::SUPPORTED;
    handle
        .write(meta::Command::SetFeatureLevel(meta::SetFeatureLevel { level }))
        .await
}

fn hangs(place: &Place, is: bool) {
    match &place.disk {
        Disk::Memory { log, .. } => log.hang(is),
        #[cfg(feature = "rocksdb")]
        Disk::Directory(_) => unreachable!("made in memory"),
    }
}

async fn wait_until_led_by_another_than(places: &[Place], first: usize) -> usize {
    let moved = async {
        loop {
            let now = leader(places).await;
            if now != first {
                return now;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), moved)
        .await
        .expect("another node leads")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_whose_disk_is_full_lets_another_lead() {
    let mut places = places(3, Disk::memory).await;
    start_all(&mut places).await;
    let first = leader(&places).await;

    places[first].health.set_room(LogRoom::Scarce);

    wait_until_led_by_another_than(&places, first).await;
    write_layout(places[first].handle()).await;
    assert_same_state(&places).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leadership_reaches_the_only_node_with_room() {
    let mut places = places(3, Disk::memory).await;
    start_all(&mut places).await;
    // Two others with logs as long as its own must not give leadership to each other only.
    let id = |at: &usize| places[*at].handle().status().borrow().node;
    let roomy = (0..3).min_by_key(id).unwrap();
    if leader(&places).await == roomy {
        assert!(places[roomy].handle().hand_over().await);
    }

    for at in (0..3).filter(|at| *at != roomy) {
        places[at].health.set_room(LogRoom::Scarce);
    }

    let reached = async {
        while leader(&places).await != roomy {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), reached)
        .await
        .expect("the node with room leads");
    write(places[roomy].handle()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_every_disk_full_writes_are_refused_at_once_and_reads_go_on() {
    let mut places = places(3, Disk::memory).await;
    start_all(&mut places).await;
    let version = write_layout(places[0].handle()).await;
    for place in &places {
        place.handle().linearizable().await.unwrap();
        place.health.set_room(LogRoom::Scarce);
    }

    for place in &places {
        // Sooner than the deadline of a write, which is far longer here.
        let refused = tokio::time::timeout(Duration::from_secs(20), write(place.handle()))
            .await
            .unwrap();
        assert!(matches!(refused, Err(WriteError::NoRoom)), "{refused:?}");
        assert_eq!(layout_version(place.handle()), version);
    }

    places.iter().for_each(|place| place.health.set_room(LogRoom::Enough));
    write(places[0].handle()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_without_any_room_takes_nothing_in_and_catches_up_later() {
    let mut places = places(3, Disk::memory).await;
    start_all(&mut places).await;
    let follower = (leader(&places).await + 1) % 3;
    assert_same_state(&places).await;
    places[follower].health.set_room(LogRoom::Exhausted);
    let before = places[follower].handle().status().borrow().last_log_index;

    let version = write_layout(places[follower].handle()).await;

    assert_eq!(places[follower].handle().status().borrow().last_log_index, before);
    assert!(layout_version(places[follower].handle()) < version);
    places[follower].health.set_room(LogRoom::Enough);
    assert_same_state(&places).await;
    assert_eq!(layout_version(places[follower].handle()), version);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_without_any_room_takes_no_snapshot_either() {
    let mut places = places(3, Disk::memory).await;
    places.iter_mut().for_each(|place| place.config.retention = short_log());
    start_all(&mut places).await;
    let leader = leader(&places).await;
    let follower = (leader + 1) % 3;
    assert_same_state(&places).await;
    let before = places[follower].handle().status().borrow().applied;
    places[follower].health.set_room(LogRoom::Exhausted);

    // So many that the leader has a snapshot of them, and no longer their entries.
    for _ in 0..100 {
        write_layout(places[leader].handle()).await;
    }

    let goes_on = places[follower].wait_until("it has applied more", |status| status.applied > before + 1);
    let waited = tokio::time::timeout(Duration::from_secs(3), goes_on).await;
    assert!(waited.is_err(), "a snapshot was taken in");
    places[follower].health.set_room(LogRoom::Enough);
    assert_same_state(&places).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_whose_log_hangs_lets_another_lead_and_comes_back() {
    let mut places = places(3, Disk::memory).await;
    start_all(&mut places).await;
    let first = leader(&places).await;

    hangs(&places[first], true);
    // Whatever it proposes, the log is busy from then on.
    let stuck = write(places[first].handle());
    let (second, _) = tokio::join!(
        wait_until_led_by_another_than(&places, first),
        tokio::time::timeout(Duration::from_secs(10), stuck)
    );
    let version = write_layout(places[second].handle()).await;
    hangs(&places[first], false);

    assert_same_state(&places).await;
    assert_eq!(layout_version(places[first].handle()), version);
    assert!(places.iter().all(|place| place.fatal.reasons().is_empty()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_nobody_could_replace_outlives_a_log_that_hangs() {
    for n in [1, 3] {
        let mut places = places(n, Disk::memory).await;
        start_all(&mut places).await;
        let first = leader(&places).await;
        let version = write_layout(places[first].handle()).await;
        for at in (0..places.len()).filter(|at| *at != first).skip(1) {
            places[at].kill().await;
        }

        hangs(&places[first], true);
        let longer_than_others_wait = Duration::from_secs(12);
        let stuck = tokio::time::timeout(longer_than_others_wait, write(places[first].handle()));
        assert!(stuck.await.is_err());

        assert!(places[first].fatal.reasons().is_empty(), "{n}");
        assert_eq!(layout_version(places[first].handle()), version);
        hangs(&places[first], false);
        write(places[first].handle()).await.unwrap();
    }
}
