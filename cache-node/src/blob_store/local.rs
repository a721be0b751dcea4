//! Blobs as files of one volume.
//!
//! Under the root: `blobs/<algorithm>/<ab>/<hex>.<generation>` with its checksums beside it as `….sums`, `tmp/` for
//! what is being written (emptied at open), `corrupt/` for the last few copies that failed a check.
//! Which blobs there are is kept in memory, about 200 bytes each, and read from the directory at open.
//! The caller makes sure that one process at a time uses the root.

mod budget;
mod buffers;
mod index;
mod layout;
mod patience;
mod reader;
mod refusals;
mod shared;
mod writer;

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use oci::Digest;

use self::reader::OpenBlob;
use self::shared::{Shared, blocking};
use self::writer::LocalWriter;
use super::{BlobKey, BlobReader, BlobStat, BlobStore, BlobWriter, ReadError, Space, StoreError, WriteError};
use crate::disk::Usage;

/// Bounds of a [`LocalBlobStore`].
#[derive(Clone, Debug)]
pub struct LocalOptions {
    /// Most bytes of blobs to hold, those being written included. `None` leaves it to the volume.
    pub quota_bytes: Option<u64>,
    /// Bytes of the volume left alone, for the metadata that shares it. `None` takes what [`crate::disk::Marks`] says.
    pub reserve_bytes: Option<u64>,
    /// What the data directory takes, blobs and all else; the store counts its blobs there.
    pub usage: Usage,
    /// Blobs open at once, read or written; each takes one file descriptor.
    pub open_blobs_max: usize,
}

impl Default for LocalOptions {
    fn default() -> Self {
        Self {
            quota_bytes: None,
            reserve_bytes: None,
            usage: Usage::default(),
            // Half of the 1024 descriptors that a process gets where nobody raised the limit.
            open_blobs_max: 512,
        }
    }
}

/// A [`BlobStore`] of local files. Cheap to clone.
#[derive(Clone, Debug)]
pub struct LocalBlobStore {
    shared: Arc<Shared>,
}

impl LocalBlobStore {
    /// Opens or creates the store under `root` and removes what a crash left half written.
    ///
    /// # Errors
    /// [`StoreError`] naming the directory that cannot be read or written.
    pub async fn open(root: impl AsRef<Path>, options: LocalOptions) -> Result<Self, StoreError> {
        let root = root.as_ref().to_owned();
        let at = root.clone();
        let shared = blocking(move || Shared::open(&root, options))
            .await
            .unwrap_or_else(|error| Err(StoreError::new("open", &at, error)))?;
        Ok(Self {
            shared: Arc::new(shared),
        })
    }

    async fn on_files<T: Send + 'static>(
        &self,
        action: &'static str,
        work: impl FnOnce(&Arc<Shared>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let shared = Arc::clone(&self.shared);
        blocking(move || work(&shared))
            .await
            .unwrap_or_else(|error| Err(StoreError::new(action, self.shared.layout.root(), error)))
    }
}

#[async_trait]
impl BlobStore for LocalBlobStore {
    async fn stat(&self, key: &BlobKey) -> Result<Option<BlobStat>, StoreError> {
        Ok(self.shared.index.get(key))
    }

    async fn find(&self, digest: &Digest) -> Result<Option<BlobStat>, StoreError> {
        Ok(self.shared.index.newest(digest))
    }

    async fn open(&self, key: &BlobKey) -> Result<Box<dyn BlobReader>, ReadError> {
        Ok(Box::new(OpenBlob::open(&self.shared, key).await?))
    }

    async fn begin_write(&self, key: &BlobKey, expected_bytes: Option<u64>) -> Result<Box<dyn BlobWriter>, WriteError> {
        Ok(Box::new(LocalWriter::begin(&self.shared, key, expected_bytes).await?))
    }

    async fn delete(&self, key: &BlobKey) -> Result<bool, StoreError> {
        let key = key.clone();
        self.on_files("delete in", move |shared| shared.delete(&key)).await
    }

    async fn list(&self, after: Option<&BlobKey>, limit: usize) -> Result<Vec<BlobStat>, StoreError> {
        Ok(self.shared.index.page(after, limit))
    }

    async fn quarantine(&self, key: &BlobKey, reason: &str) -> Result<(), StoreError> {
        let (key, reason) = (key.clone(), reason.to_owned());
        self.on_files("quarantine in", move |shared| shared.set_aside(&key, &reason))
            .await
    }

    async fn space(&self) -> Result<Space, StoreError> {
        let (shared, at) = (Arc::clone(&self.shared), self.shared.layout.root());
        let measured = move || shared.budget.space(shared.layout.root());
        let measured = self.shared.writes.run(patience::STEP, measured).await;
        measured.unwrap_or_else(|error| Err(StoreError::new("measure", at, error)))
    }

    async fn has_room(&self, bytes: u64) -> Result<bool, StoreError> {
        let has_room = self.space().await?.free_bytes >= bytes;
        if !has_room {
            self.shared.budget.note_refusal(bytes);
        }
        Ok(has_room)
    }
}

#[cfg(test)]
mod tests;
