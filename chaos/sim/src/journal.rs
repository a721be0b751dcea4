//! What happened, in order: equal for equal seeds.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// The events of one run. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct Journal(Arc<Mutex<Vec<String>>>);

impl Journal {
    pub(crate) fn note(&self, at: Duration, event: impl AsRef<str>) {
        let line = format!("{:>8.3} {}", at.as_secs_f64(), event.as_ref());
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(line);
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
