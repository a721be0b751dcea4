//! Snapshots whose transfer broke off, so that the next try need not send again what is here.
//!
//! Each lies in `<index>-<hash of its manifest>.part`: only the same snapshot, with the same files, goes on in it. At most
//! one is kept, beside those being filled. What lies in one is believed only after it was hashed again.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prost::Message;
use proto::v1 as pb;

use super::Manifest;
use super::directory::hash;
use super::writer::check_names;

const PARTIAL: &str = "part";

/// The partial snapshots below a directory.
#[derive(Debug)]
pub(super) struct Partials {
    root: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    leased: BTreeSet<PathBuf>,
    // The last answer given; it holds until somebody writes.
    checked: Option<Checked>,
}

#[derive(Debug)]
struct Checked {
    path: PathBuf,
    names: BTreeSet<String>,
}

/// The right to read or fill one partial snapshot, alone. Dropped, it leaves the directory for the next try.
pub(super) struct Lease {
    partials: Arc<Partials>,
    path: PathBuf,
}

impl Lease {
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.partials.state().leased.remove(&self.path);
    }
}

impl Partials {
    pub(super) fn new(root: PathBuf) -> Self {
        Partials {
            root,
            state: Mutex::default(),
        }
    }

    pub(super) fn is_partial(path: &Path) -> bool {
        path.extension().is_some_and(|extension| extension == PARTIAL)
    }

    /// Names of the files of the snapshot that an earlier try has brought whole. None while another try goes on.
    pub(super) fn check(self: &Arc<Self>, manifest: &Manifest) -> io::Result<Vec<String>> {
        check_names(manifest)?;
        let Some(lease) = self.lease(manifest) else {
            return Ok(Vec::new());
        };
        let mut names = BTreeSet::new();
        for file in &manifest.0.files {
            if is_whole(&lease.path, file)? {
                names.insert(file.name.clone());
            }
        }
        let answer = names.iter().cloned().collect();
        let path = lease.path.clone();
        self.state().checked = Some(Checked { path, names });
        Ok(answer)
    }

    /// A directory to go on in, with the files `kept` as the last check found them; others of no use any more are removed.
    /// `None` while another try goes on.
    ///
    /// # Errors
    /// When `kept` names a file that the last check did not find, or the disk fails.
    pub(super) fn begin(self: &Arc<Self>, manifest: &Manifest, kept: &BTreeSet<String>) -> io::Result<Option<Lease>> {
        check_names(manifest)?;
        let lease = self.lease(manifest);
        let checked = lease.as_ref().and_then(|lease| {
            let checked = self.state().checked.take();
            checked.filter(|checked| checked.path == lease.path)
        });
        let known = checked.map(|checked| checked.names).unwrap_or_default();
        if let Some(missing) = kept.difference(&known).next() {
            return Err(io::Error::other(format!("{missing} was left out, but is not here")));
        }
        if let Some(lease) = &lease {
            self.remove(|path| path != lease.path)?;
            fs::create_dir_all(&lease.path)?;
        }
        Ok(lease)
    }

    /// Removes those that a snapshot up to `index` has made useless, and all others but the newest.
    pub(super) fn trim(&self, index: u64) -> io::Result<()> {
        let newest = self.idle(&self.state())?.into_iter().max_by_key(|path| index_of(path));
        self.remove(|path| index_of(path) <= Some(index) || newest.as_deref() != Some(path))
    }

    fn lease(self: &Arc<Self>, manifest: &Manifest) -> Option<Lease> {
        let path = self.path(manifest);
        let is_free = self.state().leased.insert(path.clone());
        is_free.then(|| Lease {
            partials: Arc::clone(self),
            path,
        })
    }

    fn path(&self, manifest: &Manifest) -> PathBuf {
        let digest = oci::Digest::sha256(&manifest.0.encode_to_vec());
        self.root
            .join(format!("{}-{}.{PARTIAL}", manifest.index(), digest.encoded()))
    }

    fn idle(&self, state: &State) -> io::Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.root)? {
            let path = entry?.path();
            if Self::is_partial(&path) && !state.leased.contains(&path) {
                found.push(path);
            }
        }
        Ok(found)
    }

    fn remove(&self, is_useless: impl Fn(&Path) -> bool) -> io::Result<()> {
        // Held, so that none of them is leased meanwhile.
        let state = self.state();
        self.idle(&state)?
            .into_iter()
            .filter(|path| is_useless(path))
            .try_for_each(fs::remove_dir_all)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn index_of(path: &Path) -> Option<u64> {
    path.file_name()?.to_str()?.split('-').next()?.parse().ok()
}

/// Whether a file is as the manifest says, and durable.
fn is_whole(directory: &Path, expected: &pb::SnapshotFile) -> io::Result<bool> {
    let file = match File::open(directory.join(&expected.name)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    if file.metadata()?.len() != expected.size_bytes || hash(&file)?.1 != expected.sha256 {
        return Ok(false);
    }
    // Its writer may have died between the last byte and the sync.
    file.sync_all()?;
    Ok(true)
}
