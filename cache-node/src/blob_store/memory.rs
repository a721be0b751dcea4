//! Blobs in memory: the reference for the suite, and a store for tests. Forgets everything when it is dropped.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream;
use oci::{Digest, DigestMismatch, Verifier};

use super::checksum::{ChunkSum, GrowingSums};
use super::{
    BlobKey, BlobReader, BlobStat, BlobStore, BlobWriter, ByteStream, CHUNK_BYTES, ReadError, Space, StoreError,
    VerifiedBlob, WriteError,
};

/// A [`BlobStore`] without a disk. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct MemoryBlobStore {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    blobs: BTreeMap<BlobKey, Arc<Content>>,
    quota_bytes: Option<u64>,
}

/// Bytes with their checksums; grows while it is written.
#[derive(Clone, Debug, Default)]
struct Content {
    bytes: Vec<u8>,
    sums: Arc<Mutex<GrowingSums>>,
}

impl MemoryBlobStore {
    /// A store that is full at `quota_bytes`.
    pub fn with_quota(quota_bytes: u64) -> Self {
        let store = Self::default();
        store.set_quota(Some(quota_bytes));
        store
    }

    /// Changes when the store is full; what it holds stays.
    pub fn set_quota(&self, quota_bytes: Option<u64>) {
        self.lock().quota_bytes = quota_bytes;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn space(&self) -> Space {
        let total_bytes = self.quota_bytes.unwrap_or(u64::MAX);
        let used: u64 = self.blobs.values().map(|content| content.bytes.len() as u64).sum();
        Space {
            free_bytes: total_bytes.saturating_sub(used),
            total_bytes,
            refused_bytes: None,
        }
    }

    fn check_room(&self, bytes: u64) -> Result<(), WriteError> {
        let free_bytes = self.space().free_bytes;
        if bytes > free_bytes {
            let path = PathBuf::from("memory");
            return Err(WriteError::NoSpace { path, free_bytes });
        }
        Ok(())
    }
}

fn stat((key, content): (&BlobKey, &Arc<Content>)) -> BlobStat {
    BlobStat {
        key: key.clone(),
        size_bytes: content.bytes.len() as u64,
    }
}

#[async_trait]
impl BlobStore for MemoryBlobStore {
    async fn stat(&self, key: &BlobKey) -> Result<Option<BlobStat>, StoreError> {
        Ok(self.lock().blobs.get_key_value(key).map(stat))
    }

    async fn find(&self, digest: &Digest) -> Result<Option<BlobStat>, StoreError> {
        let state = self.lock();
        let mut of_digest = state.blobs.iter().filter(|(key, _)| key.digest == *digest);
        Ok(of_digest.next_back().map(stat))
    }

    async fn open(&self, key: &BlobKey) -> Result<Box<dyn BlobReader>, ReadError> {
        let content = self.lock().blobs.get(key).cloned();
        let content = content.ok_or_else(|| ReadError::NotFound(key.clone()))?;
        Ok(Box::new(MemoryReader {
            store: self.clone(),
            key: key.clone(),
            source: Source::Committed(content),
        }))
    }

    async fn begin_write(&self, key: &BlobKey, expected_bytes: Option<u64>) -> Result<Box<dyn BlobWriter>, WriteError> {
        let verifier = key.digest.verifier()?;
        self.lock().check_room(expected_bytes.unwrap_or(0))?;
        Ok(Box::new(MemoryWriter {
            store: self.clone(),
            key: key.clone(),
            content: Arc::default(),
            verifier,
        }))
    }

    async fn delete(&self, key: &BlobKey) -> Result<bool, StoreError> {
        Ok(self.lock().blobs.remove(key).is_some())
    }

    async fn list(&self, after: Option<&BlobKey>, limit: usize) -> Result<Vec<BlobStat>, StoreError> {
        let state = self.lock();
        let behind = state
            .blobs
            .iter()
            .filter(|(key, _)| after.is_none_or(|after| *key > after));
        Ok(behind.take(limit).map(stat).collect())
    }

    async fn quarantine(&self, key: &BlobKey, _reason: &str) -> Result<(), StoreError> {
        self.lock().blobs.remove(key);
        Ok(())
    }

