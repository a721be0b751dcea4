//! Port [`LogIo`]: what the log store needs from a disk.

use std::io;
use std::ops::Range;

use bytes::Bytes;

/// One change of the log on disk. Values are opaque to the adapter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogOp {
    /// Stores an entry.
    Put {
        /// Place in the log.
        index: u64,
        /// The encoded entry with its checksum.
        value: Bytes,
    },
    /// Removes the entries in the range, which end the log.
    Truncate(Range<u64>),
    /// Removes every entry up to and including `upto`, and records that it did.
    Purge {
        /// Last index to go.
        upto: u64,
        /// Encoded log id of that entry.
        record: Bytes,
    },
    /// Replaces the vote.
    Vote(Bytes),
    /// Replaces the committed log id.
    Committed(Bytes),
}

/// What a log on disk holds when it is opened.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Last vote.
    pub vote: Option<Bytes>,
    /// Last committed log id that reached the disk.
    pub committed: Option<Bytes>,
    /// Log id up to which entries were purged.
    pub purged: Option<Bytes>,
    /// The last entry.
    pub last: Option<(u64, Bytes)>,
}

/// A disk for the log.
///
/// An adapter must guarantee:
/// - [`write`](LogIo::write) applies its operations all or none, in order, and after every write before it. After a
///   crash, what is found is a prefix of the writes in the order they were made, never a later one without an earlier.
/// - When [`sync`](LogIo::sync) returns `Ok`, every write made before it was called survives a crash and power loss.
/// - [`read`](LogIo::read) sees every write that has returned, synced or not.
/// - After an error the adapter need not work any more: the caller never retries.
pub trait LogIo: Send + Sync + 'static {
    /// Whether calls may block on a device, and so must stay off the async threads.
    const BLOCKING: bool;

    /// What the log held when it was opened.
    fn recover(&self) -> io::Result<Recovered>;

    /// Hands `ops` to the disk without waiting for durability.
    fn write(&self, ops: &[LogOp]) -> io::Result<()>;

    /// Waits until all writes so far are durable.
    fn sync(&self) -> io::Result<()>;

    /// The entries of `range` that exist, in order, as many as fit into `bytes_max`, but at least the first.
    fn read(&self, range: Range<u64>, bytes_max: usize) -> io::Result<Vec<(u64, Bytes)>>;
}
