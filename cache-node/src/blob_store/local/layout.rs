//! Where the files of a local store lie, and the few directory operations it needs.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use crate::blob_store::{BlobKey, StoreError};

const SUMS_SUFFIX: &str = ".sums";

/// What lies in the store when it is opened.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Committed blobs with their sizes.
    pub(super) whole: Vec<(BlobKey, u64)>,
    /// Data without checksums.
    pub(super) bare: Vec<BlobKey>,
}

/// The paths under one root.
#[derive(Debug)]
pub(super) struct Layout {
    root: PathBuf,
    blobs: PathBuf,
    temporary: PathBuf,
    corrupt: PathBuf,
}

impl Layout {
    /// Creates what is missing and empties `tmp/`: nobody else writes there, so all in it is of an earlier start.
    pub(super) fn create(root: &Path) -> Result<Self, StoreError> {
        let layout = Self {
            root: root.to_owned(),
            blobs: root.join("blobs"),
            temporary: root.join("tmp"),
            corrupt: root.join("corrupt"),
        };
        match fs::remove_dir_all(&layout.temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(StoreError::new("empty", &layout.temporary, error));
            }
            _ => {}
        }
        for directory in [&layout.blobs, &layout.temporary, &layout.corrupt] {
            fs::create_dir_all(directory).map_err(|error| StoreError::new("create", directory, error))?;
        }
        sync_directory(root).map_err(|error| StoreError::new("sync", root, error))?;
        Ok(layout)
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn temporary(&self, name: &str) -> PathBuf {
        self.temporary.join(name)
    }

    pub(super) fn corrupt(&self) -> &Path {
        &self.corrupt
    }

    pub(super) fn data(&self, key: &BlobKey) -> PathBuf {
        self.directory(key).join(file_name(key))
    }

    pub(super) fn sums(&self, key: &BlobKey) -> PathBuf {
        self.directory(key).join(file_name(key) + SUMS_SUFFIX)
    }

    /// Makes sure the directory of `key` exists and will after a crash.
    pub(super) fn make_directory(&self, key: &BlobKey) -> io::Result<PathBuf> {
        let directory = self.directory(key);
        if !directory.is_dir() {
            fs::create_dir_all(&directory)?;
            sync_directory(&self.blobs.join(key.digest.algorithm_name()))?;
            sync_directory(&self.blobs)?;
        }
        Ok(directory)
    }

    fn directory(&self, key: &BlobKey) -> PathBuf {
        let encoded = key.digest.encoded();
        let prefix = encoded.get(..2).unwrap_or(encoded);
        self.blobs.join(key.digest.algorithm_name()).join(prefix)
    }

    /// Lists the blobs, after tidying up what a crash may leave beside them.
    ///
    /// Checksums are renamed into place before data and removed after it: checksums alone are a commit or delete cut
    /// short, while data alone is damage.
    pub(super) fn scan(&self) -> Result<Found, StoreError> {
        let mut found = Found::default();
        for algorithm in entries(&self.blobs)? {
            for directory in entries(&algorithm)? {
                for path in entries(&directory)? {
                    let Some((key, is_sums)) = parse(&algorithm, &path) else {
                        tracing::warn!(path = %path.display(), "a file that is no blob lies among the blobs");
                        continue;
                    };
                    match is_sums {
                        true if !self.data(&key).exists() => remove(&path)?,
                        true => {}
                        false if !self.sums(&key).exists() => found.bare.push(key),
                        false => found.whole.push((key, length(&path)?)),
                    }
                }
            }
        }
        Ok(found)
    }
}

/// Removes a file; that it is gone already is fine.
pub(super) fn remove(path: &Path) -> Result<(), StoreError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(StoreError::new("remove", path, error)),
        _ => Ok(()),
    }
}

/// Makes creations, renames and removals in a directory durable.
pub(super) fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// The paths in a directory, sorted.
pub(super) fn entries(directory: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let list = || -> io::Result<Vec<PathBuf>> {
        let mut paths: Vec<_> = fs::read_dir(directory)?
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<Result<_, _>>()?;
        paths.sort();
        Ok(paths)
    };
    list().map_err(|error| StoreError::new("list", directory, error))
}

/// The name of a blob's data file; the algorithm is in its directory.
pub(super) fn file_name(key: &BlobKey) -> String {
    format!("{}.{}", key.digest.encoded(), key.generation)
}

fn length(path: &Path) -> Result<u64, StoreError> {
    let metadata = fs::metadata(path).map_err(|error| StoreError::new("stat", path, error))?;
    Ok(metadata.len())
}

fn parse(algorithm: &Path, path: &Path) -> Option<(BlobKey, bool)> {
    let algorithm = algorithm.file_name().and_then(OsStr::to_str)?;
    let name = path.file_name().and_then(OsStr::to_str)?;
    let (name, is_sums) = match name.strip_suffix(SUMS_SUFFIX) {
        Some(name) => (name, true),
        None => (name, false),
    };
    let (encoded, generation) = name.rsplit_once('.')?;
    let key = BlobKey {
        digest: format!("{algorithm}:{encoded}").parse().ok()?,
        generation: generation.parse().ok()?,
    };
    Some((key, is_sums))
}
