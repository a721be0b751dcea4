//! Blobs: served from this node's disk, or from a fill that everyone who asks for the same blob shares.
//!
//! Coalesced by digest, authorised by repository: a repository gives out what its own manifests name, or what its source
//! confirmed once, however the bytes came to be here.

mod announce;
mod answer;
mod keeping;
mod plan;
mod proofs;
mod sources;

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use daemon::runtime::one_line;
use daemon::task::TaskSet;
use distribution::{BlobAnswer, Notes, Source, UnreadBlob};
use futures::TryStreamExt;
use meta::{Command, Link, view};
use oci::{Digest, MANIFEST_SIZE_BYTES_MAX, RawManifest, Repository};
use raft::MetaHandle;

use crate::asked::Asked;
use crate::blob_store::{BlobKey, BlobReader, BlobStat, BlobStore, ReadError};
use crate::control::Control;
use crate::fill::{FILLS_MAX, FillPlan, FillReader, FillStatus, Fills, GenerationSource};
use crate::peers::Peers;
use crate::pull_error::PullError;
use crate::recorder::Recorder;
use crate::sources::Sources;

use announce::Announcer;
use answer::{Elsewhere, FillAnswer, StoredAnswer};
pub use keeping::Kept;
use plan::{Plan, PlanParts, Scope};
use proofs::Proofs;
pub use sources::UPSTREAM;

/// Fills at which nothing more is fetched in the background: the other half is for those who wait.
const BACKGROUND_FILLS_MAX: usize = FILLS_MAX / 2;
/// How long a source may take to confirm that a repository has a blob that is here for another one.
const CONFIRM_PATIENCE: Duration = Duration::from_secs(5);
/// How long a source may take to tell a blob's length; a direct question may take as long.
const STAT_PATIENCE: Duration = Duration::from_secs(30);

/// What [`Blobs`] works with.
pub struct BlobParts {
    /// Where blobs lie.
    pub store: Arc<dyn BlobStore>,
    /// Fills in flight.
    pub fills: Fills,
    /// Names for what is stored here.
    pub generations: Arc<dyn GenerationSource>,
    /// The other nodes, and who owns what.
    pub peers: Peers,
    /// Source registries.
    pub sources: Arc<Sources>,
    /// The replicated state.
    pub ledger: MetaHandle,
    /// Takes what is learned.
    pub recorder: Recorder,
    /// Tells other nodes what to keep.
    pub control: Control,
    /// Where work that nobody waits for runs.
    pub tasks: TaskSet,
}

/// Serves and fetches blobs.
pub struct Blobs {
    parts: BlobParts,
    announcer: Announcer,
    proofs: Proofs,
}

impl Blobs {
    /// Puts the parts together.
    pub fn new(parts: BlobParts) -> Self {
        let tier = Arc::clone(parts.peers.tier());
        let announcer = Announcer::new(parts.control.clone(), tier, parts.tasks.clone());
        Self {
            parts,
            announcer,
            proofs: Proofs::default(),
        }
    }

    /// Answers a request for a blob of `repository`.
    ///
    /// # Errors
    /// [`PullError`]; [`PullError::NotFound`] if the source says so, or a peer asked for what this node does not hold.
    pub async fn answer(
        self: &Arc<Self>,
        repository: &Repository,
        digest: &Digest,
        asked: Asked,
    ) -> Result<BlobAnswer, PullError> {
        let held = self.find(digest).await;
        if asked.must_be_proven()
            && (held.is_some() || self.is_known(digest)? || self.is_fetched_for_another(repository, digest))
        {
            self.confirm(repository, digest).await?;
        }
        if let Some(stat) = held
            && let Some(reader) = self.open(&stat.key).await
        {
            let notes = Notes::from_source(Source::Local);
            let elsewhere = Elsewhere {
                blobs: Arc::clone(self),
                repository: repository.clone(),
                digest: digest.clone(),
            };
            let reader = Box::new(StoredAnswer::new(reader, stat.size_bytes, elsewhere));
            return Ok(BlobAnswer {
                digest: digest.clone(),
                size: Some(stat.size_bytes),
                notes,
                reader,
            });
        }
        let mut fill = self.attach(repository, digest, None, asked)?;
        // Not only its length: whoever has a next host is told within its patience that there is nothing to be had here.
        let size = fill.first_byte().await.map_err(answer::pull_error)?;
        if self
            .in_flight(digest)
            .is_some_and(|fill| fill.origin == repository.to_string())
        {
            self.proofs.note(repository, digest);
        }
        let notes = Notes::from_source(Source::Upstream);
        Ok(BlobAnswer {
            digest: digest.clone(),
            size,
            notes,
            reader: Box::new(FillAnswer::new(fill)),
        })
    }

