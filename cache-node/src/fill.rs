//! A miss becomes a blob: fetched once, streamed to everyone who waits for it, verified, committed.
//!
//! A fill belongs to nobody's connection. Readers attach to it, at any time and any number, and stream from the first
//! byte or from an offset as bytes land; one that hangs up changes nothing. When a source fails the fill goes on with
//! the next one from the bytes it has. No answer is complete before the digest has been verified, and on a mismatch
//! every answer ends short and nothing is kept. A full disk ends the storing, not the streaming.
//!
//! Which source is asked is the caller's decision ([`SourcePlan`]), and so is who may have the blob.

mod error;
mod feed;
mod flight;
mod intake;
mod plans;
mod reader;
mod source;
mod task;
mod window;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use daemon::task::TaskSet;
use meta::Gen;
use oci::Digest;
use tokio::sync::Semaphore;

use self::flight::Flight;
use self::task::FillTask;
use crate::blob_store::{BlobStat, BlobStore};

pub use error::FillError;
pub use reader::{FillReader, FillStream};
pub use source::{Source, SourceError, SourceFailure, SourcePlan, SourceStream};

/// Failed fills that are remembered for a moment, at most.
const REMEMBERED_MAX: usize = 1024;

/// Fills in flight in one node where nothing else is said. Each holds a file, a connection and a few MiB.
pub const FILLS_MAX: usize = 256;

/// Bounds of [`Fills`].
#[derive(Clone, Copy, Debug)]
pub struct FillLimits {
    /// Fills in flight. Each holds a few MiB of memory and a connection to a source.
    pub fills_max: usize,
    /// A source that makes no progress for this long is given up.
    pub no_progress: Duration,
    /// How long "there is no such blob" answers whoever asks for the same repository's blob later.
    pub not_found_kept_for: Duration,
    /// While the blob cannot be stored: how long one reader may keep all others waiting.
    pub slow_reader: Duration,
}

impl Default for FillLimits {
    fn default() -> Self {
        Self {
            fills_max: FILLS_MAX,
            no_progress: Duration::from_secs(30),
            not_found_kept_for: Duration::from_secs(1),
            slow_reader: Duration::from_secs(10),
        }
    }
}

/// Makes generations that no other storing has or will have.
pub trait GenerationSource: Send + Sync + 'static {
    /// The next one.
    fn next(&self) -> Gen;
}

/// Hears of blobs that have been stored.
#[async_trait]
pub trait CommittedSink: Send + Sync + 'static {
    /// The store answers for this blob from now on. Runs in the fill's task: a slow sink holds up nobody.
    async fn committed(&self, filled: Filled);
}

/// A fill that was stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filled {
    /// The stored copy.
    pub blob: BlobStat,
    /// Label of the source that gave the last byte.
    pub source: String,
    /// Origin of the plan that led to it.
    pub origin: String,
}

/// How a blob can be got, for one who wants it.
pub struct FillPlan {
    /// On whose behalf, such as `docker.io/library/nginx`: what one origin's sources say counts for that origin only.
    pub origin: String,
    /// Length in bytes as the descriptor says. A source that says otherwise is not used.
    pub size_bytes: Option<u64>,
    /// The sources.
    pub sources: Box<dyn SourcePlan>,
}

/// A fill in flight, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FillStatus {
    /// What is being fetched.
    pub digest: Digest,
    /// Bytes received.
    pub done_bytes: u64,
    /// Length of the blob, as far as known.
    pub total_bytes: Option<u64>,
    /// Origin of the plan in use.
    pub origin: String,
    /// Label of the current source; empty before the first.
    pub source: String,
    /// Since when.
    pub running_for: Duration,
    /// Readers attached.
    pub n_readers: usize,
    /// `false` while it is only streamed because it cannot be stored.
    pub storing: bool,
}

/// All fills of this process: one in flight per digest. Cheap to clone.
#[derive(Clone)]
pub struct Fills {
    shared: Arc<Shared>,
}

