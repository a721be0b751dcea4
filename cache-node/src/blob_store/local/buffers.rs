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

/// A buffer on loan, and how much of it is used.
pub(super) struct Loan {
    pool: Arc<Buffers>,
    buffer: Box<[u8]>,
    length: usize,
}

impl Buffers {
    /// Lends a buffer of `length` bytes, at most one chunk. What is in it is old.
    pub(super) fn lend(self: &Arc<Self>, length: usize) -> Loan {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner).pop();
        Loan {
            pool: Arc::clone(self),
            buffer: kept.unwrap_or_else(|| vec![0; CHUNK_BYTES as usize].into_boxed_slice()),
            length,
        }
    }
}

impl Loan {
    /// Shares the bytes; the buffer comes back when the last share is dropped.
    pub(super) fn share(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Loan {
    fn as_ref(&self) -> &[u8] {
        &self.buffer[..self.length]
    }
}

impl AsMut<[u8]> for Loan {
    fn as_mut(&mut self) -> &mut [u8] {
        &mut self.buffer[..self.length]
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