    /// Says what there is to say of a blob, without fetching it.
    ///
    /// # Errors
    /// As [`Blobs::answer`].
    pub async fn stat(&self, repository: &Repository, digest: &Digest, asked: Asked) -> Result<BlobAnswer, PullError> {
        let in_flight = self.in_flight(digest);
        let here = self.find(digest).await.map(|stat| stat.size_bytes);
        let known = here
            .or(in_flight.and_then(|fill| fill.total_bytes))
            .or(self.known_size(digest)?);
        let (size, source) = match known {
            Some(size) => {
                if asked.must_be_proven() {
                    self.confirm(repository, digest).await?;
                }
                (Some(size), Source::Local)
            }
            None if !asked.may_ask_source() => return Err(PullError::NotFound),
            None => {
                let head = self.parts.sources.head_blob(repository, digest, STAT_PATIENCE).await?;
                (head.size_bytes, Source::Upstream)
            }
        };
        let (notes, reader) = (Notes::from_source(source), Box::new(UnreadBlob));
        Ok(BlobAnswer {
            digest: digest.clone(),
            size,
            notes,
            reader,
        })
    }

    /// Begins to read a blob that this disk turns out not to have from a node that holds a whole copy. Bytes that nobody
    /// has verified yet may not follow those of a stored copy.
    fn attach_to_copies(&self, repository: &Repository, digest: &Digest) -> Result<FillReader, PullError> {
        self.fill(repository, digest, None, Scope::COPIES)
    }

    /// A small blob of this node's disk, whole.
    pub async fn read_small(&self, digest: &Digest) -> Option<Bytes> {
        let stat = self
            .find(digest)
            .await
            .filter(|stat| stat.size_bytes <= MANIFEST_SIZE_BYTES_MAX as u64)?;
        let reader = self.open(&stat.key).await?;
        let whole = BytesMut::with_capacity(usize::try_from(stat.size_bytes).ok()?);
        let collected = reader
            .read(0..stat.size_bytes)
            .try_fold(whole, |mut whole, bytes| async move {
                whole.extend_from_slice(&bytes);
                Ok(whole)
            });
        collected.await.ok().map(BytesMut::freeze)
    }

    /// Remembers that `repository` gave out a manifest, which proves the blobs it names.
    pub fn prove(&self, repository: &Repository, raw: &RawManifest) {
        self.proofs.of_manifest(repository, raw);
    }

    /// What is being fetched now.
    pub fn fills(&self) -> Vec<FillStatus> {
        self.parts.fills.status()
    }

    /// Finds a blob on this node's disk.
    pub async fn find(&self, digest: &Digest) -> Option<BlobStat> {
        match self.parts.store.find(digest).await {
            Ok(found) => found,
            Err(error) => {
                tracing::warn!(digest = %digest, error = one_line(&error), "the disk does not answer for a blob");
                None
            }
        }
    }

    /// Whether a blob lies on this node's disk, looked at now: its file, its length and its checksums.
    pub async fn is_readable(&self, digest: &Digest) -> bool {
        match self.find(digest).await {
            Some(stat) => self.open(&stat.key).await.is_some(),
            None => false,
        }
    }

    /// Which of these blobs lie on this node's disk, looked at now. Nothing if the disk does not answer.
    pub async fn held(&self, digests: &[Digest]) -> Option<Vec<bool>> {
        let mut held = Vec::with_capacity(digests.len());
        for digest in digests {
            let found = self.parts.store.find(digest).await.ok()?;
            held.push(match found {
                Some(stat) => match self.parts.store.open(&stat.key).await {
                    Ok(_) => true,
                    Err(ReadError::NotFound(_) | ReadError::Corrupt { .. }) => false,
                    Err(error) => {
                        tracing::warn!(blob = %stat.key, error = one_line(&error), "a blob on this disk cannot be read");
                        return None;
                    }
                },
                None => false,
            });
        }
        Some(held)
    }

