//! A log disk in memory that forgets, on a crash, what was not synced.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use crate::log_io::{LogIo, LogOp, Recovered};

/// A log on a simulated disk. Clones share the disk, so it outlives the node that writes to it.
#[derive(Debug, Clone, Default)]
pub struct MemoryLog(Arc<Device>);

#[derive(Debug, Default)]
struct Device {
    disk: Mutex<Disk>,
    released: Condvar,
}

#[derive(Debug, Default)]
struct Disk {
    // What a reader sees, and what a crash leaves: the same but for the writes not synced yet.
    current: Image,
    durable: Image,
    unsynced: Vec<Vec<LogOp>>,
    fails: Option<io::ErrorKind>,
    hangs: bool,
}

#[derive(Debug, Clone, Default)]
struct Image {
    entries: BTreeMap<u64, Bytes>,
    vote: Option<Bytes>,
    committed: Option<Bytes>,
    purged: Option<Bytes>,
    purged_upto: Option<u64>,
}

impl Image {
    fn apply(&mut self, op: &LogOp) {
        match op {
            LogOp::Put { index, value } => drop(self.entries.insert(*index, value.clone())),
            LogOp::Truncate(range) => self.entries.retain(|index, _| !range.contains(index)),
            LogOp::Purge { upto, record } => {
                self.entries = self.entries.split_off(&(upto + 1));
                self.purged = Some(record.clone());
                self.purged_upto = self.purged_upto.max(Some(*upto));
            }
            LogOp::Vote(record) => self.vote = Some(record.clone()),
            LogOp::Committed(record) => self.committed = Some(record.clone()),
        }
    }
}

impl MemoryLog {
    /// An empty disk.
    pub fn new() -> Self {
        Self::default()
    }

    /// Number of writes a crash could lose now.
    pub fn unsynced_writes(&self) -> usize {
        self.disk().unsynced.len()
    }

    /// Whether entry `index` would survive a crash now, as what it is; a purged one does, in a snapshot.
    pub fn is_durable(&self, index: u64) -> bool {
        let disk = self.disk();
        let durable = disk.durable.entries.get(&index);
        // Purged entries lie in a snapshot that was durable before, whether or not the purge is yet.
        let is_purged = |image: &Image| image.purged_upto.is_some_and(|upto| index <= upto);
        is_purged(&disk.durable)
            || is_purged(&disk.current)
            || (durable.is_some() && durable == disk.current.entries.get(&index))
    }

    /// Loses power: of the writes not synced, only the first `survivors` are found afterwards.
    pub fn crash(&self, survivors: usize) {
        let mut disk = self.disk();
        let unsynced = std::mem::take(&mut disk.unsynced);
        for op in unsynced.iter().take(survivors).flatten() {
            disk.durable.apply(op);
        }
        disk.current = disk.durable.clone();
    }

    /// From now on every sync hangs, or no longer does. Not for a writer that runs as a task.
    pub fn hang(&self, hangs: bool) {
        self.disk().hangs = hangs;
        self.0.released.notify_all();
    }

    /// From now on every write and sync fails.
    pub fn fail(&self, kind: io::ErrorKind) {
        self.disk().fails = Some(kind);
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.0.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LogIo for MemoryLog {
    const BLOCKING: bool = false;

    fn recover(&self) -> io::Result<Recovered> {
        let disk = self.disk();
        Ok(Recovered {
            vote: disk.current.vote.clone(),
            committed: disk.current.committed.clone(),
            purged: disk.current.purged.clone(),
            last: disk
                .current
                .entries
                .last_key_value()
                .map(|(index, value)| (*index, value.clone())),
        })
    }

    fn write(&self, ops: &[LogOp]) -> io::Result<()> {
        let mut disk = self.disk();
        if let Some(kind) = disk.fails {
            return Err(kind.into());
        }
        ops.iter().for_each(|op| disk.current.apply(op));
        disk.unsynced.push(ops.to_vec());
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let waited = self.0.released.wait_while(self.disk(), |disk| disk.hangs);
        let mut disk = waited.unwrap_or_else(PoisonError::into_inner);
        if let Some(kind) = disk.fails {
            return Err(kind.into());
        }
        for op in std::mem::take(&mut disk.unsynced).iter().flatten() {
            disk.durable.apply(op);
        }
        Ok(())
    }

    fn read(&self, range: Range<u64>, bytes_max: usize) -> io::Result<Vec<(u64, Bytes)>> {
        let disk = self.disk();
        let mut bytes = 0;
        let mut found: Vec<(u64, Bytes)> = Vec::new();
        for (index, value) in disk.current.entries.range(range) {
            bytes += value.len();
            if bytes > bytes_max && !found.is_empty() {
                break;
            }
            found.push((*index, value.clone()));
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(index: u64) -> LogOp {
        let value = Bytes::from(index.to_string());
        LogOp::Put { index, value }
    }

    #[test]
    fn what_follows_a_purge_of_everything_is_durable_only_once_it_is_synced() {
        let log = MemoryLog::new();
        let record = Bytes::from_static(b"2");
        log.write(&[put(1), put(2), LogOp::Purge { upto: 2, record }]).unwrap();
        assert_eq!([1, 2, 3].map(|index| log.is_durable(index)), [true, true, false]);
        log.sync().unwrap();
        log.write(&[put(3)]).unwrap();
        assert_eq!(
            [1, 2, 3, 4].map(|index| log.is_durable(index)),
            [true, true, false, false]
        );
        log.sync().unwrap();
        assert_eq!([3, 4].map(|index| log.is_durable(index)), [true, false]);
    }
}
