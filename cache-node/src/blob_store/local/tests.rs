//! The suite against files, and what only files can do.

use std::fs;
use std::path::PathBuf;

use bytes::Bytes;
use tempfile::TempDir;

use super::*;
use crate::blob_store::suite::{self, Harness, content, get, key_of, put};
use crate::blob_store::{BlobStore, CHUNK_BYTES};

struct LocalHarness {
    root: TempDir,
    store: LocalBlobStore,
}

impl LocalHarness {
    async fn new() -> Self {
        let root = TempDir::new().unwrap();
        let store = open(root.path(), None).await;
        Self { root, store }
    }

    fn files(&self, directory: &str) -> Vec<PathBuf> {
        layout::entries(&self.root.path().join(directory)).unwrap()
    }
}

async fn open(root: &Path, quota_bytes: Option<u64>) -> LocalBlobStore {
    let options = LocalOptions {
        quota_bytes,
        reserve_bytes: Some(0),
        ..LocalOptions::default()
    };
    LocalBlobStore::open(root, options).await.unwrap()
}

fn flip(path: &Path, at: u64) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at as usize] ^= 1;
    // In place, as a disk would: readers have the file open.
    let file = fs::File::options().write(true).open(path).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &bytes[at as usize..=at as usize], at).unwrap();
}

#[async_trait]
impl Harness for LocalHarness {
    fn store(&self) -> Arc<dyn BlobStore> {
        Arc::new(self.store.clone())
    }

    async fn reopen(&mut self, quota_bytes: Option<u64>) {
        self.store = open(self.root.path(), quota_bytes).await;
    }

    fn flip_data(&self, key: &BlobKey, at: u64) {
        flip(&self.store.shared.layout.data(key), at);
    }

    fn flip_sums(&self, key: &BlobKey) {
        flip(&self.store.shared.layout.sums(key), 25);
    }
}

#[tokio::test]
async fn local_store_passes_the_suite() {
    suite::run(LocalHarness::new).await;
}

#[tokio::test]
async fn nothing_temporary_is_left_by_a_crash() {
    let mut harness = LocalHarness::new().await;
    let content = content(10);
    let writer = harness.store.begin_write(&key_of(&content, 1), None).await.unwrap();
    std::mem::forget(writer);
    assert_eq!(harness.files("tmp").len(), 1);
    harness.reopen(None).await;
    assert!(harness.files("tmp").is_empty());
}

#[tokio::test]
async fn data_without_checksums_is_set_aside_and_checksums_without_data_go() {
    let mut harness = LocalHarness::new().await;
    let (bare, orphan) = (content(10), content(11));
    for content in [&bare, &orphan] {
        put(&harness.store, &key_of(content, 1), content).await;
    }
    let layout = &harness.store.shared.layout;
    let orphaned_sums = layout.sums(&key_of(&orphan, 1));
    fs::remove_file(layout.sums(&key_of(&bare, 1))).unwrap();
    fs::remove_file(layout.data(&key_of(&orphan, 1))).unwrap();

    harness.reopen(None).await;
    assert_eq!(harness.store.list(None, 10).await.unwrap(), []);
    assert_eq!(harness.files("corrupt").len(), 1);
    assert!(!orphaned_sums.exists());
}

#[tokio::test]
async fn shortened_and_vanished_files_are_corrupt() {
    let harness = LocalHarness::new().await;
    let content = content(CHUNK_BYTES as usize + 5);
    let (cut, gone) = (key_of(&content, 1), key_of(&content, 2));
    for key in [&cut, &gone] {
        put(&harness.store, key, &content).await;
    }
    let layout = &harness.store.shared.layout;
    let file = fs::File::options().write(true).open(layout.data(&cut)).unwrap();
    file.set_len(CHUNK_BYTES).unwrap();
    fs::remove_file(layout.data(&gone)).unwrap();
    for key in [&cut, &gone] {
        let error = get(&harness.store, key, 0..1).await.unwrap_err();
        assert!(matches!(error, ReadError::Corrupt { .. }), "{error}");
    }
    assert_eq!(harness.store.list(None, 10).await.unwrap(), []);
}

#[tokio::test]
async fn only_a_few_corrupt_copies_are_kept() {
    let harness = LocalHarness::new().await;
    for n in 0..12u8 {
        let content = Bytes::from(vec![n; 8]);
        let key = key_of(&content, 1);
        put(&harness.store, &key, &content).await;
        harness.store.quarantine(&key, "test").await.unwrap();
    }
    assert_eq!(harness.files("corrupt").len(), 16);
}

#[tokio::test]
async fn readers_of_one_blob_share_a_descriptor_and_others_are_bounded() {
    let root = TempDir::new().unwrap();
    let options = LocalOptions {
        open_blobs_max: 1,
        ..LocalOptions::default()
    };
    let store = LocalBlobStore::open(root.path(), options).await.unwrap();
    let (one, two) = (content(10), content(11));
    for content in [&one, &two] {
        put(&store, &key_of(content, 1), content).await;
    }
    let first = store.open(&key_of(&one, 1)).await.unwrap();
    let second = store.open(&key_of(&one, 1)).await.unwrap();
    assert!(matches!(
        store.open(&key_of(&two, 1)).await.err(),
        Some(ReadError::Busy)
    ));
    let refused = store.begin_write(&key_of(&two, 2), None).await.err();
    assert!(matches!(refused, Some(WriteError::Busy)), "{refused:?}");
    drop((first, second));
    store.open(&key_of(&two, 1)).await.unwrap();
}

#[tokio::test]
async fn foreign_files_among_the_blobs_are_left_alone() {
    let mut harness = LocalHarness::new().await;
    let content = content(10);
    let key = key_of(&content, 1);
    put(&harness.store, &key, &content).await;
    let foreign = harness.store.shared.layout.data(&key).with_file_name("lost+found");
    fs::write(&foreign, "x").unwrap();
    harness.reopen(None).await;
    assert_eq!(harness.store.list(None, 10).await.unwrap().len(), 1);
    assert!(foreign.exists());
}
