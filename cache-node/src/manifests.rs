//! Manifests by digest: from the state, from their owner, from their source; and what is learned on the way.

use daemon::runtime::one_line;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use distribution::Source;
use lru::LruCache;
use meta::{
    Candidate, Command, CommitBlob, MANIFEST_INLINE_BYTES_MAX, ManifestContent, ManifestReferences, PutManifest, view,
};
use oci::{Digest, ManifestReference, MediaType, RawManifest, Repository};
use raft::MetaHandle;
use tokio::time::Instant;

use crate::asked::Asked;
use crate::blobs::Blobs;
use crate::completion::Completion;
use crate::peers::{PeerAnswer, Peers};
use crate::pull_error::PullError;
use crate::recorder::Recorder;
use crate::sources::Sources;
use crate::tier::Seat;

/// Manifests kept in memory: they bridge the time until the state has them, and spare it reads. Most are under 10 KiB.
const RECENT_MAX: NonZeroUsize = NonZeroUsize::new(512).expect("512 is not zero");
/// Larger manifests are not kept in memory.
const RECENT_BYTES_MAX: usize = 64 << 10;

/// How often it is looked whether the cluster knows of a manifest that is served from memory.
const LOOK_AGAIN_AFTER: Duration = Duration::from_secs(10);

/// A manifest, and where it came from just now.
#[derive(Debug, Clone)]
pub struct FoundManifest {
    /// The manifest.
    pub raw: RawManifest,
    /// Where it came from.
    pub source: Source,
}

/// A manifest in memory.
struct Recent {
    raw: RawManifest,
    /// The cluster knows of it.
    is_recorded: bool,
    looked_at: Instant,
}

impl Recent {
    /// Whether to look now if the cluster knows of it by now.
    fn is_due(&mut self, now: Instant) -> bool {
        let is_due = !self.is_recorded && now.duration_since(self.looked_at) >= LOOK_AGAIN_AFTER;
        if is_due {
            self.looked_at = now;
        }
        is_due
    }
}

/// A manifest as the state has it.
struct Recorded {
    media_type: MediaType,
    /// Absent where they lie in the blob store.
    bytes: Option<Vec<u8>>,
}

/// Finds manifests by digest.
pub struct Manifests {
    ledger: MetaHandle,
    peers: Peers,
    sources: Arc<Sources>,
    blobs: Arc<Blobs>,
    recorder: Recorder,
    completion: Completion,
    recent: Mutex<LruCache<(Repository, Digest), Recent>>,
}

/// What [`Manifests`] works with.
pub struct ManifestParts {
    /// The replicated state.
    pub ledger: MetaHandle,
    /// Who owns what, and how to ask them.
    pub peers: Peers,
    /// Asks source registries.
    pub sources: Arc<Sources>,
    /// Holds manifests too large for the state.
    pub blobs: Arc<Blobs>,
    /// Takes what is learned.
    pub recorder: Recorder,
    /// Fetches what a manifest names.
    pub completion: Completion,
}

impl Manifests {
    /// Puts the parts together.
    pub fn new(parts: ManifestParts) -> Self {
        let ManifestParts {
            ledger,
            peers,
            sources,
            blobs,
            recorder,
            completion,
        } = parts;
        let recent = Mutex::new(LruCache::new(RECENT_MAX));
        Self {
            ledger,
            peers,
            sources,
            blobs,
            recorder,
            completion,
            recent,
        }
    }

    /// Finds a manifest that `repository` may give out.
    ///
    /// # Errors
    /// [`PullError`]; [`PullError::NotFound`] only if the source says so.
    pub async fn by_digest(
        &self,
        repository: &Repository,
        digest: &Digest,
        asked: Asked,
    ) -> Result<FoundManifest, PullError> {
        if let Some(raw) = self.held(repository, digest).await? {
            return Ok(FoundManifest {
                raw,
                source: Source::Local,
            });
        }
        if asked.may_ask_owner()
            && let Seat::Peer(owner) = self.peers.tier().owner(digest.as_str())
            && let Some(answer) = self.ask_owner(owner, repository, digest, asked).await
        {
            return answer;
        }
        if !asked.may_ask_source() {
            return Err(PullError::NotFound);
        }
        let raw = self.sources.fetch_manifest(repository, digest).await?;
        self.learned(repository, &raw, None);
        Ok(FoundManifest {
            raw,
            source: Source::Upstream,
        })
    }

