//! The log on RocksDB.

mod compactor;

use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use rocksdb::{ColumnFamily, DB, Direction, IteratorMode, ReadOptions, WriteBatch, WriteOptions};

use crate::db::{self, to_io};
use crate::log_io::{LogIo, LogOp, Recovered};
use compactor::Compactor;

const VOTE: &[u8] = b"vote";
const COMMITTED: &[u8] = b"committed";
const PURGED: &[u8] = b"purged";

/// A log database. Votes and entries share its write-ahead log, so their order on disk is that of their writes.
pub(crate) struct RocksLog {
    // Ends before the database closes.
    compactor: Compactor,
    db: Arc<DB>,
    /// Up to where entries are purged whose files are still there; 0 for none.
    purged: AtomicU64,
}

impl RocksLog {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let db = Arc::new(db::open_log(path)?);
        Ok(RocksLog {
            compactor: Compactor::start(Arc::clone(&db))?,
            db,
            purged: AtomicU64::new(0),
        })
    }

    fn entries(&self) -> io::Result<&ColumnFamily> {
        db::family(&self.db, db::ENTRIES)
    }

    fn hard(&self, key: &[u8]) -> io::Result<Option<Bytes>> {
        let value = self.db.get_cf(db::family(&self.db, db::HARD)?, key).map_err(to_io)?;
        Ok(value.map(Bytes::from))
    }

    /// Gives back the space of whole files of purged entries, which the range delete has hidden already. Only once that is
    /// on the disk: files go at once and for good, and a log that misses entries it does not know to be purged cannot be
    /// opened.
    fn drop_files(&self, upto: u64) -> io::Result<()> {
        let (first, end) = (0u64.to_be_bytes(), upto.to_be_bytes());
        self.db
            .delete_file_in_range_cf(self.entries()?, first, end)
            .map_err(to_io)
    }
}

fn index_of(key: &[u8]) -> io::Result<u64> {
    let key = key
        .try_into()
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "log key is not 8 bytes"))?;
    Ok(u64::from_be_bytes(key))
}

impl LogIo for RocksLog {
    const BLOCKING: bool = true;

    fn recover(&self) -> io::Result<Recovered> {
        let last = self
            .db
            .iterator_cf(self.entries()?, IteratorMode::End)
            .next()
            .transpose()
            .map_err(to_io)?;
        let last = last
            .map(|(key, value)| Ok::<_, io::Error>((index_of(&key)?, value.into_vec().into())))
            .transpose()?;
        Ok(Recovered {
            vote: self.hard(VOTE)?,
            committed: self.hard(COMMITTED)?,
            purged: self.hard(PURGED)?,
            last,
        })
    }

    fn write(&self, ops: &[LogOp]) -> io::Result<()> {
        let (entries, hard) = (self.entries()?, db::family(&self.db, db::HARD)?);
        let mut batch = WriteBatch::default();
        for op in ops {
            match op {
                LogOp::Put { index, value } => batch.put_cf(entries, index.to_be_bytes(), value),
                LogOp::Truncate(range) => {
                    batch.delete_range_cf(entries, range.start.to_be_bytes(), range.end.to_be_bytes())
                }
                LogOp::Purge { upto, record } => {
                    batch.put_cf(hard, PURGED, record);
                    batch.delete_range_cf(entries, 0u64.to_be_bytes(), (upto + 1).to_be_bytes());
                }
                LogOp::Vote(record) => batch.put_cf(hard, VOTE, record),
                LogOp::Committed(record) => batch.put_cf(hard, COMMITTED, record),
            }
        }
        self.db.write_opt(batch, &WriteOptions::default()).map_err(to_io)?;
        for op in ops {
            if let LogOp::Truncate(range) = op {
                self.compactor.add(range.clone());
            }
        }
        let purged = ops.iter().filter_map(|op| match op {
            LogOp::Purge { upto, .. } => Some(*upto),
            _ => None,
        });
        if let Some(upto) = purged.max() {
            self.purged.fetch_max(upto, Ordering::Relaxed);
        }
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        // One fsync for everything written so far, in this write-ahead log and those before it.
        self.db.flush_wal(true).map_err(to_io)?;
        match self.purged.swap(0, Ordering::Relaxed) {
            0 => Ok(()),
            upto => self.drop_files(upto),
        }
    }

