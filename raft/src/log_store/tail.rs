//! The end of the log in memory: what is not on disk yet, and the recent entries behind it.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;

use bytes::Bytes;
use proto::v1 as pb;

use crate::codec;
use crate::log_io::Recovered;
use crate::types::{Entry, LogId, Vote};

/// Written entries kept for readers. Followers that keep up read only the last few entries.
const KEPT_BYTES_MAX: usize = 4 << 20;

/// What the log store knows without asking the disk.
#[derive(Debug, Default)]
pub(super) struct Tail {
    pub(super) vote: Option<Vote>,
    pub(super) committed: Option<LogId>,
    pub(super) purged: Option<LogId>,
    pub(super) last: Option<LogId>,
    // A contiguous end of the log. What is not in here and not purged is on disk.
    entries: BTreeMap<u64, Kept>,
    bytes: usize,
    // Number of the last append; entries up to `written` have been handed to the disk.
    sequence: u64,
    written: u64,
}

#[derive(Debug)]
struct Kept {
    entry: Entry,
    bytes: usize,
    sequence: u64,
}

impl Tail {
    pub(super) fn recover(found: Recovered) -> io::Result<Tail> {
        let log_id = |record: Option<Bytes>, what| -> Result<Option<LogId>, codec::CodecError> {
            record
                .map(|bytes| codec::decode::<pb::LogId>(bytes, what).map(codec::log_id_from_wire))
                .transpose()
        };
        let vote = found
            .vote
            .map(|bytes| codec::decode::<pb::Vote>(bytes, "vote"))
            .transpose()?;
        let purged = log_id(found.purged, "purged log id")?;
        let last = found
            .last
            .map(|(index, value)| codec::entry_from_disk(index, value))
            .transpose()?;
        Ok(Tail {
            vote: vote.map(codec::vote_from_wire),
            committed: log_id(found.committed, "committed log id")?,
            purged,
            last: last.map(|entry| entry.log_id).max(purged),
            ..Tail::default()
        })
    }

    /// Takes entries in, and returns them encoded with the number of this append.
    pub(super) fn append(&mut self, entries: impl IntoIterator<Item = Entry>) -> (u64, Vec<(u64, Bytes)>) {
        self.sequence += 1;
        let mut encoded = Vec::new();
        for entry in entries {
            let index = entry.log_id.index;
            let value = codec::entry_to_disk(&entry);
            self.last = Some(entry.log_id);
            self.bytes += value.len();
            self.entries.insert(
                index,
                Kept {
                    entry,
                    bytes: value.len(),
                    sequence: self.sequence,
                },
            );
            encoded.push((index, value));
        }
        (self.sequence, encoded)
    }

    /// Notes that appends up to `sequence` can be read from the disk, and drops the oldest of those.
    pub(super) fn written(&mut self, sequence: u64) {
        self.written = self.written.max(sequence);
        while self.bytes > KEPT_BYTES_MAX {
            match self.entries.first_entry() {
                Some(first) if first.get().sequence <= self.written => self.bytes -= first.remove().bytes,
                _ => break,
            }
        }
    }

    /// Drops everything behind `last` and returns the range of indexes that are gone.
    pub(super) fn truncate_after(&mut self, last: Option<LogId>) -> Range<u64> {
        let from = last.map_or(0, |last| last.index + 1);
        let end = self.last.map_or(0, |last| last.index + 1);
        let removed = self.entries.split_off(&from);
        self.bytes -= removed.values().map(|kept| kept.bytes).sum::<usize>();
        if from < end {
            self.last = last;
        }
        from..end.max(from)
    }

    /// Drops everything up to and including `upto`.
    pub(super) fn purge(&mut self, upto: LogId) {
        let kept = self.entries.split_off(&(upto.index + 1));
        let removed = std::mem::replace(&mut self.entries, kept);
        self.bytes -= removed.values().map(|kept| kept.bytes).sum::<usize>();
        self.purged = self.purged.max(Some(upto));
        self.last = self.last.max(Some(upto));
    }

    /// Of `start..end`, what must be read from the disk, and the entries in memory behind that, up to `bytes_max`.
    /// There is at least one entry in what is returned if there is one in the range.
    pub(super) fn slice(&self, start: u64, end: u64, bytes_max: usize) -> (Range<u64>, Vec<Entry>) {
        let start = start.max(self.purged.map_or(0, |purged| purged.index + 1));
        let end = end.min(self.last.map_or(0, |last| last.index + 1));
        if start >= end {
            return (start..start, Vec::new());
        }
        let first_kept = self.entries.keys().next().copied().unwrap_or(u64::MAX);
        let on_disk = start..first_kept.clamp(start, end);
        let mut bytes = 0;
        let mut entries = Vec::new();
        for (_, kept) in self.entries.range(on_disk.end..end) {
            bytes += kept.bytes;
            if bytes > bytes_max && !entries.is_empty() {
                break;
            }
            entries.push(kept.entry.clone());
        }
        (on_disk, entries)
    }
}
