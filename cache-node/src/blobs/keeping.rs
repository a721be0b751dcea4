//! Keeping blobs in the background: what nobody waits for, and what is in memory already.

use std::sync::Arc;

use bytes::Bytes;
use daemon::runtime::one_line;
use meta::{Command, CommitBlob, Gen};
use oci::{Digest, Repository};

use super::plan::Scope;
use super::{BACKGROUND_FILLS_MAX, Blobs};
use crate::asked::Asked;
use crate::blob_store::{BlobKey, BlobStat, BlobStore, WriteError};
use crate::tier::{Ordinal, Seat};

/// What came of asking this node to keep a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// It is on the disk.
    Held,
    /// It is being fetched.
    Filling,
    /// The disk has no room for it.
    NoRoom,
    /// Its source asks for patience.
    Later,
}

impl Blobs {
    /// Fetches a blob in the background unless it is here or on its way.
    pub fn keep(self: &Arc<Self>, repository: &Repository, digest: &Digest, size_bytes: Option<u64>) {
        let (blobs, repository, digest) = (Arc::clone(self), repository.clone(), digest.clone());
        self.parts.tasks.spawn_request(async move {
            blobs.keep_if_missing(&repository, &digest, size_bytes).await;
        });
    }

    /// Says whether a blob is here, and begins to fetch it if not.
    pub async fn keep_if_missing(&self, repository: &Repository, digest: &Digest, size_bytes: Option<u64>) -> Kept {
        if let Some(stat) = self.find(digest).await {
            self.propose_if_unknown(repository, stat);
            return Kept::Held;
        }
        if self.fills().len() >= BACKGROUND_FILLS_MAX {
            return Kept::Filling;
        }
        if !self.has_room(size_bytes).await {
            return Kept::NoRoom;
        }
        if self.must_wait(repository, digest) {
            return Kept::Later;
        }
        // The fill goes on without its reader.
        if let Err(error) = self.attach(repository, digest, size_bytes, Asked::by_this_node()) {
            tracing::debug!(digest = %digest, error = one_line(&error), "a blob is not fetched now");
        }
        Kept::Filling
    }

    /// Says whether a blob of that many bytes fits on the disk. One that cannot be measured is left to the write to judge.
    pub async fn has_room(&self, size_bytes: Option<u64>) -> bool {
        let has_room = self.parts.store.has_room(size_bytes.unwrap_or(1).max(1)).await;
        has_room.unwrap_or(true)
    }

    /// Whether this node would have to ask the source, and its rate limit is for those who wait.
    fn must_wait(&self, repository: &Repository, digest: &Digest) -> bool {
        let asks_source = self.parts.peers.tier().owner(digest.as_str()) == Seat::Own
            && self.in_flight(digest).is_none()
            && self.is_known(digest).is_ok_and(|known| !known);
        asks_source && !self.parts.sources.allows_background(&repository.host)
    }

    /// The node that is to fetch a blob, if its disk has no room for it.
    pub async fn owner_without_room(
        &self,
        repository: &Repository,
        digest: &Digest,
        size_bytes: u64,
    ) -> Option<Ordinal> {
        let tier = self.parts.peers.tier();
        let owner = match tier.owner(digest.as_str()) {
            Seat::Own => return (!self.has_room(Some(size_bytes)).await).then(|| tier.own()),
            Seat::Peer(owner) => owner,
        };
        let wanted = [(digest.clone(), Some(size_bytes))];
        let reply = self.parts.control.keep(owner, repository, &wanted).await.ok()?;
        (reply.no_room > 0).then_some(owner)
    }

    /// Begins to copy a blob from whichever node holds it, unless it is here or on its way.
    pub async fn copy_if_missing(&self, repository: &Repository, digest: &Digest, size_bytes: u64) -> Kept {
        if self.find(digest).await.is_some() {
            return Kept::Held;
        }
        if !self.has_room(Some(size_bytes)).await {
            return Kept::NoRoom;
        }
        if let Err(error) = self.fill(repository, digest, Some(size_bytes), Scope::COPIES) {
            tracing::debug!(digest = %digest, error = one_line(&error), "a blob is not copied now");
        }
        Kept::Filling
    }

    /// Tells the cluster of a blob that lies here and that it does not know of: its proposal was lost.
    fn propose_if_unknown(&self, repository: &Repository, stat: BlobStat) {
        if self.is_known(&stat.key.digest).is_ok_and(|known| !known) {
            self.parts.recorder.record(Command::CommitBlob(CommitBlob {
                digest: stat.key.digest,
                size: stat.size_bytes,
                generation: stat.key.generation,
                repository: repository.clone(),
            }));
        }
    }

    /// Stores bytes that are in memory already, in the background, and then calls `stored`.
    pub fn store_small(&self, digest: Digest, bytes: Bytes, stored: impl FnOnce(Gen) + Send + 'static) {
        let (store, generation) = (Arc::clone(&self.parts.store), self.parts.generations.next());
        self.parts.tasks.spawn_request(async move {
            let key = BlobKey { digest, generation };
            match store_whole(store.as_ref(), &key, bytes).await {
                Ok(()) => stored(generation),
                Err(error) => tracing::warn!(blob = %key, error = one_line(&error), "a manifest is not stored"),
            }
        });
    }
}

async fn store_whole(store: &dyn BlobStore, key: &BlobKey, bytes: Bytes) -> Result<(), WriteError> {
    let mut writer = store.begin_write(key, Some(bytes.len() as u64)).await?;
    writer.append(vec![bytes]).await?;
    if let Ok(verified) = writer.verify() {
        verified.commit().await?;
    }
    Ok(())
}
