//! What to do when this node must not go on.

use std::sync::{Arc, Mutex};

/// Ends the node after a failure that leaves it unknown what is on its disk.
///
/// After a failed fsync the kernel may have dropped the pages, so trying again proves nothing; the only safe way on is
/// to read back what really is there, in a new process.
pub trait OnFatal: Send + Sync + 'static {
    /// Called once per failure, from any thread. It may return only in tests: the caller then stays failed.
    fn fatal(&self, reason: &str);
}

/// Logs the reason and aborts the process.
#[derive(Debug, Clone, Copy, Default)]
pub struct Abort;

impl OnFatal for Abort {
    fn fatal(&self, reason: &str) {
        tracing::error!(reason, "cannot go on, aborting");
        std::process::abort();
    }
}

/// Keeps the reasons, for tests and the simulation.
#[derive(Debug, Clone, Default)]
pub struct Observed(Arc<Mutex<Vec<String>>>);

impl Observed {
    /// Every reason so far, oldest first.
    pub fn reasons(&self) -> Vec<String> {
        self.0.lock().map(|reasons| reasons.clone()).unwrap_or_default()
    }
}

impl OnFatal for Observed {
    fn fatal(&self, reason: &str) {
        if let Ok(mut reasons) = self.0.lock() {
            reasons.push(reason.to_owned());
        }
    }
}
