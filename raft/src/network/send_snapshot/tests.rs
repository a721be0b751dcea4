//! Transfers between stores on disk that break off and are begun again.

use std::fs;
use std::path::{Path, PathBuf};

use meta::{Family, Mutation};
use prost::Message;

use super::*;
use crate::log_disk::LogDisk;
use crate::rocks_state::RocksState;
use crate::server::{kept, receive};
use crate::snapshot::Manifest;
use crate::state_machine::StateMachine;
use crate::state_store::StateStore;

type Receiver = StateMachine<RocksState>;

fn open(path: &Path) -> RocksState {
    RocksState::open(path.join("state"), path.join("snap")).unwrap()
}

fn receiver(path: &Path) -> Receiver {
    StateMachine::open(open(path), LogDisk::default()).unwrap()
}

/// Bytes that do not compress.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 1u64;
    let next = |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        state.to_be_bytes()[0]
    };
    (0..len).map(next).collect()
}

/// A snapshot of small files and one of several parts.
fn snapshot(store: &RocksState) -> Snapshot {
    let manifest = Manifest(pb::SnapshotManifest {
        last_log_id: Some(pb::LogId { term: 1, index: 9 }),
        membership: Some(pb::StoredMembership::default()),
        ..Default::default()
    });
    let mut mutations: Vec<_> = Family::ALL
        .iter()
        .map(|family| Mutation {
            family: *family,
            key: b"small".to_vec(),
            value: Some(b"value".to_vec()),
        })
        .collect();
    mutations.push(Mutation {
        family: Family::ALL[1],
        key: b"large".to_vec(),
        value: Some(noise(2 * PART_BYTES_MAX)),
    });
    let applied = manifest.applied().encode_to_vec();
    store.commit(mutations, applied.into()).unwrap();
    store.seal(store.checkpoint(manifest).unwrap()).unwrap()
}

/// Sends `snapshot` as a leader does, and breaks off after `parts_max` parts. Returns what came of it and the bytes sent.
async fn transfer(receiver: &Receiver, snapshot: &Snapshot, parts_max: usize) -> (Result<Snapshot, Status>, u64) {
    let manifest = (*snapshot.manifest).clone();
    let names = kept(receiver.clone(), manifest.clone()).await.unwrap();
    let header = pb::SnapshotHeader {
        kept: names.clone(),
        ..Default::default()
    };
    let progress = Arc::new(Progress::default());
    let sent = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&sent);
    let data = parts(header, snapshot.clone(), Arc::clone(&progress)).skip(1);
    let cut = stream::iter([Err(Status::unavailable("cut"))]);
    let cut = cut.filter(move |_| futures::future::ready(!progress.all_sent.load(Ordering::Relaxed)));
    let data = data.take(parts_max).inspect(move |part| {
        if let Some(pb::snapshot_part::Part::Data(data)) = &part.part {
            count.fetch_add(data.len() as u64, Ordering::Relaxed);
        }
    });
    let data = Box::pin(data.map(Ok).chain(cut));
    let result = receive(receiver.clone(), manifest, names.into_iter().collect(), data).await;
    (result, sent.load(Ordering::Relaxed))
}

fn size(snapshot: &Snapshot) -> u64 {
    snapshot.manifest.0.files.iter().map(|file| file.size_bytes).sum()
}

/// Bytes of the files that are whole after `sent` bytes, in the manifest's order.
fn whole_after(snapshot: &Snapshot, sent: u64) -> u64 {
    let ends = snapshot.manifest.0.files.iter().scan(0, |end, file| {
        *end += file.size_bytes;
        Some(*end)
    });
    ends.take_while(|end| *end <= sent).last().unwrap_or(0)
}

fn partial(path: &Path) -> PathBuf {
    let entries = fs::read_dir(path.join("snap")).unwrap();
    let mut paths = entries.map(|entry| entry.unwrap().path());
    paths
        .find(|path| path.extension().is_some_and(|extension| extension == "part"))
        .unwrap()
}

#[tokio::test]
async fn a_transfer_that_broke_off_sends_only_the_rest() {
    let temp = tempfile::tempdir().unwrap();
    let sender = open(&temp.path().join("sender"));
    let snapshot = snapshot(&sender);
    let everything = size(&snapshot);
    for cut in 0.. {
        let path = temp.path().join(cut.to_string());
        let mut target = receiver(&path);
        let (result, first) = transfer(&target, &snapshot, cut).await;
        if first == everything {
            assert!(cut > 10, "the snapshot has many parts");
            return;
        }
        assert!(result.is_err());
        if cut % 2 == 0 {
            drop(target);
            target = receiver(&path);
        }

        let (result, second) = transfer(&target, &snapshot, usize::MAX).await;

        target.store().install(&result.unwrap()).unwrap();
        assert_eq!(
            second,
            everything - whole_after(&snapshot, first),
            "cut after {cut} parts"
        );
        let read = |store: &RocksState| meta::StateHash::of(&store.latest()).unwrap();
        assert_eq!(read(target.store()), read(&sender));
        assert_eq!(
            fs::read_dir(path.join("snap")).unwrap().count(),
            1,
            "nothing else is left"
        );
    }
}

#[tokio::test]
async fn a_damaged_file_of_a_broken_transfer_is_sent_again() {
    let temp = tempfile::tempdir().unwrap();
    let snapshot = snapshot(&open(&temp.path().join("sender")));
    let path = temp.path().join("receiver");
    let target = receiver(&path);
    let (result, first) = transfer(&target, &snapshot, 8).await;
    assert!(result.is_err());
    let damaged = snapshot
        .manifest
        .0
        .files
        .iter()
        .find(|file| file.size_bytes > 0)
        .unwrap();
    let file = partial(&path).join(&damaged.name);
    let mut bytes = fs::read(&file).unwrap();
    bytes[0] ^= 1;
    fs::write(&file, bytes).unwrap();

    let (result, second) = transfer(&target, &snapshot, usize::MAX).await;

    let expected = size(&snapshot) - whole_after(&snapshot, first) + damaged.size_bytes;
    assert_eq!(second, expected);
    target.store().install(&result.unwrap()).unwrap();
}