    /// Whether a blob is on its way through another repository, which says nothing of this one.
    fn is_fetched_for_another(&self, repository: &Repository, digest: &Digest) -> bool {
        self.in_flight(digest)
            .is_some_and(|fill| fill.origin != repository.to_string())
    }

    fn in_flight(&self, digest: &Digest) -> Option<FillStatus> {
        self.parts.fills.status_of(digest)
    }

    async fn open(&self, key: &BlobKey) -> Option<Box<dyn BlobReader>> {
        match self.parts.store.open(key).await {
            Ok(reader) => Some(reader),
            Err(ReadError::NotFound(_)) => None,
            Err(error) => {
                tracing::warn!(blob = %key, error = one_line(&error), "a blob on this disk cannot be read");
                None
            }
        }
    }

    fn attach(
        &self,
        repository: &Repository,
        digest: &Digest,
        size_bytes: Option<u64>,
        asked: Asked,
    ) -> Result<FillReader, PullError> {
        if !asked.may_ask_source() {
            // A fill that has nothing yet may be waiting for the very node that asks.
            let in_flight = self
                .in_flight(digest)
                .filter(|fill| fill.done_bytes > 0 || fill.source == UPSTREAM);
            let fill = in_flight.and_then(|_| self.parts.fills.attach_in_flight(digest));
            return fill.ok_or(PullError::NotFound);
        }
        let present = self.is_known(digest)?;
        let scope = Scope {
            present,
            owner: asked.may_ask_owner(),
            upstream: true,
            join: self.parts.peers.tier().has_come_back_lately() && self.is_proven(repository, digest)?,
        };
        self.fill(repository, digest, size_bytes, scope)
    }

    fn fill(
        &self,
        repository: &Repository,
        digest: &Digest,
        size_bytes: Option<u64>,
        scope: Scope,
    ) -> Result<FillReader, PullError> {
        let sources = Plan::new(PlanParts {
            peers: self.parts.peers.clone(),
            sources: Arc::clone(&self.parts.sources),
            announcer: self.announcer.clone(),
            repository: repository.clone(),
            digest: digest.clone(),
            size_bytes,
            scope,
        });
        let plan = FillPlan {
            origin: repository.to_string(),
            size_bytes,
            sources: Box::new(sources),
        };
        self.parts.fills.attach(digest, plan).map_err(answer::pull_error)
    }

    fn is_known(&self, digest: &Digest) -> Result<bool, PullError> {
        Ok(self.known_size(digest)?.is_some())
    }

    /// Length in bytes of a blob that the state says some node has.
    fn known_size(&self, digest: &Digest) -> Result<Option<u64>, PullError> {
        let blob =
            view::blob(&self.parts.ledger.local(), digest).map_err(|error| PullError::Internal(one_line(&error)))?;
        Ok(blob.filter(|blob| blob.present().is_some()).map(|blob| blob.size))
    }

    async fn confirm(&self, repository: &Repository, digest: &Digest) -> Result<(), PullError> {
        if self.is_proven(repository, digest)? {
            return Ok(());
        }
        self.parts
            .sources
            .head_blob(repository, digest, CONFIRM_PATIENCE)
            .await?;
        self.proofs.note(repository, digest);
        let link = Link {
            repository: repository.clone(),
            digest: digest.clone(),
        };
        self.parts.recorder.record(Command::Link(link));
        Ok(())
    }

    fn is_proven(&self, repository: &Repository, digest: &Digest) -> Result<bool, PullError> {
        if self.proofs.has(repository, digest) {
            return Ok(true);
        }
        let state = self.parts.ledger.local();
        let read = || match view::repository_id(&state, repository)? {
            Some(id) => view::is_linked(&state, id, digest),
            None => Ok(false),
        };
        read().map_err(|error: meta::ReadError| PullError::Internal(one_line(&error)))
    }
}
