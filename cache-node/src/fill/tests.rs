//! Stories of fills, on scripted sources and paused time.

mod faults;
mod kit;
mod properties;
mod unstored;

use std::time::Duration;

use futures::StreamExt;
use futures::future::join_all;

use self::kit::{Kit, Script, Step, read_all, read_until_error};
use super::flight::TAIL_BYTES;
use super::*;
use crate::blob_store::local::{LocalBlobStore, LocalOptions};
use crate::blob_store::memory::MemoryBlobStore;
use crate::blob_store::suite::{content, get, key_of, put};

const MIB: usize = 1 << 20;

#[tokio::test(start_paused = true)]
async fn sixty_four_readers_share_one_fetch() {
    let kit = Kit::new();
    let content = content(5 * MIB + 3);
    let script = Script::of(&content).send(MIB).sleep(1).send(3 * MIB).sleep(1).rest();
    let readers: Vec<_> = (0..64)
        .map(|_| kit.attach(&content, [script.clone()]).unwrap())
        .collect();
    for got in join_all(readers.into_iter().map(|reader| read_all(reader.read(0, None)))).await {
        assert!(got.unwrap() == content);
    }
    assert_eq!(kit.opens(), [("source-0".to_owned(), 0)]);
}

#[tokio::test(start_paused = true)]
async fn fill_goes_on_when_its_reader_hangs_up() {
    let kit = Kit::new();
    let content = content(3 * MIB);
    let script = Script::of(&content).send(MIB).sleep(5).rest();
    let mut stream = kit.attach(&content, [script]).unwrap().read(0, None);
    stream.next().await.unwrap().unwrap();
    drop(stream);
    let filled = kit.committed().await;
    assert_eq!(filled.blob.size_bytes, content.len() as u64);
    assert_eq!((filled.source.as_str(), filled.origin.as_str()), ("source-0", "origin"));
    let stored = get(&kit.store, &filled.blob.key, 0..content.len() as u64)
        .await
        .unwrap();
    assert!(stored == content);
}

#[tokio::test(start_paused = true)]
async fn what_is_announced_as_committed_is_answered_by_the_store_and_no_longer_in_flight() {
    let kit = Kit::new();
    let content = content(10);
    kit.attach(&content, [Script::of(&content).rest()]).unwrap();
    let filled = kit.committed().await;
    assert_eq!(
        kit.store.find(&filled.blob.key.digest).await.unwrap(),
        Some(filled.blob)
    );
    assert_eq!(kit.fills.status(), []);
    assert!(kit.fills.attach_in_flight(&Digest::sha256(&content)).is_none());
}

#[tokio::test(start_paused = true)]
async fn blob_stored_meanwhile_is_read_from_the_store() {
    let kit = Kit::new();
    let content = content(2 * MIB);
    put(&kit.store, &key_of(&content, 1), &content).await;
    let mut reader = kit.attach(&content, [Script::of(&content).rest()]).unwrap();
    assert_eq!(reader.size().await.unwrap(), Some(content.len() as u64));
    assert!(read_all(reader.read(5, None)).await.unwrap() == content[5..]);
    assert_eq!(kit.opens(), []);
}

