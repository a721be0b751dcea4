//! Generations: each installed snapshot makes a new database, and one rename decides which counts.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use rocksdb::DB;

use crate::db::{self, to_io};
use crate::snapshot::sync_dir;

pub(super) const APPLIED_KEY: &[u8] = b"applied";
const CURRENT: &str = "CURRENT";
const CURRENT_UNFINISHED: &str = "CURRENT.tmp";
const FIRST: u64 = 1;

/// One database of the state. Retired, it removes itself when its last reader is gone.
pub(super) struct Generation {
    // An Option so that the database closes before its directory goes.
    db: Option<DB>,
    number: u64,
    path: PathBuf,
    retired: AtomicBool,
}

impl Generation {
    fn open(number: u64, path: PathBuf) -> io::Result<Self> {
        Ok(Self::new(db::open_state(&path)?, number, path))
    }

    fn new(db: DB, number: u64, path: PathBuf) -> Self {
        Generation {
            db: Some(db),
            number,
            path,
            retired: AtomicBool::new(false),
        }
    }

    pub(super) fn db(&self) -> &DB {
        self.db.as_ref().expect("only Drop takes it")
    }

    pub(super) fn applied(&self) -> io::Result<Option<Bytes>> {
        let record = self
            .db()
            .get_cf(db::family(self.db(), db::APPLIED)?, APPLIED_KEY)
            .map_err(to_io)?;
        Ok(record.map(Bytes::from))
    }

    pub(super) fn retire(&self) {
        self.retired.store(true, Ordering::Relaxed);
    }
}

impl Drop for Generation {
    fn drop(&mut self) {
        drop(self.db.take());
        if self.retired.load(Ordering::Relaxed)
            && let Err(error) = fs::remove_dir_all(&self.path)
        {
            tracing::warn!(%error, path = %self.path.display(), "old state stays on disk until the next start");
        }
    }
}

/// The directory that holds the generations.
pub(super) struct Generations {
    root: PathBuf,
}

impl Generations {
    /// Opens the current generation, or an empty first one, and removes the others.
    pub(super) fn open(root: PathBuf) -> io::Result<(Self, Generation)> {
        fs::create_dir_all(&root)?;
        let generations = Generations { root };
        let number = match generations.read_current()? {
            Some(number) => number,
            None => {
                generations.write_current(FIRST)?;
                FIRST
            }
        };
        generations.remove_others(number)?;
        let generation = Generation::open(number, generations.path(number))?;
        Ok((generations, generation))
    }

    /// Opens the current generation below `root`, and changes nothing.
    pub(super) fn open_read_only(root: PathBuf) -> io::Result<Generation> {
        let generations = Generations { root };
        let number = generations.read_current()?.ok_or_else(|| {
            let message = format!("{} names no state", generations.root.join(CURRENT).display());
            io::Error::new(io::ErrorKind::NotFound, message)
        })?;
        let path = generations.path(number);
        Ok(Generation::new(db::open_state_read_only(&path)?, number, path))
    }

    /// Makes a generation out of a snapshot's files and checks that it opens and stands where it should. It does not
    /// count yet.
    pub(super) fn prepare<'a>(
        &self,
        snapshot: &Path,
        files: impl Iterator<Item = &'a str>,
        applied: &[u8],
    ) -> io::Result<Generation> {
        let number = self.read_current()?.unwrap_or(0) + 1;
        let path = self.path(number);
        if path.exists() {
            fs::remove_dir_all(&path)?;
        }
        fs::create_dir(&path)?;
        for name in files {
            clone_file(&snapshot.join(name), &path.join(name))?;
        }
        sync_dir(&path)?;
        let generation = Generation::open(number, path)?;
        if generation.applied()?.as_deref() != Some(applied) {
            generation.retire();
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "a snapshot holds another state than it says",
            ));
        }
        Ok(generation)
    }

    /// From now on, `generation` counts.
    pub(super) fn switch_to(&self, generation: Generation) -> io::Result<Generation> {
        self.write_current(generation.number)?;
        Ok(generation)
    }

    fn path(&self, number: u64) -> PathBuf {
        self.root.join(number.to_string())
    }

    fn read_current(&self) -> io::Result<Option<u64>> {
        match fs::read_to_string(self.root.join(CURRENT)) {
            Ok(text) => text
                .trim()
                .parse()
                .map(Some)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn write_current(&self, number: u64) -> io::Result<()> {
        let unfinished = self.root.join(CURRENT_UNFINISHED);
        let mut file = File::create(&unfinished)?;
        writeln!(file, "{number}")?;
        file.sync_all()?;
        fs::rename(&unfinished, self.root.join(CURRENT))?;
        sync_dir(&self.root)
    }

    fn remove_others(&self, number: u64) -> io::Result<()> {
        for entry in fs::read_dir(&self.root)? {
            let path = entry?.path();
            if path.is_dir() && path != self.path(number) {
                fs::remove_dir_all(&path)?;
            }
        }
        Ok(())
    }
}

/// Tables never change, so a second name is enough; everything else RocksDB may write to.
fn clone_file(from: &Path, to: &Path) -> io::Result<()> {
    if from.extension().is_some_and(|extension| extension == "sst") {
        return fs::hard_link(from, to);
    }
    fs::copy(from, to)?;
    File::open(to)?.sync_all()
}
