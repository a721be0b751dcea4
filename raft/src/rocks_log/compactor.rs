//! Gives back the space of truncated entries, beside the writer.
//!
//! Indexes are used again after a truncation, so files in the range may hold newer entries: they are compacted, which keeps
//! those, and never removed whole.

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use rocksdb::{CompactOptions, DB};

use crate::db;

/// Truncations follow changes of leadership. What does not fit waits for a compaction that RocksDB makes by itself.
const QUEUE_LEN: usize = 4;

/// A thread that compacts ranges of entries. Dropped, it ends after the range it is at.
pub(super) struct Compactor {
    ranges: Option<SyncSender<Range<u64>>>,
    stops: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Compactor {
    pub(super) fn start(db: Arc<DB>) -> io::Result<Self> {
        let (ranges, queue) = sync_channel(QUEUE_LEN);
        let stops = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&stops);
        let thread = std::thread::Builder::new()
            .name("raft-log-compact".to_owned())
            .spawn(move || run(&db, &queue, &seen))?;
        Ok(Compactor {
            ranges: Some(ranges),
            stops,
            thread: Some(thread),
        })
    }

    /// Has a range compacted some time. Never waits.
    pub(super) fn add(&self, range: Range<u64>) {
        if let Some(ranges) = &self.ranges {
            // A full queue is no failure: space is given back later.
            ranges.try_send(range).ok();
        }
    }
}

impl Drop for Compactor {
    fn drop(&mut self) {
        self.stops.store(true, Ordering::Relaxed);
        drop(self.ranges.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::warn!("the thread that compacts the log panicked");
        }
    }
}

fn run(db: &DB, queue: &Receiver<Range<u64>>, stops: &AtomicBool) {
    let mut options = CompactOptions::default();
    // Flushes and compactions that the writer depends on go on beside it.
    options.set_exclusive_manual_compaction(false);
    while let Ok(range) = queue.recv() {
        if stops.load(Ordering::Relaxed) {
            return;
        }
        let (start, end) = (range.start.to_be_bytes(), range.end.to_be_bytes());
        match db::family(db, db::ENTRIES) {
            Ok(entries) => db.compact_range_cf_opt(entries, Some(start), Some(end), &options),
            Err(error) => tracing::warn!(%error, "truncated entries keep their space for now"),
        }
    }
}