#[tokio::test(start_paused = true)]
async fn late_reader_starts_at_its_offset_and_reads_what_memory_has_let_go() {
    let kit = Kit::new();
    let content = content(8 * MIB);
    let script = Script::of(&content).send(6 * MIB).sleep(10).rest();
    let first = kit.attach(&content, [script.clone()]).unwrap().read(0, None);
    let mut first = first.take(5);
    while first.next().await.is_some() {}
    let from_start = kit.attach(&content, [script.clone()]).unwrap().read(0, None);
    let from_offset = kit.attach(&content, [script]).unwrap().read(7 * MIB as u64, None);
    let (start, offset) = tokio::join!(read_all(from_start), read_all(from_offset));
    assert!(start.unwrap() == content);
    assert!(offset.unwrap() == content[7 * MIB..]);
    assert_eq!(kit.opens().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn bytes_are_given_as_they_arrive_but_for_the_tail() {
    let kit = Kit::new();
    let content = content(MIB);
    let script = Script::of(&content).send(1000).sleep(10).send(MIB - 1).sleep(10).rest();
    let started = tokio::time::Instant::now();
    let mut reader = kit.attach(&content, [script]).unwrap();
    assert_eq!(reader.first_byte().await.unwrap(), Some(MIB as u64));
    assert_eq!(started.elapsed(), Duration::ZERO);
    let mut stream = reader.read(0, None);
    let mut got = 0;
    while got < MIB {
        let bytes = stream.next().await.unwrap().unwrap();
        got += bytes.len();
        let expected_at = match got {
            0..=1000 => 0,
            _ if got as u64 <= MIB as u64 - TAIL_BYTES => 10,
            _ => 20,
        };
        assert_eq!(started.elapsed().as_secs(), expected_at, "{got} bytes");
    }
    assert!(stream.next().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_part_is_complete_only_when_the_whole_is_verified() {
    let kit = Kit::new();
    let content = content(2 * MIB);
    let script = Script::of(&content).send(MIB).sleep(10).rest();
    let started = tokio::time::Instant::now();
    let part = kit.attach(&content, [script]).unwrap().read(100, Some(2000));
    assert!(read_all(part).await.unwrap() == content[100..2000]);
    assert_eq!(started.elapsed().as_secs(), 10);
}

#[tokio::test(start_paused = true)]
async fn length_may_be_unknown_to_everyone() {
    for length in [0, 1, TAIL_BYTES as usize, 2 * MIB + 1] {
        let kit = Kit::new();
        let content = content(length);
        let script = Script::of(&content).total(None).rest();
        let mut reader = kit.attach_sized(&content, None, [script]).unwrap();
        reader.first_byte().await.unwrap();
        assert!(read_all(reader.read(0, None)).await.unwrap() == content);
        assert_eq!(kit.committed().await.blob.size_bytes, length as u64);
    }
}

#[tokio::test(start_paused = true)]
async fn a_start_beyond_the_end_is_an_error() {
    let kit = Kit::new();
    let content = content(100);
    let reader = kit.attach(&content, [Script::of(&content).rest()]).unwrap();
    let error = read_all(reader.read(101, None)).await.unwrap_err();
    assert!(matches!(error, FillError::OutOfRange { size_bytes: 100 }), "{error}");
    let reader = kit.attach(&content, [Script::of(&content).rest()]).unwrap();
    assert_eq!(read_all(reader.read(100, None)).await.unwrap(), b"");
}

#[tokio::test(start_paused = true)]
async fn status_tells_how_far_a_fill_is() {
    let kit = Kit::new();
    let content = content(MIB);
    let script = Script::of(&content).send(1000).sleep(60).rest();
    let mut reader = kit.attach(&content, [script]).unwrap();
    reader.first_byte().await.unwrap();
    let status = kit.fills.status();
    let expected = FillStatus {
        digest: Digest::sha256(&content),
        done_bytes: 1000,
        total_bytes: Some(MIB as u64),
        origin: "origin".into(),
        source: "source-0".into(),
        running_for: Duration::ZERO,
        n_readers: 1,
        storing: true,
    };
    assert_eq!(status, [expected]);
}

#[tokio::test(start_paused = true)]
async fn fills_in_flight_are_bounded() {
    let kit = Kit::with_limits(FillLimits {
        fills_max: 1,
        ..FillLimits::default()
    });
    let (one, two) = (content(10), content(11));
    let first = kit.attach(&one, [Script::of(&one).sleep(5).rest()]).unwrap();
    let refused = kit.attach(&two, [Script::of(&two).rest()]).err().unwrap();
    assert!(matches!(refused, FillError::Busy), "{refused}");
    assert!(kit.attach(&one, []).is_ok(), "attaching is not starting");
    read_all(first.read(0, None)).await.unwrap();
    kit.committed().await;
    kit.attach(&two, [Script::of(&two).rest()]).unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_stopping_process_finishes_for_readers_only() {
    let kit = Kit::new();
    let (read, unread) = (content(MIB), content(MIB + 1));
    let reader = kit.attach(&read, [Script::of(&read).sleep(5).rest()]).unwrap();
    kit.attach(&unread, [Script::of(&unread).sleep(5).rest()]).unwrap();
    let (stopped, got) = tokio::join!(kit.tasks.stop(Duration::from_secs(8)), read_all(reader.read(0, None)));
    assert_eq!(stopped, Ok(()));
    assert!(got.unwrap() == read);
    assert_eq!(kit.store.find(&Digest::sha256(&unread)).await.unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn a_panic_ends_the_fill_and_the_next_one_works() {
    let kit = Kit::new();
    let content = content(MIB);
    let script = Script::of(&content).send(1000).step(Step::Panic);
    let reader = kit.attach(&content, [script]).unwrap();
    let (_, error) = read_until_error(reader.read(0, None)).await;
    assert!(matches!(error, FillError::Stopped), "{error}");
    let reader = kit.attach(&content, [Script::of(&content).rest()]).unwrap();
    assert!(read_all(reader.read(0, None)).await.unwrap() == content);
}

#[tokio::test(start_paused = true)]
async fn a_fill_into_files_serves_early_late_and_later_readers() {
    let root = tempfile::TempDir::new().unwrap();
    let store = LocalBlobStore::open(root.path(), LocalOptions::default())
        .await
        .unwrap();
    let kit = Kit::over(
        Arc::new(store.clone()),
        MemoryBlobStore::default(),
        FillLimits::default(),
    );
    let content = content(9 * MIB + 5);
    let script = Script::of(&content).send(6 * MIB).sleep(10).rest();
    let early = kit.attach(&content, [script.clone()]).unwrap();
    let late = async {
        tokio::time::sleep(Duration::from_secs(5)).await;
        let late = kit.attach(&content, [script.clone()]).unwrap();
        read_all(late.read(1, None)).await
    };
    let (early, late) = tokio::join!(read_all(early.read(0, None)), late);
    assert!(early.unwrap() == content);
    assert!(late.unwrap() == content[1..]);
    let filled = kit.committed().await;
    let stored = get(&store, &filled.blob.key, 0..content.len() as u64).await.unwrap();
    assert!(stored == content);
    assert_eq!(kit.opens().len(), 1);
}
