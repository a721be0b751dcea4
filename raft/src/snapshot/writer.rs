//! Takes in a snapshot part by part, and believes none of it before its hashes match.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use proto::v1 as pb;
use sha2::{Digest, Sha256};

use super::directory::SnapshotRoot;
use super::partial::Lease;
use super::{Files, Manifest, Snapshot};

/// A snapshot on its way in. Dropped before [`finish`](SnapshotWriter::finish), what a directory has got of it is kept for
/// the next try.
pub struct SnapshotWriter {
    manifest: Manifest,
    target: Target,
    // Files that are there and will not come.
    kept: BTreeSet<String>,
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
        unfinished: Unfinished,
        current: Option<File>,
    },
}

/// Where a snapshot is put together.
pub(super) enum Unfinished {
    /// A later try goes on in it.
    Kept(Lease),
    /// Of no use to anybody else.
    Removed(RemoveOnDrop),
}

impl Unfinished {
    pub(super) fn removed(path: PathBuf) -> Self {
        Unfinished::Removed(RemoveOnDrop(path))
    }

    fn path(&self) -> &Path {
        match self {
            Unfinished::Kept(lease) => lease.path(),
            Unfinished::Removed(RemoveOnDrop(path)) => path,
        }
    }
}

pub(super) struct RemoveOnDrop(PathBuf);

impl Drop for RemoveOnDrop {
    fn drop(&mut self) {
        match std::fs::remove_dir_all(&self.0) {
            Ok(()) => {}
            // Finished, and so renamed.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                tracing::warn!(%error, path = %self.0.display(), "unfinished snapshot stays on disk until the next start");
            }
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

/// Refuses a manifest whose names could lead elsewhere.
pub(super) fn check_names(manifest: &Manifest) -> io::Result<()> {
    match manifest.0.files.iter().find(|file| !is_plain_name(&file.name)) {
        Some(file) => Err(invalid(format!("a snapshot has no file named {:?}", file.name))),
        None => Ok(()),
    }
}

impl SnapshotWriter {
    pub(crate) fn to_memory(manifest: Manifest) -> io::Result<Self> {
        Self::new(
            manifest,
            Target::Memory {
                done: BTreeMap::new(),
                current: BytesMut::new(),
            },
            BTreeSet::new(),
        )
    }

    pub(super) fn to_directory(
        unfinished: Unfinished,
        root: Arc<SnapshotRoot>,
        manifest: Manifest,
        kept: BTreeSet<String>,
    ) -> io::Result<Self> {
        Self::new(
            manifest,
            Target::Directory {
                root,
                unfinished,
                current: None,
            },
            kept,
        )
    }

    fn new(manifest: Manifest, target: Target, kept: BTreeSet<String>) -> io::Result<Self> {
        check_names(&manifest)?;
        let mut writer = SnapshotWriter {
            manifest,
            target,
            kept,
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
            Target::Directory { root, unfinished, .. } => root.finish_received(unfinished.path(), self.manifest),
        }
    }

    pub(crate) fn is_on_disk(&self) -> bool {
        matches!(self.target, Target::Directory { .. })
    }

    fn current_file(&self) -> Option<&pb::SnapshotFile> {
        self.manifest.0.files.get(self.at)
    }

    /// Closes every file that has all its bytes, empty ones included, and passes over those that were kept.
    fn skip_complete(&mut self) -> io::Result<()> {
        while let Some(file) = self.current_file().cloned() {
            let is_kept = self.kept.contains(&file.name);
            if !is_kept && self.written < file.size_bytes {
                break;
            }
            if !is_kept {
                self.close(file)?;
            }
            self.at += 1;
            self.written = 0;
            self.open_current()?;
        }
        Ok(())
    }

    fn close(&mut self, file: pb::SnapshotFile) -> io::Result<()> {
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
        Ok(())
    }

    fn open_current(&mut self) -> io::Result<()> {
        let Some(name) = self.current_file().map(|file| file.name.clone()) else {
            return Ok(());
        };
        if self.kept.contains(&name) {
            return Ok(());
        }
        if let Target::Directory {
            unfinished, current, ..
        } = &mut self.target
        {
            *current = Some(File::create(unfinished.path().join(name))?);
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
        let mut writer = root.receive(manifest(&[("b", b"hello")]), BTreeSet::new()).unwrap();
        writer.write(b"hello").unwrap();
        root.set_current(&writer.finish().unwrap());
        std::mem::forget(root.receive(manifest(&[("b", b"hello")]), BTreeSet::new()).unwrap());
        drop(root);

        let root = SnapshotRoot::open(temp.path().join("snap")).unwrap();
        assert_eq!(root.current().unwrap().read("b", 0, 9).unwrap(), &b"hello"[..]);
        assert_eq!(std::fs::read_dir(temp.path().join("snap")).unwrap().count(), 1);
    }

    #[test]
    fn of_several_broken_transfers_one_is_kept() {
        let temp = tempfile::tempdir().unwrap();
        let snapshots = temp.path().join("snap");
        let root = Arc::new(SnapshotRoot::open(snapshots.clone()).unwrap());
        let (first, second) = (manifest(&[("b", b"hello")]), manifest(&[("b", b"other")]));
        let begin = |manifest: &Manifest| root.receive(manifest.clone(), BTreeSet::new()).unwrap();
        begin(&first).write(b"hello").unwrap();
        assert_eq!(root.kept(&first).unwrap(), ["b"]);
        assert!(root.kept(&second).unwrap().is_empty());

        begin(&second).write(b"oth").unwrap();

        assert!(root.kept(&first).unwrap().is_empty());
        assert_eq!(std::fs::read_dir(snapshots).unwrap().count(), 1);
    }

    #[test]
    fn two_transfers_of_one_snapshot_do_not_share_files() {
        let temp = tempfile::tempdir().unwrap();
        let root = Arc::new(SnapshotRoot::open(temp.path().join("snap")).unwrap());
        let manifest = manifest(&[("b", b"hello"), ("c", b"you")]);
        let begin = || root.receive(manifest.clone(), BTreeSet::new()).unwrap();
        let mut slow = begin();
        slow.write(b"hello").unwrap();
        assert!(root.kept(&manifest).unwrap().is_empty());
        let mut quick = begin();
        quick.write(b"hel").unwrap();
        slow.write(b"you").unwrap();
        assert_eq!(slow.finish().unwrap().read("b", 0, 9).unwrap(), &b"hello"[..]);
        drop(quick);
        assert_eq!(std::fs::read_dir(temp.path().join("snap")).unwrap().count(), 0);
    }

    #[test]
    fn a_file_left_out_that_was_not_found_is_refused() {
        let temp = tempfile::tempdir().unwrap();
        let root = Arc::new(SnapshotRoot::open(temp.path().join("snap")).unwrap());
        let manifest = manifest(&[("b", b"hello"), ("c", b"you")]);
        let kept = || BTreeSet::from(["b".to_owned()]);
        assert!(root.receive(manifest.clone(), kept()).is_err());
        let mut writer = root.receive(manifest.clone(), BTreeSet::new()).unwrap();
        writer.write(b"hello").unwrap();
        drop(writer);
        assert!(root.receive(manifest.clone(), kept()).is_err(), "nobody has looked");
        root.kept(&manifest).unwrap();
        let mut writer = root.receive(manifest.clone(), kept()).unwrap();
        writer.write(b"you").unwrap();
        writer.finish().unwrap();
    }
}
