//! One fill as its readers see it: how far it is, what they may have, and where each of them is.
//!
//! Whoever changes it does so under one short lock and then wakes who waits; nothing here waits itself.

mod state;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use oci::Digest;
use tokio::sync::watch;
use tokio::time::Instant;

use self::state::{Phase, Position, State, UNSTORED_WINDOW_BYTES};
use super::error::FillError;
use super::window::Window;
use super::{FillPlan, FillStatus};
use crate::blob_store::BlobReader;

pub(super) use self::state::Given;
#[cfg(test)]
pub(super) use self::state::TAIL_BYTES;

/// Plans of other repositories that wait for the first one to fail. More than a few would only repeat it.
const PLANS_MAX: usize = 8;

/// A fill in flight, shared by its task and its readers.
pub(super) struct Flight {
    pub(super) digest: Digest,
    started: Instant,
    state: Mutex<State>,
    changed: watch::Sender<()>,
    readers_changed: watch::Sender<()>,
}

/// Whether more bytes fit, where readers set the pace.
pub(super) enum Room {
    Free,
    Full,
    NoReaders,
}

impl Flight {
    pub(super) fn new(digest: Digest, plan: FillPlan) -> Self {
        Self {
            digest,
            started: Instant::now(),
            state: Mutex::new(State::new(plan)),
            changed: watch::Sender::new(()),
            readers_changed: watch::Sender::new(()),
        }
    }

    pub(super) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    pub(super) fn reader_changes(&self) -> watch::Receiver<()> {
        self.readers_changed.subscribe()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.lock());
        self.changed.send_replace(());
        result
    }
}

/// What the map of fills and people ask.
impl Flight {
    /// Registers a reader at the first byte, and keeps its plan in case the others fail. Gives the plan back if this
    /// fill cannot serve it.
    pub(super) fn join(&self, plan: FillPlan, not_found_kept_for: Duration) -> Result<u64, FillPlan> {
        let mut state = self.lock();
        let joinable = match &state.phase {
            Phase::Receiving | Phase::Verified => state.reaches_back_to(0),
            Phase::Closing => false,
            Phase::Failed { at, .. } => at.elapsed() < not_found_kept_for && state.says_not_found(&plan.origin),
        };
        if !joinable {
            return Err(plan);
        }
        if !state.origins.contains(&plan.origin) && state.plans.len() < PLANS_MAX {
            state.origins.push(plan.origin.clone());
            state.plans.push_back(plan);
        }
        Ok(state.add_reader())
    }

    /// Registers a reader if the fill goes on and still has the first byte.
    pub(super) fn join_in_flight(&self) -> Option<u64> {
        let mut state = self.lock();
        let going_on = matches!(state.phase, Phase::Receiving | Phase::Verified);
        (going_on && state.reaches_back_to(0)).then(|| state.add_reader())
    }

    pub(super) fn is_failed(&self) -> bool {
        matches!(self.lock().phase, Phase::Failed { .. })
    }

    pub(super) fn status(&self) -> FillStatus {
        let state = self.lock();
        FillStatus {
            digest: self.digest.clone(),
            done_bytes: state.window.end(),
            total_bytes: state.total,
            origin: state.origin.clone(),
            source: state.source.clone(),
            running_for: self.started.elapsed(),
            n_readers: state.readers.len(),
            storing: state.storing,
        }
    }
}

/// What the task reports.
impl Flight {
    /// The next plan, which sets the expected length if nothing has arrived. Without one nobody may join any more.
    pub(super) fn next_plan(&self) -> Option<FillPlan> {
        let mut state = self.lock();
        let plan = state.plans.pop_front();
        let Some(next) = &plan else {
            state.phase = Phase::Closing;
            return None;
        };
        state.origin.clone_from(&next.origin);
        if state.window.end() == 0 {
            state.announced = next.size_bytes;
            state.total = next.size_bytes;
        }
        plan
    }

    pub(super) fn source_is(&self, label: &str) {
        self.change(|state| state.source = label.to_owned());
    }

    pub(super) fn total(&self) -> Option<u64> {
        self.lock().total
    }

    pub(super) fn total_is(&self, total: u64) {
        self.change(|state| state.total = Some(total));
    }

    pub(super) fn received_bytes(&self) -> u64 {
        self.lock().window.end()
    }

    pub(super) fn stored_is(&self, stored: Option<Arc<dyn BlobReader>>) {
        let mut state = self.lock();
        state.storing = stored.is_some();
        state.stored = stored;
    }

