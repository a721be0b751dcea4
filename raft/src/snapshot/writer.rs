//! Takes in a snapshot part by part, and believes none of it before its hashes match.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use proto::v1 as pb;
use sha2::{Digest, Sha256};

use super::directory::SnapshotRoot;
use super::{Files, Manifest, Snapshot};

/// A snapshot on its way in. Dropped before [`finish`](SnapshotWriter::finish), it leaves nothing behind.
pub struct SnapshotWriter {
    manifest: Manifest,
    target: Target,
    // The file being filled, and how far.
    at: usize,
    written: u64,
    hasher: Sha256,
}

enum Target {
    Memory {
        done: BTreeMap<String, Bytes>,
        current: BytesMut,
    },
    Directory {
        root: Arc<SnapshotRoot>,
        guard: RemoveOnDrop,
        current: Option<File>,
    },
}

struct RemoveOnDrop(Option<PathBuf>);

impl Drop for RemoveOnDrop {
    fn drop(&mut self) {
        if let Some(path) = self.0.take()
            && let Err(error) = std::fs::remove_dir_all(&path)
        {
            tracing::warn!(%error, path = %path.display(), "unfinished snapshot stays on disk until the next start");
        }
    }
}

fn invalid(reason: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

/// Whether a name from the wire can be a file of a snapshot: one path component, nothing hidden.
fn is_plain_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    !name.is_empty() && !name.starts_with('.') && name != "manifest" && name.bytes().all(plain)
}

impl SnapshotWriter {
    pub(crate) fn to_memory(manifest: Manifest) -> io::Result<Self> {
        Self::new(
            manifest,
            Target::Memory {
                done: BTreeMap::new(),
                current: BytesMut::new(),
            },
        )
    }

    pub(crate) fn to_directory(path: PathBuf, root: Arc<SnapshotRoot>, manifest: Manifest) -> io::Result<Self> {
        Self::new(
            manifest,
            Target::Directory {
                root,
                guard: RemoveOnDrop(Some(path)),
                current: None,
            },
        )
    }

    fn new(manifest: Manifest, target: Target) -> io::Result<Self> {
        if let Some(file) = manifest.0.files.iter().find(|file| !is_plain_name(&file.name)) {
            return Err(invalid(format!("a snapshot has no file named {:?}", file.name)));
        }
        let mut writer = SnapshotWriter {
            manifest,
            target,
            at: 0,
            written: 0,
            hasher: Sha256::new(),
        };
        writer.open_current()?;
        writer.skip_complete()?;
        Ok(writer)
    }

    /// The bytes that follow those given before; never of two files at once. Blocks if it writes to a directory.
    ///
    /// # Errors
    /// When there are more bytes than the manifest says, a file does not match its hash, or the disk fails.
    pub fn write(&mut self, data: &[u8]) -> io::Result<()> {
        let file = self
            .current_file()
            .ok_or_else(|| invalid("bytes after the last file".to_owned()))?;
        if data.len() as u64 > file.size_bytes - self.written {
            return Err(invalid(format!("more bytes than {} has", file.name)));
        }
        self.hasher.update(data);
        self.written += data.len() as u64;
        match &mut self.target {
            Target::Memory { current, .. } => current.extend_from_slice(data),
            Target::Directory {
                current: Some(current), ..
            } => current.write_all(data)?,
            Target::Directory { current: None, .. } => return Err(invalid("no file is open".to_owned())),
        }
        self.skip_complete()
    }

    /// The snapshot, durable in its place.
    ///
    /// # Errors
    /// When files are incomplete or the disk fails.
    pub fn finish(self) -> io::Result<Snapshot> {
        if let Some(file) = self.current_file() {
            return Err(invalid(format!(
                "{} ends after {} of {} bytes",
                file.name, self.written, file.size_bytes
            )));
        }
        match self.target {
            Target::Memory { done, .. } => Ok(Snapshot {
                manifest: Arc::new(self.manifest),
                files: Files::Memory(Arc::new(done)),
            }),
            Target::Directory { root, mut guard, .. } => {
                let path = guard.0.take().ok_or_else(|| invalid("finished before".to_owned()))?;
                root.finish_received(&path, self.manifest)
            }
        }
    }

