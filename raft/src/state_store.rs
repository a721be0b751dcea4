//! Port [`StateStore`]: where the replicated state of one node lives.

use std::collections::BTreeSet;
use std::fmt;
use std::io;

use bytes::Bytes;
use meta::{Family, Mutation, Read, ReadError};

use crate::snapshot::{Manifest, Snapshot, SnapshotWriter};

/// A store for the state.
///
/// An adapter must guarantee:
/// - [`commit`](StateStore::commit) makes the mutations and the applied record visible at once, all or none. After a
///   crash, what is found is the state after some earlier commit, never a mix of two.
/// - What a snapshot holds stays durable once [`seal`](StateStore::seal) or [`install`](StateStore::install) returned.
/// - Only one caller at a time commits, checkpoints or installs; reads go on beside it.
pub trait StateStore: Send + Sync + 'static {
    /// Whether calls may block on a device, and so must stay off the async threads.
    const BLOCKING: bool;
    /// Reads whatever was committed last.
    type Latest: Read;
    /// A point in time on its way to become a snapshot.
    type Checkpoint: Send + Sync + 'static;

    /// The applied record of the last commit, if there was one.
    fn applied(&self) -> io::Result<Option<Bytes>>;

    /// A reader for who applies entries.
    fn latest(&self) -> Self::Latest;

    /// A view that later commits do not change.
    fn view(&self) -> LocalView;

    /// Carries out `mutations`, each record at most once, together with the applied record.
    fn commit(&self, mutations: Vec<Mutation>, applied: Bytes) -> io::Result<()>;

    /// Fixes the state as it is now; quick, since nothing is applied meanwhile.
    fn checkpoint(&self, manifest: Manifest) -> io::Result<Self::Checkpoint>;

    /// Makes a checkpoint the current snapshot, and lets the older one go.
    fn seal(&self, checkpoint: Self::Checkpoint) -> io::Result<Snapshot>;

    /// The newest snapshot, if any.
    fn current_snapshot(&self) -> Option<Snapshot>;

    /// Names of the files of another node's snapshot that are here, whole, since an earlier transfer of it broke off.
    fn kept(&self, manifest: &Manifest) -> io::Result<Vec<String>>;

    /// Starts to take in a snapshot of another node. The files `kept` will not come: the last answer of
    /// [`kept`](StateStore::kept) for this snapshot must have named them.
    fn receive(&self, manifest: Manifest, kept: BTreeSet<String>) -> io::Result<SnapshotWriter>;

    /// Replaces the state by that of `snapshot`, in one step, and makes it the current snapshot.
    fn install(&self, snapshot: &Snapshot) -> io::Result<()>;
}

/// The state of this node as it was at one moment.
pub struct LocalView(Box<dyn Read + Send + Sync>);

impl LocalView {
    pub(crate) fn new(read: impl Read + Send + Sync + 'static) -> Self {
        LocalView(Box::new(read))
    }
}

impl fmt::Debug for LocalView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LocalView")
    }
}

impl Read for LocalView {
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