    fn read(&self, range: Range<u64>, bytes_max: usize) -> io::Result<Vec<(u64, Bytes)>> {
        let start = range.start.to_be_bytes();
        let mut options = ReadOptions::default();
        options.set_iterate_upper_bound(range.end.to_be_bytes());
        let mode = IteratorMode::From(&start, Direction::Forward);
        let (mut found, mut bytes): (Vec<(u64, Bytes)>, _) = (Vec::new(), 0);
        for item in self.db.iterator_cf_opt(self.entries()?, options, mode) {
            let (key, value) = item.map_err(to_io)?;
            bytes += value.len();
            if bytes > bytes_max && !found.is_empty() {
                break;
            }
            found.push((index_of(&key)?, value.into_vec().into()));
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(index: u64, byte: u8) -> LogOp {
        LogOp::Put {
            index,
            value: vec![byte; 100].into(),
        }
    }

    #[test]
    fn what_was_written_is_there_after_reopening() {
        let temp = tempfile::tempdir().unwrap();
        let log = RocksLog::open(temp.path()).unwrap();
        log.write(&[put(1, 1), put(2, 2), put(3, 3), LogOp::Vote(b"v"[..].into())])
            .unwrap();
        log.write(&[
            LogOp::Truncate(3..4),
            LogOp::Purge {
                upto: 1,
                record: b"p"[..].into(),
            },
        ])
        .unwrap();
        log.sync().unwrap();
        drop(log);

        let log = RocksLog::open(temp.path()).unwrap();
        let found = log.recover().unwrap();
        assert_eq!(found.vote.as_deref(), Some(&b"v"[..]));
        assert_eq!(found.purged.as_deref(), Some(&b"p"[..]));
        assert_eq!(found.last, Some((2, vec![2; 100].into())));
        assert_eq!(log.read(0..9, usize::MAX).unwrap(), vec![(2, vec![2; 100].into())]);
    }

    #[test]
    fn a_read_stops_at_its_byte_limit_but_never_empty() {
        let temp = tempfile::tempdir().unwrap();
        let log = RocksLog::open(temp.path()).unwrap();
        log.write(&[put(1, 1), put(2, 2), put(3, 3)]).unwrap();
        assert_eq!(log.read(1..4, 250).unwrap().len(), 2);
        assert_eq!(log.read(1..4, 1).unwrap().len(), 1);
    }

    fn entries_in_files(log: &RocksLog) -> u64 {
        let files = log.db.live_files().unwrap();
        let files = files.iter().filter(|file| file.column_family_name == db::ENTRIES);
        files.map(|file| file.num_entries).sum()
    }

    #[test]
    fn truncated_entries_leave_the_files_and_what_came_after_them_stays() {
        let temp = tempfile::tempdir().unwrap();
        let log = RocksLog::open(temp.path()).unwrap();
        let all: Vec<_> = (1..1001).map(|index| put(index, 1)).collect();
        log.write(&all).unwrap();
        log.db.flush_cf(log.entries().unwrap()).unwrap();
        assert_eq!(entries_in_files(&log), 1000);

        log.write(&[LogOp::Truncate(501..1001), put(501, 2)]).unwrap();

        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
        while entries_in_files(&log) != 501 {
            assert!(
                std::time::Instant::now() < deadline,
                "{} entries",
                entries_in_files(&log)
            );
            std::thread::yield_now();
        }
        let found = log.read(500..1001, usize::MAX).unwrap();
        assert_eq!(found, vec![(500, vec![1; 100].into()), (501, vec![2; 100].into())]);
        drop(log);
        RocksLog::open(temp.path()).unwrap();
    }

    #[test]
    fn a_torn_end_is_forgiven() {
        let temp = tempfile::tempdir().unwrap();
        let log = RocksLog::open(temp.path()).unwrap();
        log.write(&[put(1, 1)]).unwrap();
        log.write(&[put(2, 2)]).unwrap();
        log.sync().unwrap();
        drop(log);
        let wal = files(temp.path(), "log").pop().unwrap();
        let length = std::fs::metadata(&wal).unwrap().len();
        std::fs::OpenOptions::new()
            .write(true)
            .open(&wal)
            .unwrap()
            .set_len(length - 7)
            .unwrap();

        let log = RocksLog::open(temp.path()).unwrap();
        assert_eq!(log.recover().unwrap().last, Some((1, vec![1; 100].into())));
    }

    fn files(path: &Path, extension: &str) -> Vec<std::path::PathBuf> {
        let entries = std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path());
        entries
            .filter(|path| path.extension().is_some_and(|found| found == extension))
            .collect()
    }

    #[test]
    fn a_power_cut_after_a_purge_leaves_all_of_the_log_or_all_but_what_was_purged() {
        let temp = tempfile::tempdir().unwrap();
        let log = RocksLog::open(temp.path()).unwrap();
        let all: Vec<LogOp> = (1..2000).map(|index| put(index, 1)).collect();
        log.write(&all).unwrap();
        log.db.flush_cf(log.entries().unwrap()).unwrap();
        log.db
            .compact_range_cf(log.entries().unwrap(), None::<&[u8]>, None::<&[u8]>);
        log.write(&[put(2000, 2), put(2001, 2)]).unwrap();
        log.sync().unwrap();
        let synced: std::collections::BTreeMap<_, _> = files(temp.path(), "log")
            .into_iter()
            .map(|path| {
                (
                    path.file_name().unwrap().to_owned(),
                    std::fs::metadata(&path).unwrap().len(),
                )
            })
            .collect();
        let record = b"p"[..].into();
        log.write(&[LogOp::Purge { upto: 2000, record }]).unwrap();

        let after_cut = tempfile::tempdir().unwrap();
        for entry in std::fs::read_dir(temp.path()).unwrap() {
            let (from, name) = entry.map(|entry| (entry.path(), entry.file_name())).unwrap();
            let to = after_cut.path().join(&name);
            std::fs::copy(from, &to).unwrap();
            if let Some(length) = synced.get(&name) {
                std::fs::OpenOptions::new()
                    .write(true)
                    .open(&to)
                    .unwrap()
                    .set_len(*length)
                    .unwrap();
            }
        }
        let cut = RocksLog::open(after_cut.path()).unwrap();
        assert_eq!(cut.recover().unwrap().purged, None);
        assert_eq!(cut.read(1..2002, usize::MAX).unwrap().len(), 2001);

        log.sync().unwrap();
        assert!(files(temp.path(), "sst").is_empty(), "the space is not given back");
        assert_eq!(log.read(1..2002, usize::MAX).unwrap().len(), 1);
    }

    #[test]
    fn damage_before_the_end_fails_the_open() {
        let temp = tempfile::tempdir().unwrap();
        let log = RocksLog::open(temp.path()).unwrap();
        for index in 1..50 {
            log.write(&[put(index, 1)]).unwrap();
        }
        log.sync().unwrap();
        drop(log);
        let wal = files(temp.path(), "log").pop().unwrap();
        let mut bytes = std::fs::read(&wal).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0xff;
        std::fs::write(&wal, bytes).unwrap();

        assert!(RocksLog::open(temp.path()).is_err());
    }
}