    pub(crate) fn is_on_disk(&self) -> bool {
        matches!(self.target, Target::Directory { .. })
    }

    fn current_file(&self) -> Option<&pb::SnapshotFile> {
        self.manifest.0.files.get(self.at)
    }

    /// Closes every file that has all its bytes, empty ones included.
    fn skip_complete(&mut self) -> io::Result<()> {
        while let Some(file) = self.current_file().cloned() {
            if self.written < file.size_bytes {
                break;
            }
            if self.hasher.finalize_reset().as_slice() != file.sha256.as_ref() {
                return Err(invalid(format!("{} does not match its hash", file.name)));
            }
            match &mut self.target {
                Target::Memory { done, current } => drop(done.insert(file.name, std::mem::take(current).freeze())),
                Target::Directory { current, .. } => {
                    if let Some(current) = current.take() {
                        current.sync_all()?;
                    }
                }
            }
            self.at += 1;
            self.written = 0;
            self.open_current()?;
        }
        Ok(())
    }

    fn open_current(&mut self) -> io::Result<()> {
        let Some(name) = self.current_file().map(|file| file.name.clone()) else {
            return Ok(());
        };
        if let Target::Directory {
            guard: RemoveOnDrop(Some(path)),
            current,
            ..
        } = &mut self.target
        {
            *current = Some(File::create(path.join(name))?);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(files: &[(&str, &[u8])]) -> Manifest {
        let file = |(name, data): &(&str, &[u8])| pb::SnapshotFile {
            name: (*name).to_owned(),
            size_bytes: data.len() as u64,
            sha256: Sha256::digest(data).to_vec().into(),
        };
        Manifest(pb::SnapshotManifest {
            last_log_id: Some(pb::LogId { term: 1, index: 9 }),
            files: files.iter().map(file).collect(),
            ..Default::default()
        })
    }

    #[test]
    fn whole_files_become_a_snapshot_empty_ones_too() {
        let mut writer = SnapshotWriter::to_memory(manifest(&[("a", b""), ("b", b"hello"), ("c", b"")])).unwrap();
        writer.write(b"he").unwrap();
        writer.write(b"llo").unwrap();
        let snapshot = writer.finish().unwrap();
        assert_eq!(snapshot.read("b", 1, 3).unwrap(), &b"ell"[..]);
        assert_eq!(snapshot.read("c", 0, 3).unwrap(), &b""[..]);
    }

    #[test]
    fn a_flipped_byte_is_refused() {
        let mut writer = SnapshotWriter::to_memory(manifest(&[("b", b"hello")])).unwrap();
        assert!(writer.write(b"jello").is_err());
    }

    #[test]
    fn an_early_end_is_refused() {
        let mut writer = SnapshotWriter::to_memory(manifest(&[("b", b"hello")])).unwrap();
        writer.write(b"hell").unwrap();
        assert!(writer.finish().is_err());
    }

    #[test]
    fn names_that_leave_the_directory_are_refused() {
        for name in ["../x", "/etc/passwd", "", ".", "..", "a/b", "manifest"] {
            assert!(
                SnapshotWriter::to_memory(manifest(&[(name, b"x")])).is_err(),
                "{name:?}"
            );
        }
    }

    #[test]
    fn a_received_directory_is_found_again_and_an_unfinished_one_is_not() {
        let temp = tempfile::tempdir().unwrap();
        let root = Arc::new(SnapshotRoot::open(temp.path().join("snap")).unwrap());
        let mut writer = root.receive(manifest(&[("b", b"hello")])).unwrap();
        writer.write(b"hello").unwrap();
        root.set_current(&writer.finish().unwrap());
        std::mem::forget(root.receive(manifest(&[("b", b"hello")])).unwrap());
        drop(root);

        let root = SnapshotRoot::open(temp.path().join("snap")).unwrap();
        assert_eq!(root.current().unwrap().read("b", 0, 9).unwrap(), &b"hello"[..]);
        assert_eq!(std::fs::read_dir(temp.path().join("snap")).unwrap().count(), 1);
    }
}
