//! What a connection's watchdog looks at: counters that the socket and the service keep, without a clock.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};

/// Counters of one connection. All of its users run in the connection's task; atomics only make it `Sync`.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    read_bytes: AtomicU64,
    written_bytes: AtomicU64,
    write_blocked: AtomicBool,
    busy: AtomicU32,
    had_request: AtomicBool,
    /// `read_bytes` when the last request began or ended: what is beyond belongs to the next request's head.
    mark: AtomicU64,
}

/// What a connection is doing, with a number that changes when it gets on with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Doing {
    /// Bytes wait for the client to take them.
    Writing { written_bytes: u64 },
    /// A request is being answered.
    Answering { written_bytes: u64 },
    /// Part of a request's head arrived. Further bytes are no progress: a head has one bound as a whole.
    ReadingHead { mark: u64 },
    /// Nothing since the last request.
    Idle { mark: u64 },
}

impl Progress {
    pub(crate) fn doing(&self) -> Doing {
        let written_bytes = self.written_bytes.load(Relaxed);
        let mark = self.mark.load(Relaxed);
        if self.write_blocked.load(Relaxed) {
            Doing::Writing { written_bytes }
        } else if self.busy.load(Relaxed) > 0 {
            Doing::Answering { written_bytes }
        } else if self.read_bytes.load(Relaxed) > mark {
            Doing::ReadingHead { mark }
        } else {
            Doing::Idle { mark }
        }
    }

    pub(crate) fn add_read(&self, n_bytes: usize) {
        self.read_bytes.fetch_add(n_bytes as u64, Relaxed);
    }

    pub(crate) fn add_written(&self, n_bytes: usize) {
        self.write_blocked.store(false, Relaxed);
        self.written_bytes.fetch_add(n_bytes as u64, Relaxed);
    }

    pub(crate) fn block_write(&self) {
        self.write_blocked.store(true, Relaxed);
    }

    /// Whether a request ever began.
    pub(crate) fn had_request(&self) -> bool {
        self.had_request.load(Relaxed)
    }

    /// What was read so far is no part of a request to come.
    pub(crate) fn set_mark(&self) {
        self.mark.store(self.read_bytes.load(Relaxed), Relaxed);
    }
}

/// Keeps a connection busy from a request's head to the end of its answer's body.
#[derive(Debug)]
pub(crate) struct Busy(Arc<Progress>);

impl Busy {
    pub(crate) fn new(progress: &Arc<Progress>) -> Self {
        progress.busy.fetch_add(1, Relaxed);
        progress.had_request.store(true, Relaxed);
        progress.set_mark();
        Self(Arc::clone(progress))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.set_mark();
        self.0.busy.fetch_sub(1, Relaxed);
    }
}
