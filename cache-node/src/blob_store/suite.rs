//! What every [`BlobStore`] must do. An adapter's tests call [`run`] with a harness that can hurt it.

use meta::Gen;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use oci::Digest;
use proptest::prelude::{Strategy, prop_oneof};
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, TestRunner};

use super::{BlobKey, BlobStat, BlobStore, CHUNK_BYTES, ReadError, WriteError};

const CHUNK: usize = CHUNK_BYTES as usize;

/// A store, and what a test may do to it behind its back.
#[async_trait::async_trait]
pub(crate) trait Harness: Send + Sync {
    /// The store, open.
    fn store(&self) -> Arc<dyn BlobStore>;
    /// The store as it is after a crash now: nothing was closed in order.
    async fn reopen(&mut self, quota_bytes: Option<u64>);
    /// Flips a bit of a committed blob.
    fn flip_data(&self, key: &BlobKey, at: u64);
    /// Flips a bit of its checksums.
    fn flip_sums(&self, key: &BlobKey);
}

/// Runs the whole suite, each part on a new store.
pub(crate) async fn run<H: Harness>(new: impl AsyncFn() -> H) {
    committed_blobs_are_visible_whole(&new().await).await;
    mismatch_keeps_nothing(new().await).await;
    unverifiable_digests_are_refused(&new().await).await;
    any_range_reads_its_bytes(&new().await).await;
    partial_blobs_are_read_while_written(&new().await).await;
    deleted_blobs_stay_readable_to_who_reads(&new().await).await;
    inventory_is_paged_in_order(&new().await).await;
    newest_generation_is_found(&new().await).await;
    flipped_data_never_leaves(&new().await).await;
    flipped_sums_are_noticed(new().await).await;
    crash_keeps_the_committed_and_nothing_else(new().await).await;
    full_store_says_so_and_keeps_nothing(new().await).await;
}

/// Bytes without a pattern, always the same for a length.
pub(crate) fn content(length: usize) -> Bytes {
    (0..length as u64)
        .map(|n| (n ^ (n >> 8) ^ (n >> 20) ^ 0x5a) as u8)
        .collect()
}

/// A key for content, with the given counter as generation.
pub(crate) fn key_of(content: &[u8], counter: u64) -> BlobKey {
    key(Digest::sha256(content), counter)
}

fn key(digest: Digest, counter: u64) -> BlobKey {
    let generation = Gen {
        epoch: 1,
        node: meta::NodeId::new(2),
        boot_count: 3,
        counter,
    };
    BlobKey { digest, generation }
}

/// Stores content, in pieces.
pub(crate) async fn put(store: &dyn BlobStore, key: &BlobKey, content: &Bytes) -> BlobStat {
    let size = content.len() as u64;
    let mut writer = store.begin_write(key, Some(size)).await.unwrap();
    for start in (0..content.len()).step_by(300_000) {
        let piece = content.slice(start..content.len().min(start + 300_000));
        let (head, tail) = piece.split_at(piece.len() / 3);
        let batch = vec![Bytes::copy_from_slice(head), Bytes::new(), Bytes::copy_from_slice(tail)];
        writer.append(batch).await.unwrap();
    }
    assert_eq!(writer.bytes_so_far(), size);
    writer.verify().unwrap().commit().await.unwrap()
}

/// Reads a range whole.
pub(crate) async fn get(store: &dyn BlobStore, key: &BlobKey, range: Range<u64>) -> Result<Vec<u8>, ReadError> {
    let reader = store.open(key).await?;
    let pieces: Vec<Bytes> = reader.read(range).try_collect().await?;
    assert!(pieces.iter().all(|piece| !piece.is_empty() && piece.len() <= CHUNK));
    Ok(pieces.concat())
}

async fn committed_blobs_are_visible_whole(harness: &impl Harness) {
    let store = harness.store();
    for length in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK + 17] {
        let content = content(length);
        let key = key_of(&content, length as u64);
        let size_bytes = length as u64;
        let mut writer = store.begin_write(&key, None).await.unwrap();
        writer.append(vec![content.clone()]).await.unwrap();
        assert_eq!(store.stat(&key).await.unwrap(), None, "visible before commit");
        assert!(matches!(store.open(&key).await.err(), Some(ReadError::NotFound(_))));
        let verified = writer.verify().unwrap();
        assert_eq!(store.find(&key.digest).await.unwrap(), None, "visible before commit");

        let stat = verified.commit().await.unwrap();
        let expected = BlobStat {
            key: key.clone(),
            size_bytes,
        };
        assert_eq!(stat, expected);
        assert_eq!(store.stat(&key).await.unwrap(), Some(expected));
        assert_eq!(get(&*store, &key, 0..size_bytes).await.unwrap(), content);
        assert_eq!(put(&*store, &key, &content).await, stat, "committing again succeeds");
    }
}

