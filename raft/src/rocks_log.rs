//! The log on RocksDB.

use std::io;
use std::ops::Range;
use std::path::Path;

use bytes::Bytes;
use rocksdb::{ColumnFamily, DB, Direction, IteratorMode, ReadOptions, WriteBatch, WriteOptions};

use crate::db::{self, to_io};
use crate::log_io::{LogIo, LogOp, Recovered};

const VOTE: &[u8] = b"vote";
const COMMITTED: &[u8] = b"committed";
const PURGED: &[u8] = b"purged";

/// A log database. Votes and entries share its write-ahead log, so their order on disk is that of their writes.
pub(crate) struct RocksLog {
    db: DB,
}

impl RocksLog {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        Ok(RocksLog {
            db: db::open_log(path)?,
        })
    }

    fn entries(&self) -> io::Result<&ColumnFamily> {
        db::family(&self.db, db::ENTRIES)
    }

    fn hard(&self, key: &[u8]) -> io::Result<Option<Bytes>> {
        let value = self.db.get_cf(db::family(&self.db, db::HARD)?, key).map_err(to_io)?;
        Ok(value.map(Bytes::from))
    }

    /// Gives back the space of whole files of purged entries. The range delete has hidden them already.
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
        let purged = ops.iter().filter_map(|op| match op {
            LogOp::Purge { upto, .. } => Some(*upto),
            _ => None,
        });
        purged.max().map_or(Ok(()), |upto| self.drop_files(upto))
    }

    fn sync(&self) -> io::Result<()> {
        // One fsync for everything written so far, in this write-ahead log and those before it.
        self.db.flush_wal(true).map_err(to_io)
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

    fn wal_files(path: &Path) -> Vec<std::path::PathBuf> {
        let entries = std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path());
        entries
            .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
            .collect()
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

    #[test]
    fn a_torn_end_is_forgiven() {
        let temp = tempfile::tempdir().unwrap();
        let log = RocksLog::open(temp.path()).unwrap();
        log.write(&[put(1, 1)]).unwrap();
        log.write(&[put(2, 2)]).unwrap();
        log.sync().unwrap();
        drop(log);
        let wal = wal_files(temp.path()).pop().unwrap();
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

    #[test]
    fn damage_before_the_end_fails_the_open() {
        let temp = tempfile::tempdir().unwrap();
        let log = RocksLog::open(temp.path()).unwrap();
        for index in 1..50 {
            log.write(&[put(index, 1)]).unwrap();
        }
        log.sync().unwrap();
        drop(log);
        let wal = wal_files(temp.path()).pop().unwrap();
        let mut bytes = std::fs::read(&wal).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0xff;
        std::fs::write(&wal, bytes).unwrap();

        assert!(RocksLog::open(temp.path()).is_err());
    }
}
