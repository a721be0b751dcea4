//! What readers and writers of one local store have in common. All of it blocks, but for the counters.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::sync::Semaphore;

use super::LocalOptions;
use super::budget::Budget;
use super::buffers::Buffers;
use super::index::Index;
use super::layout::{self, Layout};
use super::patience::Patience;
use super::reader::BlobFile;
use crate::blob_store::{BlobKey, StoreError};

/// Bad copies kept for whoever investigates; two files each.
const CORRUPT_KEPT_MAX: usize = 8;

/// One store's state.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) layout: Layout,
    pub(super) index: Index,
    pub(super) budget: Arc<Budget>,
    pub(super) buffers: Arc<Buffers>,
    pub(super) descriptors: Arc<Semaphore>,
    pub(super) reads: Arc<Patience>,
    pub(super) writes: Arc<Patience>,
    open: Mutex<HashMap<BlobKey, Weak<BlobFile>>>,
    n_temporary: AtomicU64,
}

impl Shared {
    pub(super) fn open(root: &Path, options: LocalOptions) -> Result<Self, StoreError> {
        let layout = Layout::create(root)?;
        let found = layout.scan()?;
        let index = Index::new(found.whole);
        options.usage.set_blobs(index.count(), index.bytes());
        let shared = Self {
            budget: Arc::new(Budget::new(&options, index.bytes())),
            layout,
            index,
            buffers: Arc::default(),
            descriptors: Arc::new(Semaphore::new(options.open_blobs_max)),
            reads: Arc::default(),
            writes: Arc::default(),
            open: Mutex::default(),
            n_temporary: AtomicU64::new(0),
        };
        for key in found.bare {
            shared.set_aside(&key, "its checksum file is missing")?;
        }
        Ok(shared)
    }

    /// A name in `tmp/` that nothing has had since the store was opened.
    pub(super) fn temporary_name(&self) -> String {
        self.n_temporary.fetch_add(1, Ordering::Relaxed).to_string()
    }

    /// The file of a blob someone is reading already, so that many readers share a descriptor.
    pub(super) fn already_open(&self, key: &BlobKey) -> Option<Arc<BlobFile>> {
        self.lock_open().get(key)?.upgrade()
    }

    /// Shares a file just opened; if someone else was quicker, theirs.
    pub(super) fn share_open(&self, key: &BlobKey, file: BlobFile) -> Arc<BlobFile> {
        let mut open = self.lock_open();
        if let Some(theirs) = open.get(key).and_then(Weak::upgrade) {
            return theirs;
        }
        open.retain(|_, file| file.strong_count() > 0);
        let file = Arc::new(file);
        open.insert(key.clone(), Arc::downgrade(&file));
        file
    }

    pub(super) fn delete(&self, key: &BlobKey) -> Result<bool, StoreError> {
        let Some(size_bytes) = self.index.remove(key) else {
            return Ok(false);
        };
        self.budget.release(size_bytes);
        layout::remove(&self.layout.data(key))?;
        layout::remove(&self.layout.sums(key))?;
        Ok(true)
    }

    pub(super) fn set_aside(&self, key: &BlobKey, reason: &str) -> Result<(), StoreError> {
        if let Some(size_bytes) = self.index.remove(key) {
            self.budget.release(size_bytes);
        }
        tracing::warn!(blob = %key, reason, "blob set aside");
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let name = format!("{:015}-{}", since_epoch.as_millis(), layout::file_name(key));
        let aside = self.layout.corrupt().join(name);
        rename(&self.layout.data(key), &aside.with_added_extension("data"))?;
        rename(&self.layout.sums(key), &aside.with_added_extension("sums"))?;
        self.prune_corrupt()
    }

    fn prune_corrupt(&self) -> Result<(), StoreError> {
        let files = layout::entries(self.layout.corrupt())?;
        let surplus = files.len().saturating_sub(2 * CORRUPT_KEPT_MAX);
        files[..surplus].iter().try_for_each(|path| layout::remove(path))
    }

    fn lock_open(&self) -> MutexGuard<'_, HashMap<BlobKey, Weak<BlobFile>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs file IO away from the async workers.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)
}

fn rename(from: &Path, to: &Path) -> Result<(), StoreError> {
    match fs::rename(from, to) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(StoreError::new("set aside", from, error)),
        _ => Ok(()),
    }
}
