//! What a fill knows, and what follows from it: who may have which bytes, and which bytes may go.
//!
//! Pure: no clock but the instants it is given, no waiting, no lock.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use tokio::time::Instant;

use crate::blob_store::BlobReader;
use crate::fill::FillPlan;
use crate::fill::error::FillError;
use crate::fill::window::Window;

/// Bytes at the end of a blob that no reader gets before the digest has been verified.
pub(in crate::fill) const TAIL_BYTES: u64 = 64 << 10;
/// Newest bytes kept in memory while the blob is being stored; what is older is read from the store.
const WINDOW_BYTES: u64 = 2 << 20;
/// The same while the blob cannot be stored, so that readers of different speed have some play.
pub(super) const UNSTORED_WINDOW_BYTES: u64 = 8 << 20;

/// The state of one fill.
pub(super) struct State {
    pub(super) total: Option<u64>,
    /// The length that a descriptor gives, whatever sources say.
    pub(super) announced: Option<u64>,
    pub(super) window: Window,
    /// What of the blob can be read from the store, while and after it is written.
    pub(super) stored: Option<Arc<dyn BlobReader>>,
    /// Bytes go into the store; `window` need only hold what is not readable there.
    pub(super) storing: bool,
    pub(super) phase: Phase,
    pub(super) failures: Vec<(String, FillError)>,
    pub(super) readers: BTreeMap<u64, Position>,
    pub(super) n_readers_ever: u64,
    pub(super) plans: VecDeque<FillPlan>,
    pub(super) origins: Vec<String>,
    pub(super) origin: String,
    pub(super) source: String,
}

/// Where a fill is in its course.
pub(super) enum Phase {
    /// Bytes arrive.
    Receiving,
    /// No plan is left and the end is near: nobody may join any more.
    Closing,
    Verified,
    Failed {
        error: FillError,
        at: Instant,
    },
}

/// Where a reader is.
#[derive(Clone, Copy)]
pub(super) struct Position {
    pub(super) next: u64,
    pub(super) lagged: bool,
}

/// What a reader gets at its position.
pub(in crate::fill) enum Given {
    Bytes(Bytes),
    /// Read this far from the store.
    Stored(Arc<dyn BlobReader>, u64),
    /// Nothing yet.
    Wait,
    End,
}

impl State {
    pub(super) fn new(plan: FillPlan) -> Self {
        Self {
            total: None,
            announced: None,
            window: Window::default(),
            stored: None,
            storing: true,
            phase: Phase::Receiving,
            failures: Vec::new(),
            readers: BTreeMap::new(),
            n_readers_ever: 0,
            origins: vec![plan.origin.clone()],
            plans: VecDeque::from([plan]),
            origin: String::new(),
            source: String::new(),
        }
    }

    pub(super) fn add_reader(&mut self) -> u64 {
        let id = self.n_readers_ever;
        self.n_readers_ever += 1;
        self.readers.insert(id, Position { next: 0, lagged: false });
        id
    }

    /// How many bytes readers of the whole blob may have.
    pub(super) fn shown_bytes(&self) -> u64 {
        let received = self.window.end();
        match (&self.phase, self.total) {
            (Phase::Verified, total) => total.unwrap_or(received),
            (_, Some(total)) => received.min(total.saturating_sub(TAIL_BYTES)),
            (_, None) => received.saturating_sub(TAIL_BYTES),
        }
    }

    pub(super) fn give(&self, at: u64, end: Option<u64>) -> Result<Given, FillError> {
        let verified = matches!(self.phase, Phase::Verified);
        let shown = self.shown_bytes();
        if verified && at > shown {
            return Err(FillError::OutOfRange { size_bytes: shown });
        }
        if (verified && at == shown) || Some(at) == end {
            return Ok(Given::End);
        }
        // No answer is complete before the digest is verified, an answer of a part neither.
        let end = end.map_or(shown, |end| if verified { end } else { end - 1 });
        let limit = shown.min(end);
        if at >= limit {
            return Ok(Given::Wait);
        }
        if let Some(bytes) = self.window.get(at, limit) {
            return Ok(Given::Bytes(bytes));
        }
        match &self.stored {
            Some(stored) if at < stored.readable_bytes() => {
                Ok(Given::Stored(Arc::clone(stored), limit.min(stored.readable_bytes())))
            }
            _ => Err(FillError::Lagged),
        }
    }

    fn readable_from_store(&self) -> u64 {
        self.stored.as_ref().map_or(0, |stored| stored.readable_bytes())
    }

    pub(super) fn reaches_back_to(&self, at: u64) -> bool {
        at >= self.window.start() || self.readable_from_store() >= self.window.start()
    }

    pub(super) fn trim(&mut self) {
        let (window_bytes, needed_from) = if self.storing {
            (WINDOW_BYTES, self.readable_from_store())
        } else {
            let next = self.readers.values().filter(|reader| !reader.lagged);
            let slowest = next.map(|reader| reader.next).min().unwrap_or(u64::MAX);
            (UNSTORED_WINDOW_BYTES, slowest.max(self.readable_from_store()))
        };
        self.window.shrink(window_bytes, needed_from);
    }

    pub(super) fn says_not_found(&self, origin: &str) -> bool {
        self.failures
            .iter()
            .any(|(of, error)| of == origin && error.is_not_found())
    }

    /// What a reader is told: what its own plan came to, if it was tried.
    pub(super) fn failure(&self, origin: &str, error: &FillError) -> FillError {
        let own = self.failures.iter().rev().find(|(of, _)| of == origin);
        own.map_or(error, |(_, own)| own).clone()
    }
}
