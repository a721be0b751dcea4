//! Snapshots: a set of files with a manifest, in a directory or in memory, and how one is taken in from the wire.

mod directory;
mod partial;
mod writer;

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use proto::v1 as pb;

use crate::codec::{self, CodecError};
use crate::types::SnapshotMeta;
#[cfg(feature = "rocksdb")]
pub(crate) use directory::SnapshotRoot;
pub(crate) use directory::{SnapshotDir, sync_dir};
pub use writer::SnapshotWriter;

/// Bytes per message of a transfer.
pub(crate) const PART_BYTES_MAX: usize = 1 << 20;

/// What a snapshot consists of, and where in the log it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Manifest(pub(crate) pb::SnapshotManifest);

impl Manifest {
    pub(crate) fn meta(&self) -> Result<SnapshotMeta, CodecError> {
        let membership = codec::required(self.0.membership.clone(), "membership of a snapshot")?;
        Ok(SnapshotMeta {
            last_log_id: self.0.last_log_id.map(codec::log_id_from_wire),
            last_membership: codec::stored_membership_from_wire(membership)?,
        })
    }

    /// The record a state store keeps beside the state this snapshot holds.
    pub(crate) fn applied(&self) -> pb::AppliedState {
        pb::AppliedState {
            last_applied: self.0.last_log_id,
            membership: self.0.membership.clone(),
            state_hash: self.0.state_hash.clone(),
        }
    }

    #[cfg(feature = "rocksdb")]
    pub(crate) fn file_names(&self) -> impl Iterator<Item = &str> {
        self.0.files.iter().map(|file| file.name.as_str())
    }

    pub(crate) fn index(&self) -> u64 {
        self.0.last_log_id.map_or(0, |log_id| log_id.index)
    }
}

/// A snapshot. Clones share it; its files stay until the last clone is gone, even if a newer snapshot replaced it.
#[derive(Debug, Clone)]
pub struct Snapshot {
    pub(crate) manifest: Arc<Manifest>,
    pub(crate) files: Files,
}

#[derive(Debug, Clone)]
pub(crate) enum Files {
    Memory(Arc<BTreeMap<String, Bytes>>),
    Directory(Arc<SnapshotDir>),
}

impl Snapshot {
    /// Up to `bytes_max` bytes of a file, from `offset`. Blocks if the snapshot is in a directory.
    pub(crate) fn read(&self, name: &str, offset: u64, bytes_max: usize) -> io::Result<Bytes> {
        match &self.files {
            Files::Directory(directory) => directory.read(name, offset, bytes_max),
            Files::Memory(files) => {
                let file = files.get(name).ok_or(io::ErrorKind::NotFound)?;
                let start = usize::try_from(offset).unwrap_or(usize::MAX).min(file.len());
                Ok(file.slice(start..file.len().min(start.saturating_add(bytes_max))))
            }
        }
    }

    pub(crate) fn is_on_disk(&self) -> bool {
        matches!(self.files, Files::Directory(_))
    }
}