async fn mismatch_keeps_nothing(mut harness: impl Harness) {
    harness.reopen(Some(CHUNK_BYTES)).await;
    let store = harness.store();
    let key = key_of(b"what was promised", 1);
    let other = content(CHUNK);
    let mut writer = store.begin_write(&key, None).await.unwrap();
    writer.append(vec![other.clone()]).await.unwrap();
    assert_eq!(writer.verify().err().unwrap().expected, key.digest);
    assert_eq!(store.find(&key.digest).await.unwrap(), None);
    // The room it took is free again.
    put(&*store, &key_of(&other, 2), &other).await;
}

async fn unverifiable_digests_are_refused(harness: &impl Harness) {
    let key = key("blake3:abcdef".parse().unwrap(), 1);
    let refused = harness.store().begin_write(&key, None).await.err().unwrap();
    assert!(matches!(refused, WriteError::Unsupported(_)), "{refused}");
}

async fn any_range_reads_its_bytes(harness: &impl Harness) {
    let store = harness.store();
    let content = content(3 * CHUNK + 4321);
    let size = content.len() as u64;
    let key = key_of(&content, 1);
    put(&*store, &key, &content).await;
    let border = prop_oneof![
        0..=size,
        (0..4u64, 0..3u64).prop_map(|(n, d)| (n * CHUNK_BYTES + d).saturating_sub(1))
    ];
    let ranges = (border.clone(), border).prop_map(|(a, b)| a.min(b)..a.max(b));
    let mut runner = TestRunner::new(Config::with_cases(64));
    for _ in 0..64 {
        let range = ranges.new_tree(&mut runner).unwrap().current();
        let expected = &content[range.start as usize..range.end as usize];
        let got = get(&*store, &key, range.clone()).await.unwrap();
        assert!(got == expected, "range {range:?}");
    }
    let beyond = get(&*store, &key, 5..size + 1).await.unwrap_err();
    assert!(matches!(beyond, ReadError::OutOfRange { .. }), "{beyond}");
}

async fn partial_blobs_are_read_while_written(harness: &impl Harness) {
    let store = harness.store();
    let content = content(3 * CHUNK + 100);
    let key = key_of(&content, 1);
    let mut writer = store.begin_write(&key, None).await.unwrap();
    let partial = writer.partial();
    let mut from = 0;
    for to in [10, CHUNK - 1, 2 * CHUNK + 5, content.len()] {
        writer.append(vec![content.slice(from..to)]).await.unwrap();
        from = to;
        let whole_chunks = to / CHUNK * CHUNK;
        assert_eq!(partial.readable_bytes(), whole_chunks as u64);
        let readers = (0..4).map(|n| partial.read(n..(whole_chunks as u64).max(n)).try_collect::<Vec<_>>());
        if whole_chunks > 0 {
            for (n, got) in futures::future::join_all(readers).await.into_iter().enumerate() {
                assert!(got.unwrap().concat() == content[n..whole_chunks]);
            }
        }
    }
    let verified = writer.verify().unwrap();
    assert_eq!(partial.readable_bytes(), content.len() as u64);
    drop(verified);
    let after: Vec<Bytes> = partial.read(0..content.len() as u64).try_collect().await.unwrap();
    assert!(after.concat() == content, "readable after its writer is gone");
    assert_eq!(store.find(&key.digest).await.unwrap(), None);
}

async fn deleted_blobs_stay_readable_to_who_reads(harness: &impl Harness) {
    let store = harness.store();
    let content = content(4 * CHUNK);
    let key = key_of(&content, 1);
    put(&*store, &key, &content).await;
    let mut stream = store.open(&key).await.unwrap().read(0..content.len() as u64);
    let first = stream.next().await.unwrap().unwrap();
    assert!(store.delete(&key).await.unwrap());
    assert!(!store.delete(&key).await.unwrap());
    assert_eq!(store.find(&key.digest).await.unwrap(), None);
    let rest: Vec<Bytes> = stream.try_collect().await.unwrap();
    assert!([&first[..], &rest.concat()].concat() == content);
}

async fn inventory_is_paged_in_order(harness: &impl Harness) {
    let store = harness.store();
    let mut keys = Vec::new();
    for n in 0..5u8 {
        let content = Bytes::from(vec![n; 10]);
        keys.push(put(&*store, &key_of(&content, 1), &content).await.key);
    }
    keys.sort();
    let mut listed = Vec::new();
    loop {
        let page = store.list(listed.last(), 2).await.unwrap();
        if page.is_empty() {
            break;
        }
        assert!(page.len() <= 2);
        listed.extend(page.into_iter().map(|stat| stat.key));
    }
    assert_eq!(listed, keys);
}

