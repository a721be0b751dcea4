//! The data directory of a node: locked by one process, and `identity.json` in it.
//!
//! ```text
//! lock            held while a process uses the directory
//! identity.json   who the disk belongs to
//! log/            the log database
//! state/          the state database, by generation
//! snap/           snapshots
//! ```

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use crate::identity::{Identity, IdentityStore, Member};
use crate::snapshot::sync_dir;

const LOCK: &str = "lock";
const IDENTITY: &str = "identity.json";
const IDENTITY_UNFINISHED: &str = "identity.json.tmp";
const FORMAT_VERSION: u32 = 1;

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// Another process works on it.
    #[error("data directory {} is in use by another process", path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// It is not one.
    #[error("{} is not the data directory of a node, it has no file {LOCK}", path.display())]
    NotOne {
        /// The directory.
        path: PathBuf,
    },
    /// The disk failed, or the directory cannot be made.
    #[error("open data directory {}", path.display())]
    Io {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// A data directory this process has to itself, for as long as this value lives.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    _lock: File,
}

/// `identity.json` as it is written.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    version: u32,
    nonce: String,
    boot_count: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    member: Option<MemberDocument>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct MemberDocument {
    cluster_id: String,
    node_id: u64,
    #[serde(default)]
    is_founding: bool,
}

impl DataDir {
    /// Makes the directory if need be, and locks it.
    ///
    /// # Errors
    /// [`DataDirError`].
    pub fn open(path: &Path) -> Result<Self, DataDirError> {
        let failed = |source| DataDirError::Io {
            path: path.to_owned(),
            source,
        };
        fs::create_dir_all(path).map_err(failed)?;
        let lock = File::create(path.join(LOCK)).map_err(failed)?;
        Self::locked(path, lock)
    }

    /// Locks a directory that a node has used before, and changes nothing.
    ///
    /// # Errors
    /// [`DataDirError`].
    #[cfg(feature = "rocksdb")]
    pub(crate) fn open_existing(path: &Path) -> Result<Self, DataDirError> {
        match File::open(path.join(LOCK)) {
            Ok(lock) => Self::locked(path, lock),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(DataDirError::NotOne { path: path.to_owned() })
            }
            Err(source) => Err(DataDirError::Io {
                path: path.to_owned(),
                source,
            }),
        }
    }

    fn locked(path: &Path, lock: File) -> Result<Self, DataDirError> {
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(DataDir {
                path: path.to_owned(),
                _lock: lock,
            }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(DataDirError::InUse { path: path.to_owned() }),
            Err(error) => Err(DataDirError::Io {
                path: path.to_owned(),
                source: error.into(),
            }),
        }
    }

    /// Path of something in the directory.
    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

fn invalid(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

fn parse(text: &str) -> io::Result<Identity> {
    let document: Document = serde_json::from_str(text).map_err(invalid)?;
    if document.version != FORMAT_VERSION {
        return Err(invalid(format!(
            "{IDENTITY} has version {}, this program reads {FORMAT_VERSION}",
            document.version
        )));
    }
    let member = document.member.map(|member| {
        let cluster = member.cluster_id.parse().map_err(invalid)?;
        Ok::<_, io::Error>(Member {
            cluster,
            node: meta::NodeId::new(member.node_id),
            is_founding: member.is_founding,
        })
    });
    Ok(Identity {
        nonce: document.nonce.parse().map_err(invalid)?,
        boot_count: document.boot_count,
        member: member.transpose()?,
    })
}

impl IdentityStore for DataDir {
    fn load(&self) -> io::Result<Option<Identity>> {
        match fs::read_to_string(self.join(IDENTITY)) {
            Ok(text) => parse(&text).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn store(&self, identity: &Identity) -> io::Result<()> {
        let document = Document {
            version: FORMAT_VERSION,
            nonce: identity.nonce.to_string(),
            boot_count: identity.boot_count,
            member: identity.member.map(|member| MemberDocument {
                cluster_id: member.cluster.to_string(),
                node_id: member.node.get(),
                is_founding: member.is_founding,
            }),
        };
        let unfinished = self.join(IDENTITY_UNFINISHED);
        let mut file = File::create(&unfinished)?;
        file.write_all(&serde_json::to_vec_pretty(&document)?)?;
        file.sync_all()?;
        fs::rename(&unfinished, self.join(IDENTITY))?;
        sync_dir(&self.path)
    }
}

#[cfg(test)]
mod tests {
    use meta::{ClusterId, JoinNonce, NodeId};

    use super::*;

    #[test]
    fn an_identity_survives_and_a_second_process_is_kept_out() {
        let temp = tempfile::tempdir().unwrap();
        let directory = DataDir::open(temp.path()).unwrap();
        assert_eq!(directory.load().unwrap(), None);
        let identity = Identity {
            nonce: JoinNonce::new(7),
            boot_count: 3,
            member: Some(Member {
                cluster: ClusterId::new(9),
                node: NodeId::new(2),
                is_founding: false,
            }),
        };
        directory.store(&identity).unwrap();
        assert!(matches!(DataDir::open(temp.path()), Err(DataDirError::InUse { .. })));
        drop(directory);
        assert_eq!(DataDir::open(temp.path()).unwrap().load().unwrap(), Some(identity));
    }

    #[test]
    fn a_damaged_identity_is_an_error_and_not_an_empty_disk() {
        let temp = tempfile::tempdir().unwrap();
        let directory = DataDir::open(temp.path()).unwrap();
        fs::write(temp.path().join(IDENTITY), "{").unwrap();
        assert_eq!(directory.load().unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
