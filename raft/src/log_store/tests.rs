//! What the log promises when the disk is slow, fails, lies about its content, or loses power.

use std::time::Duration;

use openraft::async_runtime::AsyncRuntime;
use openraft::async_runtime::oneshot::Oneshot;

use super::*;
use crate::fatal::Observed;
use crate::log_io::LogOp;
use crate::memory_log::MemoryLog;
use crate::runtime::Tokio;
use crate::types::{CommittedLeaderId, LeaderId, Payload, Proposal};

type Config = TypeConfig<Tokio>;
type Acknowledgement = tokio::sync::oneshot::Receiver<io::Result<()>>;

fn entry(term: u64, index: u64) -> Entry {
    let log_id = LogId {
        leader_id: CommittedLeaderId { term },
        index,
    };
    Entry {
        log_id,
        payload: Payload::Normal(Proposal(vec![term as u8; 100].into())),
    }
}

fn open(disk: &MemoryLog) -> (LogStore<MemoryLog>, Observed) {
    let observed = Observed::default();
    let driver = Driver::Task(Box::new(|| Duration::from_millis(10)));
    let (store, _closed) =
        LogStore::open(disk.clone(), driver, Arc::new(observed.clone()), LogDisk::default()).unwrap();
    (store, observed)
}

async fn append(store: &mut LogStore<MemoryLog>, entries: impl IntoIterator<Item = Entry> + Send) -> Acknowledgement {
    let (done, acknowledged) = <<Tokio as AsyncRuntime>::Oneshot as Oneshot>::channel();
    let entries: Vec<Entry> = entries.into_iter().collect();
    RaftLogStorage::<Config>::append(store, entries, IOFlushed::signal(done))
        .await
        .unwrap();
    acknowledged
}

async fn read(store: &mut LogStore<MemoryLog>) -> Vec<(u64, u64)> {
    let entries = RaftLogReader::<Config>::try_get_log_entries(store, ..).await.unwrap();
    entries
        .iter()
        .map(|entry| (entry.log_id.leader_id.term, entry.log_id.index))
        .collect()
}

async fn last(store: &mut LogStore<MemoryLog>) -> Option<u64> {
    RaftLogStorage::<Config>::get_log_state(store)
        .await
        .unwrap()
        .last_log_id
        .map(|last| last.index)
}

#[tokio::test(start_paused = true)]
async fn a_power_loss_takes_only_what_was_not_acknowledged() {
    let disk = MemoryLog::new();
    let (mut store, _) = open(&disk);
    append(&mut store, [entry(1, 0), entry(1, 1)])
        .await
        .await
        .unwrap()
        .unwrap();
    let pending = append(&mut store, [entry(1, 2)]).await;
    assert_eq!(read(&mut store).await, [(1, 0), (1, 1), (1, 2)]);
    while disk.unsynced_writes() == 0 {
        tokio::task::yield_now().await;
    }

    disk.crash(0);

    let (mut store, _) = open(&disk);
    assert_eq!(last(&mut store).await, Some(1));
    assert_eq!(read(&mut store).await, [(1, 0), (1, 1)]);
    drop(pending);
}

#[tokio::test(start_paused = true)]
async fn a_saved_vote_survives_a_power_loss() {
    let disk = MemoryLog::new();
    let (mut store, _) = open(&disk);
    let vote = Vote {
        leader_id: LeaderId { term: 3, voted_for: 2 },
        committed: false,
    };
    RaftLogStorage::<Config>::save_vote(&mut store, &vote).await.unwrap();

    disk.crash(0);

    let (mut store, _) = open(&disk);
    assert_eq!(
        RaftLogReader::<Config>::read_vote(&mut store).await.unwrap(),
        Some(vote)
    );
}

#[tokio::test(start_paused = true)]
async fn entries_that_replace_truncated_ones_are_read_before_and_after_they_are_written() {
    let disk = MemoryLog::new();
    let (mut store, _) = open(&disk);
    append(&mut store, [entry(1, 0), entry(1, 1), entry(1, 2)])
        .await
        .await
        .unwrap()
        .unwrap();
    RaftLogStorage::<Config>::truncate_after(&mut store, Some(entry(1, 0).log_id))
        .await
        .unwrap();
    assert_eq!(read(&mut store).await, [(1, 0)]);
    let pending = append(&mut store, [entry(2, 1)]).await;
    assert_eq!(read(&mut store).await, [(1, 0), (2, 1)]);
    pending.await.unwrap().unwrap();

    let (mut store, _) = open(&disk);
    assert_eq!(read(&mut store).await, [(1, 0), (2, 1)]);
}

#[tokio::test(start_paused = true)]
async fn after_a_failed_write_nothing_is_acknowledged_any_more() {
    let disk = MemoryLog::new();
    let (mut store, fatal) = open(&disk);
    disk.fail(io::ErrorKind::StorageFull);

    assert!(append(&mut store, [entry(1, 0)]).await.await.unwrap().is_err());

    assert_eq!(fatal.reasons().len(), 1);
    let vote = Vote {
        leader_id: LeaderId { term: 3, voted_for: 2 },
        committed: false,
    };
    assert!(RaftLogStorage::<Config>::save_vote(&mut store, &vote).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_damaged_entry_is_fatal_and_never_read() {
    let disk = MemoryLog::new();
    let (mut store, _) = open(&disk);
    append(&mut store, [entry(1, 0), entry(1, 1)])
        .await
        .await
        .unwrap()
        .unwrap();
    let mut damaged = codec::entry_to_disk(&entry(1, 0)).to_vec();
    damaged[20] ^= 1;
    disk.write(&[LogOp::Put {
        index: 0,
        value: damaged.into(),
    }])
    .unwrap();

    let (mut store, fatal) = open(&disk);

    let result = RaftLogReader::<Config>::try_get_log_entries(&mut store, 0..2).await;
    assert_eq!(result.unwrap_err().kind(), io::ErrorKind::InvalidData);
    assert_eq!(fatal.reasons().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn one_read_for_replication_stays_small_but_never_empty() {
    let disk = MemoryLog::new();
    let (mut store, _) = open(&disk);
    let large = |index| Entry {
        payload: Payload::Normal(Proposal(vec![0; READ_BYTES_MAX].into())),
        ..entry(1, index)
    };
    append(&mut store, (0..8).map(large)).await.await.unwrap().unwrap();

    for from in 0..8 {
        let entries = RaftLogReader::<Config>::limited_get_log_entries(&mut store, from, 8)
            .await
            .unwrap();
        assert_eq!(entries.len(), 1);
        assert_eq!(entries[0].log_id.index, from);
    }
}