    async fn space(&self) -> Result<Space, StoreError> {
        Ok(self.lock().space())
    }
}

struct MemoryReader {
    store: MemoryBlobStore,
    key: BlobKey,
    source: Source,
}

#[derive(Clone)]
enum Source {
    Committed(Arc<Content>),
    Growing(Arc<Mutex<Content>>),
}

impl Source {
    fn with<T>(&self, look: impl FnOnce(&Content) -> T) -> T {
        match self {
            Self::Committed(content) => look(content),
            Self::Growing(content) => look(&content.lock().unwrap_or_else(PoisonError::into_inner)),
        }
    }

    fn checked_chunk(&self, chunk: u64) -> Option<Bytes> {
        self.with(|content| {
            let sum: ChunkSum = content.sums().chunk(chunk)?;
            let start = usize::try_from(chunk * CHUNK_BYTES).ok()?;
            let bytes = content.bytes.get(start..start + sum.length)?;
            sum.holds(bytes).then(|| Bytes::copy_from_slice(bytes))
        })
    }
}

impl Content {
    fn sums(&self) -> MutexGuard<'_, GrowingSums> {
        self.sums.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl BlobReader for MemoryReader {
    fn readable_bytes(&self) -> u64 {
        self.source.with(|content| content.sums().readable_bytes())
    }

    fn read(&self, range: Range<u64>) -> ByteStream {
        let (key, readable_bytes) = (self.key.clone(), self.readable_bytes());
        if range.end > readable_bytes {
            return stream::iter([Err(ReadError::OutOfRange { key, readable_bytes })]).boxed();
        }
        if range.is_empty() {
            return stream::empty().boxed();
        }
        let (source, store) = (self.source.clone(), self.store.clone());
        let chunks = range.start / CHUNK_BYTES..range.end.div_ceil(CHUNK_BYTES);
        let read = move |chunk: u64| {
            let Some(bytes) = source.checked_chunk(chunk) else {
                store.lock().blobs.remove(&key);
                let reason = format!("checksum of chunk {chunk} differs");
                return Err(ReadError::Corrupt {
                    key: key.clone(),
                    reason,
                });
            };
            let within = |at: u64| (at.saturating_sub(chunk * CHUNK_BYTES) as usize).min(bytes.len());
            Ok(bytes.slice(within(range.start)..within(range.end)))
        };
        stream::iter(chunks.map(read)).boxed()
    }
}

struct MemoryWriter {
    store: MemoryBlobStore,
    key: BlobKey,
    content: Arc<Mutex<Content>>,
    verifier: Verifier,
}

impl MemoryWriter {
    fn content(&self) -> MutexGuard<'_, Content> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl BlobWriter for MemoryWriter {
    async fn append(&mut self, batch: Vec<Bytes>) -> Result<(), WriteError> {
        for bytes in &batch {
            self.verifier.update(bytes);
        }
        let more: u64 = batch.iter().map(|bytes| bytes.len() as u64).sum();
        self.store.lock().check_room(self.bytes_so_far() + more)?;
        let mut content = self.content();
        for bytes in &batch {
            content.bytes.extend_from_slice(bytes);
            content.sums().add(bytes);
        }
        Ok(())
    }

    fn bytes_so_far(&self) -> u64 {
        self.content().bytes.len() as u64
    }

    fn partial(&self) -> Arc<dyn BlobReader> {
        Arc::new(MemoryReader {
            store: self.store.clone(),
            key: self.key.clone(),
            source: Source::Growing(Arc::clone(&self.content)),
        })
    }

    fn verify(self: Box<Self>) -> Result<Box<dyn VerifiedBlob>, DigestMismatch> {
        self.verifier.clone().finish()?;
        self.content().sums().close();
        Ok(self)
    }

    fn into_verifier(self: Box<Self>) -> Verifier {
        self.verifier
    }
}

#[async_trait]
impl VerifiedBlob for MemoryWriter {
    async fn commit(self: Box<Self>) -> Result<BlobStat, WriteError> {
        let content = Arc::new(self.content().clone());
        let mut state = self.store.lock();
        state.check_room(content.bytes.len() as u64)?;
        let stat = stat((&self.key, &content));
        state.blobs.insert(self.key.clone(), content);
        Ok(stat)
    }
}

#[cfg(test)]
mod tests;
