//! The state on RocksDB: `state/<generation>/` databases, of which `state/CURRENT` names the one that counts, and
//! snapshots beside them in `snap/`.

mod generation;
mod reader;

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;
use meta::Mutation;
use prost::Message;
use rocksdb::WriteBatch;
use rocksdb::checkpoint::Checkpoint;

use crate::data_dir::DataDir;
use crate::db::{self, to_io};
use crate::snapshot::{Files, Manifest, Snapshot, SnapshotRoot, SnapshotWriter};
use crate::state_store::{LocalView, StateStore};
use generation::{APPLIED_KEY, Generation, Generations};
use reader::{LatestReader, PinnedReader};

/// The state store of a node with a disk.
pub(crate) struct RocksState {
    generations: Generations,
    snapshots: Arc<SnapshotRoot>,
    current: RwLock<Arc<Generation>>,
    // Dropped last: the directory is this process's until its databases are closed.
    directory: Option<Arc<DataDir>>,
}

/// A checkpoint's directory and what its manifest will say.
pub(crate) struct UnsealedCheckpoint {
    path: PathBuf,
    manifest: Manifest,
}

impl RocksState {
    pub(crate) fn open(state: PathBuf, snapshots: PathBuf) -> io::Result<Self> {
        let snapshots = Arc::new(SnapshotRoot::open(snapshots)?);
        let (generations, current) = Generations::open(state)?;
        Ok(RocksState {
            generations,
            snapshots,
            current: RwLock::new(Arc::new(current)),
            directory: None,
        })
    }

    /// Keeps `directory` locked for as long as this store lives.
    pub(crate) fn keep_locked(mut self, directory: Arc<DataDir>) -> Self {
        self.directory = Some(directory);
        self
    }

    /// A reader of a state that no process uses, and its applied record. Changes nothing.
    pub(crate) fn read_only(state: PathBuf) -> io::Result<(LatestReader, Option<Bytes>)> {
        let generation = Generations::open_read_only(state)?;
        let applied = generation.applied()?;
        Ok((LatestReader(Arc::new(generation)), applied))
    }

    fn current(&self) -> Arc<Generation> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl StateStore for RocksState {
    const BLOCKING: bool = true;
    type Latest = LatestReader;
    type Checkpoint = UnsealedCheckpoint;

    fn applied(&self) -> io::Result<Option<Bytes>> {
        self.current().applied()
    }

    fn latest(&self) -> LatestReader {
        LatestReader(self.current())
    }

    fn view(&self) -> LocalView {
        LocalView::new(PinnedReader::new(self.current()))
    }

    fn commit(&self, mutations: Vec<Mutation>, applied: Bytes) -> io::Result<()> {
        let generation = self.current();
        let db = generation.db();
        let mut batch = WriteBatch::default();
        for Mutation { family, key, value } in mutations {
            let family = db::family(db, family.name())?;
            match value {
                Some(value) => batch.put_cf(family, key, value),
                None => batch.delete_cf(family, key),
            }
        }
        batch.put_cf(db::family(db, db::APPLIED)?, APPLIED_KEY, applied);
        // Not synced: after a crash the log is applied again from wherever this database is.
        db.write(batch).map_err(to_io)
    }

    fn checkpoint(&self, manifest: Manifest) -> io::Result<UnsealedCheckpoint> {
        let path = self.snapshots.unfinished_path(manifest.index())?;
        // Flushes first, so that the files are whole tables and no live write-ahead log is copied.
        let generation = self.current();
        Checkpoint::new(generation.db())
            .and_then(|checkpoint| checkpoint.create_checkpoint(&path))
            .map_err(to_io)?;
        Ok(UnsealedCheckpoint { path, manifest })
    }

    fn seal(&self, UnsealedCheckpoint { path, manifest }: UnsealedCheckpoint) -> io::Result<Snapshot> {
        let snapshot = self.snapshots.finish(&path, manifest).inspect_err(|_| {
            // The next start removes what this cannot.
            fs::remove_dir_all(&path).ok();
        })?;
        self.snapshots.set_current(&snapshot);
        Ok(snapshot)
    }

    fn current_snapshot(&self) -> Option<Snapshot> {
        self.snapshots.current()
    }

    fn kept(&self, manifest: &Manifest) -> io::Result<Vec<String>> {
        self.snapshots.kept(manifest)
    }

    fn receive(&self, manifest: Manifest, kept: BTreeSet<String>) -> io::Result<SnapshotWriter> {
        self.snapshots.receive(manifest, kept)
    }

    fn install(&self, snapshot: &Snapshot) -> io::Result<()> {
        let Files::Directory(directory) = &snapshot.files else {
            return Err(io::Error::other("a snapshot in memory cannot be installed on disk"));
        };
        let expected = snapshot.manifest.applied().encode_to_vec();
        let files = snapshot.manifest.file_names();
        let generation = self.generations.prepare(directory.path(), files, &expected)?;
        let generation = Arc::new(self.generations.switch_to(generation)?);
        let old = std::mem::replace(
            &mut *self.current.write().unwrap_or_else(PoisonError::into_inner),
            generation,
        );
        // Its files go when the last view of it does.
        old.retire();
        self.snapshots.set_current(snapshot);
        Ok(())
    }
}