async fn newest_generation_is_found(harness: &impl Harness) {
    let store = harness.store();
    let content = content(10);
    for counter in [2, 10, 9] {
        put(&*store, &key_of(&content, counter), &content).await;
    }
    let found = store.find(&Digest::sha256(&content)).await.unwrap().unwrap();
    assert_eq!(found.key.generation.counter, 10);
    store.delete(&found.key).await.unwrap();
    let found = store.find(&Digest::sha256(&content)).await.unwrap().unwrap();
    assert_eq!(found.key.generation.counter, 9);
}

async fn flipped_data_never_leaves(harness: &impl Harness) {
    let store = harness.store();
    let content = content(3 * CHUNK);
    let key = key_of(&content, 1);
    put(&*store, &key, &content).await;
    let reader = store.open(&key).await.unwrap();
    harness.flip_data(&key, CHUNK_BYTES + 7);
    let other_chunk: Vec<Bytes> = reader.read(0..CHUNK_BYTES).try_collect().await.unwrap();
    assert!(other_chunk.concat() == content[..CHUNK]);
    // Not even a byte of the same chunk that is right.
    let reader = store.open(&key).await.unwrap();
    let bad = reader.read(CHUNK_BYTES + 100..CHUNK_BYTES + 101).next().await.unwrap();
    assert!(matches!(bad, Err(ReadError::Corrupt { .. })), "{bad:?}");
    assert_eq!(store.find(&key.digest).await.unwrap(), None, "set aside");
    assert!(matches!(store.open(&key).await.err(), Some(ReadError::NotFound(_))));
}

async fn flipped_sums_are_noticed(mut harness: impl Harness) {
    let content = content(2 * CHUNK);
    let key = key_of(&content, 1);
    put(&*harness.store(), &key, &content).await;
    harness.flip_sums(&key);
    harness.reopen(None).await;
    let bad = get(&*harness.store(), &key, 0..1).await.unwrap_err();
    assert!(matches!(bad, ReadError::Corrupt { .. }), "{bad}");
    assert_eq!(harness.store().find(&key.digest).await.unwrap(), None, "set aside");
}

async fn crash_keeps_the_committed_and_nothing_else(mut harness: impl Harness) {
    let store = harness.store();
    let (kept, begun, verified) = (content(CHUNK + 5), content(CHUNK + 6), content(CHUNK + 7));
    put(&*store, &key_of(&kept, 1), &kept).await;
    let mut writer = store.begin_write(&key_of(&begun, 2), None).await.unwrap();
    writer.append(vec![begun.slice(..CHUNK)]).await.unwrap();
    let mut whole = store.begin_write(&key_of(&verified, 3), None).await.unwrap();
    whole.append(vec![verified.clone()]).await.unwrap();
    let whole = whole.verify().unwrap();
    std::mem::forget((writer, whole));
    drop(store);

    harness.reopen(None).await;
    let store = harness.store();
    let listed = store.list(None, 10).await.unwrap();
    assert_eq!(
        listed.into_iter().map(|stat| stat.key).collect::<Vec<_>>(),
        [key_of(&kept, 1)]
    );
    let got = get(&*store, &key_of(&kept, 1), 0..kept.len() as u64).await.unwrap();
    assert!(got == kept);
}

async fn full_store_says_so_and_keeps_nothing(mut harness: impl Harness) {
    harness.reopen(Some(2 * CHUNK_BYTES)).await;
    let store = harness.store();
    let (small, large) = (content(CHUNK), content(CHUNK + 1));
    put(&*store, &key_of(&small, 1), &small).await;

    let refused = store
        .begin_write(&key_of(&large, 2), Some(CHUNK_BYTES + 1))
        .await
        .err()
        .unwrap();
    assert!(
        matches!(
            refused,
            WriteError::NoSpace {
                free_bytes: CHUNK_BYTES,
                ..
            }
        ),
        "{refused}"
    );
    let mut writer = store.begin_write(&key_of(&large, 2), None).await.unwrap();
    let partial = writer.partial();
    writer.append(vec![large.slice(..CHUNK)]).await.unwrap();
    let full = writer.append(vec![large.slice(CHUNK..)]).await.unwrap_err();
    assert!(matches!(full, WriteError::NoSpace { .. }), "{full}");
    assert_eq!(
        writer.into_verifier().finish(),
        Ok(()),
        "its hash covers what was not stored"
    );
    let before: Vec<Bytes> = partial.read(0..CHUNK_BYTES).try_collect().await.unwrap();
    assert!(before.concat() == large[..CHUNK], "readers keep what was written");
    assert_eq!(store.find(&Digest::sha256(&large)).await.unwrap(), None);

    store.delete(&key_of(&small, 1)).await.unwrap();
    let two_chunks = content(2 * CHUNK);
    put(&*store, &key_of(&two_chunks, 3), &two_chunks).await;
}