struct Shared {
    store: Arc<dyn BlobStore>,
    generations: Arc<dyn GenerationSource>,
    sink: Arc<dyn CommittedSink>,
    tasks: TaskSet,
    limits: FillLimits,
    slots: Arc<Semaphore>,
    flights: Mutex<HashMap<Digest, Arc<Flight>>>,
}

impl Fills {
    /// Makes the fills of `store`. They run in `tasks`; once its stop token is cancelled each ends with its last reader.
    pub fn new(
        store: Arc<dyn BlobStore>,
        generations: Arc<dyn GenerationSource>,
        sink: Arc<dyn CommittedSink>,
        tasks: TaskSet,
        limits: FillLimits,
    ) -> Self {
        let shared = Shared {
            store,
            generations,
            sink,
            tasks,
            limits,
            slots: Arc::new(Semaphore::new(limits.fills_max)),
            flights: Mutex::default(),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Attaches to the fill of `digest`, and starts it if there is none.
    ///
    /// A plan that comes second is used if those before it fail, so that nobody is refused a blob because somebody
    /// else's repository does not have it. A blob that has meanwhile been stored is read from the store.
    ///
    /// # Errors
    /// [`FillError::Busy`] at the bound of fills in flight. All else is the reader's to tell.
    pub fn attach(&self, digest: &Digest, plan: FillPlan) -> Result<FillReader, FillError> {
        let mut flights = self.shared.lock();
        let origin = plan.origin.clone();
        let plan = match flights.get(digest) {
            Some(flight) => match flight.join(plan, self.shared.limits.not_found_kept_for) {
                Ok(id) => return Ok(FillReader::new(Arc::clone(flight), id, origin)),
                Err(plan) => plan,
            },
            None => plan,
        };
        let slot = Arc::clone(&self.shared.slots).try_acquire_owned();
        let slot = slot.map_err(|_| FillError::Busy)?;
        let flight = Arc::new(Flight::new(digest.clone(), plan));
        let id = flight.join_in_flight().ok_or(FillError::Stopped)?;
        flights.insert(digest.clone(), Arc::clone(&flight));
        drop(flights);
        let task = FillTask::new(Arc::clone(&self.shared), Arc::clone(&flight));
        self.shared.tasks.spawn("fill", task.run(slot));
        Ok(FillReader::new(flight, id, origin))
    }

    /// Attaches to the fill of `digest` if one is in flight; starts none.
    pub fn attach_in_flight(&self, digest: &Digest) -> Option<FillReader> {
        let flight = self.shared.lock().get(digest).cloned()?;
        let id = flight.join_in_flight()?;
        Some(FillReader::new(flight, id, String::new()))
    }

    /// The fill of `digest`, if one is in flight.
    pub fn status_of(&self, digest: &Digest) -> Option<FillStatus> {
        let flight = self.shared.lock().get(digest).cloned()?;
        (!flight.is_failed()).then(|| flight.status())
    }

    /// Fills in flight, in the order of their digests.
    pub fn status(&self) -> Vec<FillStatus> {
        let flights: Vec<_> = self.shared.lock().values().cloned().collect();
        let in_flight = flights.iter().filter(|flight| !flight.is_failed());
        let mut all: Vec<_> = in_flight.map(|flight| flight.status()).collect();
        all.sort_by(|a, b| a.digest.cmp(&b.digest));
        all
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, HashMap<Digest, Arc<Flight>>> {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a flight off the map, unless another one has its place already.
    fn forget(&self, flight: &Arc<Flight>) {
        let mut flights = self.lock();
        if flights
            .get(&flight.digest)
            .is_some_and(|there| Arc::ptr_eq(there, flight))
        {
            flights.remove(&flight.digest);
        }
    }

    fn can_remember_more(&self) -> bool {
        self.lock().len() < self.limits.fills_max.saturating_add(REMEMBERED_MAX)
    }
}

#[cfg(test)]
mod tests;