    /// A manifest this node can give out without asking anyone.
    ///
    /// # Errors
    /// [`PullError::Internal`] if the state cannot be read.
    pub async fn held(&self, repository: &Repository, digest: &Digest) -> Result<Option<RawManifest>, PullError> {
        let key = (repository.clone(), digest.clone());
        let recent = self
            .lock_recent()
            .get_mut(&key)
            .map(|recent| (recent.raw.clone(), recent.is_due(Instant::now())));
        if let Some((raw, is_due)) = recent {
            if is_due {
                self.see_recorded(repository, &raw)?;
            }
            return Ok(Some(raw));
        }
        let Some(Recorded { media_type, bytes }) = self.recorded(repository, digest)? else {
            return Ok(None);
        };
        let bytes = match bytes {
            Some(bytes) => bytes.into(),
            None => match self.blobs.read_small(digest).await {
                Some(bytes) => bytes,
                None => return Ok(None),
            },
        };
        let raw = match RawManifest::verified(bytes, media_type, digest) {
            Ok(raw) => raw,
            Err(error) => {
                tracing::error!(digest = %digest, error = one_line(&error), "a recorded manifest is not its digest's");
                return Ok(None);
            }
        };
        self.remember(repository, &raw, true);
        Ok(Some(raw))
    }

    /// Proposes a manifest again that is served from memory and that the cluster does not know of: there was no quorum
    /// when it was learned, or its proposal was lost.
    fn see_recorded(&self, repository: &Repository, raw: &RawManifest) -> Result<(), PullError> {
        if self.recorded(repository, raw.digest())?.is_some() {
            self.remember(repository, raw, true);
        } else {
            self.learned(repository, raw, None);
        }
        Ok(())
    }

    fn recorded(&self, repository: &Repository, digest: &Digest) -> Result<Option<Recorded>, PullError> {
        let state = self.ledger.local();
        let read = || {
            let Some(id) = view::repository_id(&state, repository)? else {
                return Ok(None);
            };
            if !view::is_linked(&state, id, digest)? {
                return Ok(None);
            }
            let Some(record) = view::manifest(&state, digest)? else {
                return Ok(None);
            };
            let bytes = if record.inline {
                view::manifest_bytes(&state, digest)?
            } else {
                None
            };
            Ok(Some(Recorded {
                media_type: record.media_type,
                bytes,
            }))
        };
        read().map_err(|error: meta::ReadError| PullError::Internal(one_line(&error)))
    }

    async fn ask_owner(
        &self,
        owner: u32,
        repository: &Repository,
        digest: &Digest,
        asked: Asked,
    ) -> Option<Result<FoundManifest, PullError>> {
        let reference = ManifestReference::Digest(digest.clone());
        match self.peers.manifest(owner, repository, &reference, asked).await {
            PeerAnswer::Found((raw, _)) => {
                self.remember(repository, &raw, false);
                Some(Ok(FoundManifest {
                    raw,
                    source: Source::Peer,
                }))
            }
            PeerAnswer::Refused(error) => Some(Err(error)),
            PeerAnswer::Unable(why) => {
                tracing::debug!(peer = owner, digest = %digest, why, "owner could not give a manifest");
                None
            }
        }
    }

    /// Takes in a manifest that `repository` gave out: serves it from now on, and sees to it that the cluster does.
    ///
    /// `candidate` names the tag it was found under.
    pub fn learned(&self, repository: &Repository, raw: &RawManifest, candidate: Option<Candidate>) {
        self.remember(repository, raw, false);
        if raw.bytes().len() <= MANIFEST_INLINE_BYTES_MAX {
            let content = ManifestContent::Inline {
                bytes: raw.bytes().to_vec(),
            };
            self.recorder.record(put(repository, raw, content, candidate));
        } else if let Ok(manifest) = raw.parse() {
            let references = ManifestReferences::of(&manifest);
            let content = ManifestContent::Blob {
                size: raw.bytes().len() as u64,
                references,
            };
            self.keep_large(repository, raw, put(repository, raw, content, candidate));
        }
        self.completion.offer(repository, raw.digest());
    }

    fn keep_large(&self, repository: &Repository, raw: &RawManifest, then: Command) {
        let (recorder, repository, raw) = (self.recorder.clone(), repository.clone(), raw.clone());
        self.blobs
            .store_small(raw.digest().clone(), raw.bytes().clone(), move |stored| {
                let commit = CommitBlob {
                    digest: raw.digest().clone(),
                    size: raw.bytes().len() as u64,
                    generation: stored,
                    repository,
                };
                recorder.record(Command::CommitBlob(commit));
                recorder.record(then);
            });
    }

    fn remember(&self, repository: &Repository, raw: &RawManifest, is_recorded: bool) {
        self.blobs.prove(repository, raw);
        if raw.bytes().len() <= RECENT_BYTES_MAX {
            let recent = Recent {
                raw: raw.clone(),
                is_recorded,
                looked_at: Instant::now(),
            };
            self.lock_recent()
                .put((repository.clone(), raw.digest().clone()), recent);
        }
    }

    fn lock_recent(&self) -> std::sync::MutexGuard<'_, LruCache<(Repository, Digest), Recent>> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn put(
    repository: &Repository,
    raw: &RawManifest,
    content: ManifestContent,
    candidate_of: Option<Candidate>,
) -> Command {
    Command::PutManifest(PutManifest {
        repository: repository.clone(),
        digest: raw.digest().clone(),
        media_type: raw.media_type().clone(),
        content,
        candidate_of,
    })
}
