//! openraft's log, on a [`LogIo`].
//!
//! Every change goes through one queue to one writer, which writes and syncs whole groups and answers in order. What is
//! queued is readable at once from the tail in memory, which also keeps recent entries, so that replication to
//! followers that keep up never touches the disk.

mod tail;
#[cfg(test)]
mod tests;
mod writer;

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use openraft::storage::{IOFlushed, LogState, RaftLogStorage};
use openraft::{OptionalSend, RaftLogReader};
use prost::Message;
use tokio::sync::{mpsc, oneshot, watch};

use crate::codec;
use crate::fatal::OnFatal;
use crate::log_disk::LogDisk;
use crate::log_io::LogIo;
use crate::runtime::Runtime;
use crate::types::{Entry, LogId, TypeConfig, Vote};
use tail::Tail;
pub use writer::{Driver, SyncDelay};
use writer::{Request, Writer};

/// Bytes of entries in one read for replication: a message stays far below the gRPC limit, and one slow follower
/// holds little memory.
const READ_BYTES_MAX: usize = 1 << 20;

/// Changes waiting for the writer. openraft awaits each vote and bounds its appends, so this only smooths bursts.
const QUEUE_LEN_MAX: usize = 4096;

/// The log of one node. Clones read the same log.
pub(crate) struct LogStore<IO> {
    shared: Arc<Shared<IO>>,
    queue: mpsc::Sender<Request>,
}

struct Shared<IO> {
    io: IO,
    tail: Mutex<Tail>,
    on_fatal: Arc<dyn OnFatal>,
    disk: LogDisk,
    // After `io`: whoever waits for the end learns of it when the disk is closed.
    _closed: watch::Sender<()>,
}

impl<IO> Clone for LogStore<IO> {
    fn clone(&self) -> Self {
        LogStore {
            shared: Arc::clone(&self.shared),
            queue: self.queue.clone(),
        }
    }
}

/// Waits until a store and everything that reads it is gone and its disk closed.
pub(crate) struct Closed(watch::Receiver<()>);

impl Closed {
    pub(crate) async fn wait(mut self) {
        while self.0.changed().await.is_ok() {}
    }
}

impl<IO: LogIo> LogStore<IO> {
    /// Reads what the disk holds and starts the writer.
    pub(crate) fn open(
        io: IO,
        driver: Driver,
        on_fatal: Arc<dyn OnFatal>,
        disk: LogDisk,
    ) -> io::Result<(Self, Closed)> {
        let tail = Tail::recover(io.recover()?)?;
        let (closed_tx, closed_rx) = watch::channel(());
        let shared = Arc::new(Shared {
            io,
            tail: Mutex::new(tail),
            on_fatal,
            disk,
            _closed: closed_tx,
        });
        let (queue, requests) = mpsc::channel(QUEUE_LEN_MAX);
        driver.start(Writer::new(Arc::clone(&shared), requests))?;
        Ok((LogStore { shared, queue }, Closed(closed_rx)))
    }

    async fn submit(&self, request: Request) -> io::Result<()> {
        self.queue
            .send(request)
            .await
            .map_err(|_| io::Error::other("the log writer has stopped"))
    }

    async fn read(&self, start: u64, end: u64, bytes_max: usize) -> io::Result<Vec<Entry>> {
        let (on_disk, mut in_memory) = self.shared.tail().slice(start, end, bytes_max);
        if on_disk.is_empty() {
            return Ok(in_memory);
        }
        let shared = Arc::clone(&self.shared);
        let mut entries = offload::<IO, _>(move || shared.read_disk(on_disk, bytes_max)).await?;
        // A part of bounded size ends where the disk's does: it may have been cut short, and is large enough.
        if bytes_max == usize::MAX || entries.is_empty() {
            entries.append(&mut in_memory);
        }
        Ok(entries)
    }
}

impl<IO: LogIo> Shared<IO> {
    fn tail(&self) -> MutexGuard<'_, Tail> {
        self.tail.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read_disk(&self, range: std::ops::Range<u64>, bytes_max: usize) -> io::Result<Vec<Entry>> {
        let decode = |(index, value): (u64, Bytes)| codec::entry_from_disk(index, value);
        let found = self.io.read(range, bytes_max)?;
        found
            .into_iter()
            .map(decode)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| {
                self.on_fatal.fatal(&format!("the log on disk is damaged: {error}"));
                io::Error::from(error)
            })
    }
}

/// Runs `work` where it may block, if this disk can.
async fn offload<IO: LogIo, T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    if !IO::BLOCKING {
        return work();
    }
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

fn log_id_record(log_id: &LogId) -> Bytes {
    codec::log_id_to_wire(log_id).encode_to_vec().into()
}

impl<RT: Runtime, IO: LogIo> RaftLogReader<TypeConfig<RT>> for LogStore<IO> {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> io::Result<Vec<Entry>> {
        let start = match range.start_bound() {
            Bound::Included(&start) => start,
            Bound::Excluded(&start) => start.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(&end) => end.saturating_add(1),
            Bound::Excluded(&end) => end,
            Bound::Unbounded => u64::MAX,
        };
        self.read(start, end, usize::MAX).await
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<Entry>> {
        self.read(start, end, READ_BYTES_MAX).await
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        Ok(self.shared.tail().vote)
    }
}

impl<RT: Runtime, IO: LogIo> RaftLogStorage<TypeConfig<RT>> for LogStore<IO> {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> io::Result<LogState<TypeConfig<RT>>> {
        let tail = self.shared.tail();
        Ok(LogState {
            last_purged_log_id: tail.purged,
            last_log_id: tail.last,
        })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        let (done, durable) = oneshot::channel();
        let record = codec::vote_to_wire(vote).encode_to_vec().into();
        self.shared.tail().vote = Some(*vote);
        self.submit(Request::Vote { record, done }).await?;
        durable
            .await
            .map_err(|_| io::Error::other("the log writer has stopped"))?
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> io::Result<()> {
        let Some(committed) = committed else { return Ok(()) };
        self.shared.tail().committed = Some(committed);
        self.submit(Request::Committed {
            record: log_id_record(&committed),
        })
        .await
    }

    async fn read_committed(&mut self) -> io::Result<Option<LogId>> {
        Ok(self.shared.tail().committed)
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig<RT>>) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let (sequence, entries) = self.shared.tail().append(entries);
        let done = Box::new(move |result| callback.io_completed(result));
        self.submit(Request::Append {
            sequence,
            entries,
            done,
        })
        .await
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> io::Result<()> {
        let removed = self.shared.tail().truncate_after(last);
        if removed.is_empty() {
            return Ok(());
        }
        self.submit(Request::Truncate(removed)).await
    }

    async fn purge(&mut self, upto: LogId) -> io::Result<()> {
        self.shared.tail().purge(upto);
        self.submit(Request::Purge {
            upto: upto.index,
            record: log_id_record(&upto),
        })
        .await
    }
}
