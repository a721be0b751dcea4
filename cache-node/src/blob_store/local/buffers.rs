//! Buffers of one chunk that are used again: allocating and zeroing them costs as much as filling them.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use crate::blob_store::CHUNK_BYTES;

/// Buffers kept while nobody uses them. More readers than that at once allocate.
const KEPT_MAX: usize = 8;

/// Hands out chunk-sized buffers and takes them back.
#[derive(Debug, Default)]
pub(super) struct Buffers {
    kept: Mutex<Vec<Box<[u8]>>>,
}

/// A buffer on loan.
struct Loan {
    pool: Arc<Buffers>,
    buffer: Box<[u8]>,
    length: usize,
}

impl Buffers {
    /// Fills a buffer's first `length` bytes and shares them; the buffer comes back when the last share is dropped.
    pub(super) fn fill<E>(
        self: &Arc<Self>,
        length: usize,
        fill: impl FnOnce(&mut [u8]) -> Result<(), E>,
    ) -> Result<Bytes, E> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut loan = Loan {
            pool: Arc::clone(self),
            buffer: kept.unwrap_or_else(|| vec![0; CHUNK_BYTES as usize].into_boxed_slice()),
            length,
        };
        fill(&mut loan.buffer[..length])?;
        Ok(Bytes::from_owner(loan))
    }
}

impl AsRef<[u8]> for Loan {
    fn as_ref(&self) -> &[u8] {
        &self.buffer[..self.length]
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        let mut kept = self.pool.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < KEPT_MAX {
            kept.push(std::mem::take(&mut self.buffer));
        }
    }
}
