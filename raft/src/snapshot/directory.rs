//! Snapshots as directories: `<root>/<index>-<n>/` with the files and `manifest`; unfinished ones end in `.tmp`, or in
//! `.part` if they come from another node.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use prost::Message;
use proto::v1 as pb;
use sha2::{Digest, Sha256};

use super::partial::Partials;
use super::writer::Unfinished;
use super::{Files, Manifest, Snapshot, SnapshotWriter};
use crate::codec;

const MANIFEST: &str = "manifest";
const UNFINISHED: &str = "tmp";
const HASH_BUFFER_BYTES: usize = 256 << 10;

/// The directory of one finished snapshot; removed when nobody reads it any more, unless it is the current one.
#[derive(Debug)]
pub(crate) struct SnapshotDir {
    path: PathBuf,
    is_current: AtomicBool,
}

impl SnapshotDir {
    pub(super) fn read(&self, name: &str, offset: u64, bytes_max: usize) -> io::Result<Bytes> {
        let file = File::open(self.path.join(name))?;
        let left = file.metadata()?.len().saturating_sub(offset);
        let mut buffer = vec![0; usize::try_from(left).unwrap_or(usize::MAX).min(bytes_max)];
        file.read_exact_at(&mut buffer, offset)?;
        Ok(buffer.into())
    }

    #[cfg(feature = "rocksdb")]
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for SnapshotDir {
    fn drop(&mut self) {
        if !self.is_current.load(Ordering::Relaxed)
            && let Err(error) = fs::remove_dir_all(&self.path)
        {
            tracing::warn!(%error, path = %self.path.display(), "obsolete snapshot stays on disk until the next start");
        }
    }
}

/// Makes the entries of a directory durable.
pub(crate) fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Where a node keeps its snapshots: the current one, and those on their way in or out.
#[derive(Debug)]
pub(crate) struct SnapshotRoot {
    path: PathBuf,
    partials: Arc<Partials>,
    current: Mutex<Option<Snapshot>>,
}

#[cfg_attr(not(feature = "rocksdb"), allow(dead_code, reason = "used by the store on disk"))]
impl SnapshotRoot {
    /// Opens the directory, keeps the newest whole snapshot and one that was on its way in, and removes everything else.
    pub(crate) fn open(path: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(&path)?;
        let mut newest: Option<Snapshot> = None;
        for entry in fs::read_dir(&path)? {
            let found = entry?.path();
            if Partials::is_partial(&found) {
                continue;
            }
            let snapshot = match found.extension() {
                Some(extension) if extension == UNFINISHED => None,
                _ => load(&found)?,
            };
            let is_newest = snapshot.as_ref().is_some_and(|snapshot| {
                newest
                    .as_ref()
                    .is_none_or(|newest| newest.manifest.index() < snapshot.manifest.index())
            });
            if is_newest {
                newest = snapshot;
            } else if snapshot.is_none() {
                fs::remove_dir_all(&found)?;
            }
        }
        newest.iter().for_each(|newest| mark(newest, true));
        let partials = Partials::new(path.clone());
        partials.trim(newest.as_ref().map_or(0, |newest| newest.manifest.index()))?;
        Ok(SnapshotRoot {
            path,
            partials: Arc::new(partials),
            current: Mutex::new(newest),
        })
    }

    pub(crate) fn current(&self) -> Option<Snapshot> {
        self.slot().clone()
    }

    /// A new empty directory for a snapshot of another node.
    fn unfinished(&self, manifest: &Manifest) -> io::Result<PathBuf> {
        let path = self.free_path(&received(manifest))?.with_extension(UNFINISHED);
        fs::create_dir(&path)?;
        Ok(path)
    }

    /// A path for one that ends at `index` and that its maker will create.
    pub(crate) fn unfinished_path(&self, index: u64) -> io::Result<PathBuf> {
        Ok(self.free_path(&index.to_string())?.with_extension(UNFINISHED))
    }

    fn free_path(&self, stem: &str) -> io::Result<PathBuf> {
        // More than a handful at one index means something keeps failing.
        const TRIES: u32 = 1000;
        (0..TRIES)
            .map(|n| self.path.join(format!("{stem}-{n}")))
            .find(|path| !path.exists() && !path.with_extension(UNFINISHED).exists())
            .ok_or_else(|| io::Error::other("too many snapshots at one index"))
    }

