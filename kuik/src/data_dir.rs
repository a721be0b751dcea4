//! The directory that keeps a cluster of `kuik up` between runs, and the lock that gives it to one run at a time.
//!
//! ```text
//! DIR/lock               held by the running `kuik up`; holds its process id
//! DIR/cluster.toml       who is in the cluster and where (cluster.rs)
//! DIR/node-0/            data of a node, its own affair
//! DIR/config/node-0.toml what a child was started with; written anew at each start
//! DIR/tls/               authority, certificates, keys
//! DIR/log/node-0.log     what a child logged
//! ```

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Only who runs the cluster may look in.
const DIRECTORY_MODE: u32 = 0o700;
const SECRET_FILE_MODE: u32 = 0o600;
const FILE_MODE: u32 = 0o644;

/// Why the data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DataDirError {
    #[error("no data directory: give one with --data DIR, or set HOME")]
    NoDefault,
    #[error("{} {}", action, path.display())]
    Io {
        action: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error(
        "{} is in use by another kuik up (process {pid}): stop it, or give another directory with --data",
        path.display()
    )]
    InUse { path: PathBuf, pid: String },
}

/// Paths inside a data directory. Holding one says nothing about the lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DataDir {
    root: PathBuf,
}

/// Held for as long as this run owns the directory. The kernel lets go of it when the process ends, however.
#[derive(Debug)]
pub(crate) struct DataDirLock {
    _file: File,
}

impl DataDir {
    /// The directory asked for, or `kuik` in the XDG data directory.
    pub(crate) fn find(asked: Option<PathBuf>) -> Result<Self, DataDirError> {
        let variable = |name| {
            std::env::var_os(name)
                .filter(|value| !value.is_empty())
                .map(PathBuf::from)
        };
        let default = || {
            let data = variable("XDG_DATA_HOME").filter(|path| path.is_absolute());
            let data = data.or_else(|| variable("HOME").map(|home| home.join(".local/share")));
            data.map(|data| data.join("kuik"))
        };
        let root = asked.or_else(default).ok_or(DataDirError::NoDefault)?;
        let absolute = std::path::absolute(&root);
        absolute
            .map(|root| Self { root })
            .map_err(|source| io_error("find", &root, source))
    }

    /// Makes what is missing and takes the lock.
    pub(crate) fn open(&self) -> Result<DataDirLock, DataDirError> {
        for directory in [self.root.clone(), self.config_dir(), self.tls_dir(), self.log_dir()] {
            let made = DirBuilder::new()
                .recursive(true)
                .mode(DIRECTORY_MODE)
                .create(&directory);
            made.map_err(|source| io_error("create directory", &directory, source))?;
        }
        let path = self.root.join("lock");
        self.lock(&path).map_err(|error| match error {
            TryLockError::WouldBlock => DataDirError::InUse {
                path: self.root.clone(),
                pid: read_pid(&path),
            },
            TryLockError::Error(source) => io_error("lock", &path, source),
        })
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn cluster_file(&self) -> PathBuf {
        self.root.join("cluster.toml")
    }

    pub(crate) fn node_data(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    pub(crate) fn config_file(&self, name: &str) -> PathBuf {
        self.config_dir().join(format!("{name}.toml"))
    }

    pub(crate) fn log_file(&self, name: &str) -> PathBuf {
        self.log_dir().join(format!("{name}.log"))
    }

    pub(crate) fn tls_dir(&self) -> PathBuf {
        self.root.join("tls")
    }

    fn config_dir(&self) -> PathBuf {
        self.root.join("config")
    }

    fn log_dir(&self) -> PathBuf {
        self.root.join("log")
    }

    fn lock(&self, path: &Path) -> Result<DataDirLock, TryLockError> {
        let opened = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path);
        let mut file = opened.map_err(TryLockError::Error)?;
        file.try_lock()?;
        let pid = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
        pid.map_err(TryLockError::Error)?;
        Ok(DataDirLock { _file: file })
    }
}

fn read_pid(path: &Path) -> String {
    let mut pid = String::new();
    let read = File::open(path).and_then(|file| file.take(16).read_to_string(&mut pid));
    match read {
        Ok(_) if !pid.trim().is_empty() => pid.trim().to_owned(),
        Ok(_) | Err(_) => "unknown".to_owned(),
    }
}

/// Puts `content` at `path`, all at once: a reader sees the old file or the new one.
pub(crate) fn write_whole(path: &Path, content: &str) -> Result<(), DataDirError> {
    write_with_mode(path, content, FILE_MODE)
}

/// As [`write_whole`], for what nobody else may read.
pub(crate) fn write_secret(path: &Path, content: &str) -> Result<(), DataDirError> {
    write_with_mode(path, content, SECRET_FILE_MODE)
}

/// Removes a file; one that is gone already is as good.
pub(crate) fn remove_if_there(path: &Path) -> Result<(), DataDirError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error("remove", path, error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn write_with_mode(path: &Path, content: &str, mode: u32) -> Result<(), DataDirError> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(format!(".{}.tmp", std::process::id()));
    let temporary = PathBuf::from(temporary);
    let written = write_new(&temporary, content, mode).and_then(|()| std::fs::rename(&temporary, path));
    written.map_err(|source| {
        // The old file is untouched; what is left of the new one is of no use to anyone.
        let _gone = std::fs::remove_file(&temporary);
        io_error("write", path, source)
    })
}

fn write_new(path: &Path, content: &str, mode: u32) -> io::Result<()> {
    // What a run that was killed left of this name.
    if path.exists() {
        std::fs::remove_file(path)?;
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(content.as_bytes())?;
    file.sync_all()
}

pub(crate) fn io_error(action: &'static str, path: &Path, source: io::Error) -> DataDirError {
    let path = path.to_owned();
    DataDirError::Io { action, path, source }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn second_run_is_refused_and_told_who_holds_the_directory() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::find(Some(dir.path().join("deep/kuik"))).unwrap();
        let lock = data.open().unwrap();
        let refused = data.open().unwrap_err().to_string();
        assert!(
            refused.contains(&format!("process {}", std::process::id())),
            "{refused}"
        );
        drop(lock);
        data.open().unwrap();
    }

    #[test]
    fn secrets_are_for_the_owner_only_and_replaced_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key.pem");
        write_secret(&path, "old").unwrap();
        write_secret(&path, "new").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "new");
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, SECRET_FILE_MODE);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
