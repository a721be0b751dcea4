//! The suite against the reference.

use super::*;
use crate::blob_store::suite::{self, Harness};

struct MemoryHarness(MemoryBlobStore);

#[async_trait]
impl Harness for MemoryHarness {
    fn store(&self) -> Arc<dyn BlobStore> {
        Arc::new(self.0.clone())
    }

    async fn reopen(&mut self, quota_bytes: Option<u64>) {
        self.0.set_quota(quota_bytes);
    }

    fn flip_data(&self, key: &BlobKey, at: u64) {
        let mut state = self.0.lock();
        let content = state.blobs.get_mut(key).unwrap();
        let mut flipped = Content::clone(content);
        flipped.bytes[at as usize] ^= 1;
        *content = Arc::new(flipped);
    }

    fn flip_sums(&self, key: &BlobKey) {
        let mut other = GrowingSums::default();
        other.add(&vec![1; self.0.lock().blobs[key].bytes.len()]);
        other.close();
        *self.0.lock().blobs[key].sums() = other;
    }
}

#[tokio::test]
async fn memory_store_passes_the_suite() {
    suite::run(async || MemoryHarness(MemoryBlobStore::default())).await;
}
