//! A state store in memory that, on a crash, falls back to its last snapshot.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use meta::{Family, MemoryState, Mutation, Read, ReadError};
use prost::Message;
use proto::v1 as pb;
use sha2::{Digest, Sha256};

use crate::snapshot::{Files, Manifest, Snapshot, SnapshotWriter};
use crate::state_store::{LocalView, StateStore};

/// The one file of a snapshot, as `meta::snapshot` writes it.
const RECORDS: &str = "records";

/// State on a simulated disk. Clones share the disk, so it outlives the node that writes to it.
#[derive(Debug, Clone, Default)]
pub struct MemoryStore(Arc<Mutex<Disk>>);

#[derive(Debug, Default)]
struct Disk {
    state: Arc<MemoryState>,
    applied: Option<Bytes>,
    snapshot: Option<Snapshot>,
}

/// A state at one moment.
#[derive(Debug, Clone)]
pub struct MemoryReader(Arc<MemoryState>);

impl Read for MemoryReader {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>, ReadError> {
        self.0.get(family, key)
    }

    fn scan(
        &self,
        family: Family,
        prefix: &[u8],
        start_after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<(Vec<u8>, Vec<u8>)>, ReadError> {
        self.0.scan(family, prefix, start_after, limit)
    }
}

impl MemoryStore {
    /// An empty disk.
    pub fn new() -> Self {
        Self::default()
    }

    /// Loses power: only the last snapshot is found afterwards.
    pub fn crash(&self) {
        let mut disk = self.disk();
        match disk.snapshot.clone() {
            Some(snapshot) => disk.load(&snapshot).expect("a snapshot of our own is readable"),
            None => *disk = Disk::default(),
        }
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Disk {
    fn load(&mut self, snapshot: &Snapshot) -> io::Result<()> {
        let mut state = MemoryState::new();
        let records = snapshot.read(RECORDS, 0, usize::MAX)?;
        let store = |mutation| {
            state.apply_mutations([mutation]);
            Ok(())
        };
        meta::snapshot::read(&mut records.as_ref(), store).map_err(io::Error::other)?;
        self.state = Arc::new(state);
        self.applied = Some(snapshot.manifest.applied().encode_to_vec().into());
        self.snapshot = Some(snapshot.clone());
        Ok(())
    }
}

impl StateStore for MemoryStore {
    const BLOCKING: bool = false;
    type Latest = MemoryReader;
    type Checkpoint = Snapshot;

    fn applied(&self) -> io::Result<Option<Bytes>> {
        Ok(self.disk().applied.clone())
    }

    fn latest(&self) -> MemoryReader {
        MemoryReader(Arc::clone(&self.disk().state))
    }

    fn view(&self) -> LocalView {
        LocalView::new(self.latest())
    }

    fn commit(&self, mutations: Vec<Mutation>, applied: Bytes) -> io::Result<()> {
        let mut disk = self.disk();
        Arc::make_mut(&mut disk.state).apply_mutations(mutations);
        disk.applied = Some(applied);
        Ok(())
    }

    fn checkpoint(&self, mut manifest: Manifest) -> io::Result<Snapshot> {
        let mut records = Vec::new();
        meta::snapshot::write(&*self.latest().0, &mut records).map_err(io::Error::other)?;
        let records = Bytes::from(records);
        manifest.0.files = vec![pb::SnapshotFile {
            name: RECORDS.to_owned(),
            size_bytes: records.len() as u64,
            sha256: Sha256::digest(&records).to_vec().into(),
        }];
        let files = BTreeMap::from([(RECORDS.to_owned(), records)]);
        Ok(Snapshot {
            manifest: Arc::new(manifest),
            files: Files::Memory(Arc::new(files)),
        })
    }

    fn seal(&self, checkpoint: Snapshot) -> io::Result<Snapshot> {
        self.disk().snapshot = Some(checkpoint.clone());
        Ok(checkpoint)
    }

    fn current_snapshot(&self) -> Option<Snapshot> {
        self.disk().snapshot.clone()
    }

    fn kept(&self, _manifest: &Manifest) -> io::Result<Vec<String>> {
        Ok(Vec::new())
    }

    fn receive(&self, manifest: Manifest, kept: BTreeSet<String>) -> io::Result<SnapshotWriter> {
        match kept.first() {
            Some(name) => Err(io::Error::other(format!(
                "{name} was left out, but nothing is kept in memory"
            ))),
            None => SnapshotWriter::to_memory(manifest),
        }
    }

    fn install(&self, snapshot: &Snapshot) -> io::Result<()> {
        self.disk().load(snapshot)
    }
}