    pub(super) fn stopped_storing(&self) {
        self.lock().storing = false;
    }

    pub(super) fn receive(&self, batch: &[Bytes]) {
        self.change(|state| batch.iter().for_each(|piece| state.window.push(piece.clone())));
    }

    /// Lets go of bytes that nobody needs from memory.
    pub(super) fn trim(&self) {
        self.lock().trim();
    }

    /// Whether the window has room, where it is all there is.
    pub(super) fn room(&self) -> Room {
        let mut state = self.lock();
        state.trim();
        if state.readers.values().all(|reader| reader.lagged) {
            Room::NoReaders
        } else if state.window.len() <= UNSTORED_WINDOW_BYTES {
            Room::Free
        } else {
            Room::Full
        }
    }

    /// Gives up on the readers that keep all others waiting, if there are others.
    pub(super) fn leave_slowest_behind(&self) {
        self.change(|state| {
            let next = |reader: &Position| (!reader.lagged).then_some(reader.next);
            let slowest = state.readers.values().filter_map(next).min();
            let fastest = state.readers.values().filter_map(next).max();
            if slowest != fastest {
                let behind = |reader: &&mut Position| Some(reader.next) == slowest;
                state
                    .readers
                    .values_mut()
                    .filter(behind)
                    .for_each(|reader| reader.lagged = true);
            }
        });
    }

    pub(super) fn is_deserted(&self) -> bool {
        self.lock().readers.is_empty()
    }

    /// Forgets what arrived, and the length its source gave, if no reader can have seen any of it.
    pub(super) fn restart(&self) -> bool {
        let mut state = self.lock();
        let unseen = state.shown_bytes() == 0;
        if unseen {
            state.window = Window::default();
            state.stored = None;
            state.total = state.announced;
        }
        unseen
    }

    pub(super) fn failure_of(&self, origin: &str, error: FillError) {
        self.lock().failures.push((origin.to_owned(), error));
    }

    /// All bytes are there and right.
    pub(super) fn verified(&self) {
        self.change(|state| {
            state.total = Some(state.window.end());
            state.phase = Phase::Verified;
        });
    }

    /// The store had the blob all along.
    pub(super) fn present(&self, stored: Arc<dyn BlobReader>) {
        self.change(|state| {
            state.total = Some(stored.readable_bytes());
            state.stored = Some(stored);
            state.phase = Phase::Verified;
        });
    }

    /// The blob is committed: what memory holds is in the store as well.
    pub(super) fn committed(&self) {
        let mut state = self.lock();
        state.window.shrink(0, u64::MAX);
    }

    pub(super) fn failed(&self, error: FillError) {
        self.change(|state| {
            state.window = Window::default();
            state.stored = None;
            let at = Instant::now();
            state.phase = Phase::Failed { error, at };
        });
    }
}

/// What a reader asks.
impl Flight {
    /// Length of the blob: known, not yet known, or never to be known.
    pub(super) fn size(&self, origin: &str) -> Option<Result<u64, FillError>> {
        let state = self.lock();
        match (&state.phase, state.total) {
            (Phase::Failed { error, .. }, _) => Some(Err(state.failure(origin, error))),
            (_, total) => total.map(Ok),
        }
    }

    /// Whether a reader of the whole blob has something to read, or never will.
    pub(super) fn has_shown(&self, origin: &str) -> Option<Result<Option<u64>, FillError>> {
        let state = self.lock();
        match &state.phase {
            Phase::Failed { error, .. } => Some(Err(state.failure(origin, error))),
            Phase::Verified => Some(Ok(state.total)),
            _ => (state.shown_bytes() > 0).then_some(Ok(state.total)),
        }
    }

    /// Notes where a reader is.
    pub(super) fn reader_at(&self, reader: u64, next: u64) {
        if let Some(position) = self.lock().readers.get_mut(&reader) {
            position.next = next;
        }
        self.readers_changed.send_replace(());
    }

    pub(super) fn leave(&self, reader: u64) {
        self.lock().readers.remove(&reader);
        self.readers_changed.send_replace(());
    }

    /// What the reader may have at `at`, before `end`.
    pub(super) fn give(&self, reader: u64, origin: &str, at: u64, end: Option<u64>) -> Result<Given, FillError> {
        let state = self.lock();
        if let Phase::Failed { error, .. } = &state.phase {
            return Err(state.failure(origin, error));
        }
        if state.readers.get(&reader).is_none_or(|position| position.lagged) {
            return Err(FillError::Lagged);
        }
        state.give(at, end)
    }
}