    /// Hashes and syncs the files of an unfinished snapshot, and makes it a finished one.
    pub(crate) fn finish(&self, unfinished: &Path, mut manifest: Manifest) -> io::Result<Snapshot> {
        manifest.0.files = hash_files(unfinished)?;
        write_manifest(unfinished, &manifest)?;
        self.publish(unfinished, unfinished.with_extension(""), manifest)
    }

    fn publish(&self, unfinished: &Path, path: PathBuf, manifest: Manifest) -> io::Result<Snapshot> {
        fs::rename(unfinished, &path)?;
        sync_dir(&self.path)?;
        Ok(from_dir(path, manifest))
    }

    /// Makes `snapshot` the current one.
    pub(crate) fn set_current(&self, snapshot: &Snapshot) {
        let old = self.slot().replace(snapshot.clone());
        old.iter().for_each(|old| mark(old, false));
        mark(snapshot, true);
        if let Err(error) = self.partials.trim(snapshot.manifest.index()) {
            tracing::warn!(%error, "a part of an obsolete snapshot stays on disk until the next one");
        }
    }

    /// Names of the files of a snapshot that are here already. Hashes them.
    pub(crate) fn kept(&self, manifest: &Manifest) -> io::Result<Vec<String>> {
        self.partials.check(manifest)
    }

    /// Starts to take in a snapshot of which the files `kept` will not come.
    pub(crate) fn receive(self: &Arc<Self>, manifest: Manifest, kept: BTreeSet<String>) -> io::Result<SnapshotWriter> {
        let unfinished = match self.partials.begin(&manifest, &kept)? {
            Some(lease) => Unfinished::Kept(lease),
            None => Unfinished::removed(self.unfinished(&manifest)?),
        };
        SnapshotWriter::to_directory(unfinished, Arc::clone(self), manifest, kept)
    }

    pub(super) fn finish_received(&self, unfinished: &Path, manifest: Manifest) -> io::Result<Snapshot> {
        write_manifest(unfinished, &manifest)?;
        let path = self.free_path(&received(&manifest))?;
        self.publish(unfinished, path, manifest)
    }

    fn slot(&self) -> MutexGuard<'_, Option<Snapshot>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How directories of snapshots from other nodes begin: their names are never taken from a checkpoint on its way.
fn received(manifest: &Manifest) -> String {
    format!("{}-received", manifest.index())
}

fn from_dir(path: PathBuf, manifest: Manifest) -> Snapshot {
    let directory = SnapshotDir {
        path,
        is_current: AtomicBool::new(false),
    };
    Snapshot {
        manifest: Arc::new(manifest),
        files: Files::Directory(Arc::new(directory)),
    }
}

fn mark(snapshot: &Snapshot, is_current: bool) {
    if let Files::Directory(directory) = &snapshot.files {
        directory.is_current.store(is_current, Ordering::Relaxed);
    }
}

/// The snapshot in a directory; `None` if it is not whole. Hashes are checked by who installs it.
fn load(path: &Path) -> io::Result<Option<Snapshot>> {
    let bytes = match fs::read(path.join(MANIFEST)) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let Ok(manifest) = codec::decode::<pb::SnapshotManifest>(bytes.into(), "snapshot manifest") else {
        return Ok(None);
    };
    for file in &manifest.files {
        match fs::metadata(path.join(&file.name)) {
            Ok(found) if found.len() == file.size_bytes => {}
            _ => return Ok(None),
        }
    }
    Ok(Some(from_dir(path.to_owned(), Manifest(manifest))))
}

fn write_manifest(directory: &Path, manifest: &Manifest) -> io::Result<()> {
    let mut file = File::create(directory.join(MANIFEST))?;
    file.write_all(&manifest.0.encode_to_vec())?;
    file.sync_all()?;
    sync_dir(directory)
}

fn hash_files(directory: &Path) -> io::Result<Vec<pb::SnapshotFile>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry
            .file_name()
            .into_string()
            .map_err(|_| io::ErrorKind::InvalidData)?;
        let file = File::open(entry.path())?;
        let (size_bytes, sha256) = hash(&file)?;
        file.sync_all()?;
        files.push(pb::SnapshotFile {
            name,
            size_bytes,
            sha256,
        });
    }
    files.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(files)
}

/// Size and sha256 of a file.
pub(super) fn hash(mut file: &File) -> io::Result<(u64, Bytes)> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; HASH_BUFFER_BYTES];
    let mut size = 0;
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok((size, hasher.finalize().to_vec().into())),
            n => {
                hasher.update(&buffer[..n]);
                size += n as u64;
            }
        }
    }
}
