//! The disk under a simulated log: honest, or one that says it synced what it did not.

use std::io;
use std::ops::Range;

use bytes::Bytes;
use raft::MemoryLog;
use raft::log_io::{LogIo, LogOp, Recovered};

/// Whether a sync does what it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Honesty {
    /// What was synced survives.
    Honest,
    /// A sync does nothing: as if entries and votes were acknowledged before they are on disk. A run on such disks
    /// must be found out.
    AcknowledgesEarly,
}

/// A simulated log disk.
#[derive(Clone)]
pub(crate) struct SimulatedLog {
    pub(crate) memory: MemoryLog,
    pub(crate) honesty: Honesty,
}

impl LogIo for SimulatedLog {
    const BLOCKING: bool = false;

    fn recover(&self) -> io::Result<Recovered> {
        self.memory.recover()
    }

    fn write(&self, ops: &[LogOp]) -> io::Result<()> {
        self.memory.write(ops)
    }

    fn sync(&self) -> io::Result<()> {
        match self.honesty {
            Honesty::Honest => self.memory.sync(),
            Honesty::AcknowledgesEarly => Ok(()),
        }
    }

    fn read(&self, range: Range<u64>, bytes_max: usize) -> io::Result<Vec<(u64, Bytes)>> {
        self.memory.read(range, bytes_max)
    }
}
