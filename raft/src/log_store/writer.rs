//! The one writer of a log: takes groups of changes from the queue, writes, syncs, answers, in order.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use super::Shared;
use crate::log_io::{LogIo, LogOp};
use crate::metrics;

/// Changes that share one sync. A full group is large enough to make the sync's cost per change small.
const GROUP_LEN_MAX: usize = 512;

/// Bytes that share one sync, so that one group never keeps a vote waiting behind a long write.
const GROUP_BYTES_MAX: usize = 8 << 20;

pub(super) enum Request {
    Append {
        sequence: u64,
        entries: Vec<(u64, Bytes)>,
        done: Box<dyn FnOnce(io::Result<()>) + Send>,
    },
    Vote {
        record: Bytes,
        done: oneshot::Sender<io::Result<()>>,
    },
    Committed {
        record: Bytes,
    },
    Truncate(std::ops::Range<u64>),
    Purge {
        upto: u64,
        record: Bytes,
    },
}

impl Request {
    fn bytes(&self) -> usize {
        match self {
            Request::Append { entries, .. } => entries.iter().map(|(_, value)| value.len()).sum(),
            _ => 0,
        }
    }

    /// Whether someone acts on this only once it is durable. The others ride on the next sync.
    fn must_sync(&self) -> bool {
        matches!(self, Request::Append { .. } | Request::Vote { .. })
    }

    fn ops(&self, ops: &mut Vec<LogOp>) {
        match self {
            Request::Append { entries, .. } => ops.extend(entries.iter().map(|(index, value)| LogOp::Put {
                index: *index,
                value: value.clone(),
            })),
            Request::Vote { record, .. } => ops.push(LogOp::Vote(record.clone())),
            Request::Committed { record } => ops.push(LogOp::Committed(record.clone())),
            Request::Truncate(range) => ops.push(LogOp::Truncate(range.clone())),
            Request::Purge { upto, record } => ops.push(LogOp::Purge {
                upto: *upto,
                record: record.clone(),
            }),
        }
    }

    fn complete(self, result: io::Result<()>) {
        match self {
            Request::Append { done, .. } => done(result),
            // A caller that is gone needs no answer.
            Request::Vote { done, .. } => drop(done.send(result)),
            Request::Committed { .. } | Request::Truncate(_) | Request::Purge { .. } => {}
        }
    }
}

/// How long a sync takes in a simulation.
pub type SyncDelay = Box<dyn FnMut() -> Duration + Send>;

/// What runs the writer.
pub enum Driver {
    /// A thread of its own: a disk blocks.
    Thread,
    /// A task on the current runtime, where a sync takes the time the function says. For a simulated disk.
    Task(SyncDelay),
}

impl Driver {
    pub(super) fn start<IO: LogIo>(self, writer: Writer<IO>) -> io::Result<()> {
        match self {
            Driver::Thread => {
                std::thread::Builder::new()
                    .name("raft-log".to_owned())
                    .spawn(move || writer.run())?;
            }
            Driver::Task(delay) => {
                let task: Pin<Box<dyn Future<Output = ()> + Send>> = Box::pin(writer.run_simulated(delay));
                #[expect(clippy::disallowed_methods, reason = "ends with the last handle of its queue")]
                tokio::spawn(task);
            }
        }
        Ok(())
    }
}

pub(super) struct Writer<IO> {
    shared: Arc<Shared<IO>>,
    requests: mpsc::Receiver<Request>,
}

impl<IO: LogIo> Writer<IO> {
    pub(super) fn new(shared: Arc<Shared<IO>>, requests: mpsc::Receiver<Request>) -> Self {
        Writer { shared, requests }
    }

    fn run(mut self) {
        while let Some(first) = self.requests.blocking_recv() {
            let group = self.gather(first);
            let work = self.shared.disk.begin("write the log");
            let result = self
                .write(&group)
                .and_then(|must_sync| if must_sync { self.sync() } else { Ok(()) });
            drop(work);
            self.finish(group, result);
        }
    }

    async fn run_simulated(mut self, mut delay: SyncDelay) {
        while let Some(first) = self.requests.recv().await {
            let group = self.gather(first);
            let result = match self.write(&group) {
                Ok(true) => {
                    tokio::time::sleep(delay()).await;
                    self.shared.io.sync()
                }
                Ok(false) => Ok(()),
                Err(error) => Err(error),
            };
            self.finish(group, result);
        }
    }

    fn gather(&mut self, first: Request) -> Vec<Request> {
        let mut bytes = first.bytes();
        let mut group = vec![first];
        while group.len() < GROUP_LEN_MAX && bytes < GROUP_BYTES_MAX {
            let Ok(next) = self.requests.try_recv() else { break };
            bytes += next.bytes();
            group.push(next);
        }
        group
    }

    fn write(&self, group: &[Request]) -> io::Result<bool> {
        let mut ops = Vec::new();
        for request in group {
            request.ops(&mut ops);
        }
        self.shared.io.write(&ops)?;
        Ok(group.iter().any(Request::must_sync))
    }

    fn sync(&self) -> io::Result<()> {
        let timer = metrics::FsyncTimer::start();
        self.shared.io.sync()?;
        timer.stop();
        Ok(())
    }

    fn finish(&mut self, group: Vec<Request>, result: io::Result<()>) {
        if let Err(error) = &result {
            // From here on nobody knows what is durable, so nothing more is acknowledged.
            self.shared.on_fatal.fatal(&format!("write the log: {error}"));
            self.requests.close();
        }
        for request in group {
            let sequence = match &request {
                Request::Append { sequence, .. } => Some(*sequence),
                _ => None,
            };
            request.complete(
                result
                    .as_ref()
                    .map(|_| ())
                    .map_err(|error| io::Error::new(error.kind(), error.to_string())),
            );
            if let (Some(sequence), Ok(())) = (sequence, &result) {
                self.shared.tail().written(sequence);
            }
        }
        if result.is_err() {
            self.refuse_the_rest();
        }
    }

    fn refuse_the_rest(&mut self) {
        while let Ok(request) = self.requests.try_recv() {
            request.complete(Err(io::Error::other("the log failed before")));
        }
    }
}
