//! Whether a process can do its work now, and if not, why: what `/readyz` says.
//!
//! Each subsystem holds a [`Gate`] of its own and opens it when it can serve. A process with a closed gate, or
//! one that is shutting down, is not ready. Nothing here decides what a gate means.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::watch;

use crate::shutdown::Shutdown;

type Reasons = BTreeMap<&'static str, String>;

/// All gates of a process. Clones share them.
#[derive(Clone)]
pub struct Readiness {
    reasons: Arc<watch::Sender<Reasons>>,
    shutdown: Shutdown,
}

/// One subsystem's say in whether the process is ready. Dropping it leaves it as it was.
pub struct Gate {
    name: &'static str,
    reasons: Arc<watch::Sender<Reasons>>,
}

impl Readiness {
    /// Makes a readiness without gates: ready until `shutdown` begins.
    pub fn new(shutdown: &Shutdown) -> Self {
        Self {
            reasons: Arc::new(watch::Sender::new(Reasons::new())),
            shutdown: shutdown.clone(),
        }
    }

    /// Adds a gate, closed, with the reason "starting". Two gates of one name are the same gate.
    pub fn gate(&self, name: &'static str) -> Gate {
        let gate = Gate {
            name,
            reasons: Arc::clone(&self.reasons),
        };
        gate.close("starting");
        gate
    }

    /// Why the process is not ready, one line per closed gate ("raft: no leader yet"); empty when it is ready.
    pub fn unready_reasons(&self) -> Vec<String> {
        let stopping = self.shutdown.is_begun();
        let stopping = stopping.then(|| "shutdown: stopping".to_owned());
        let reasons = self.reasons.borrow();
        let closed = reasons.iter().map(|(gate, reason)| format!("{gate}: {reason}"));
        stopping.into_iter().chain(closed).collect()
    }

    /// Whether every gate is open and no shutdown has begun.
    pub fn is_ready(&self) -> bool {
        !self.shutdown.is_begun() && self.reasons.borrow().is_empty()
    }

    /// Waits until every gate is open. Cancel safe.
    pub async fn ready(&self) {
        let mut reasons = self.reasons.subscribe();
        let opened = reasons.wait_for(Reasons::is_empty).await;
        debug_assert!(opened.is_ok(), "the sender lives as long as self");
    }
}

impl Gate {
    /// Says that this subsystem can serve.
    pub fn open(&self) {
        self.reasons
            .send_if_modified(|reasons| reasons.remove(self.name).is_some());
    }

    /// Says why this subsystem cannot serve.
    pub fn close(&self, reason: impl Into<String>) {
        let reason = reason.into();
        self.reasons.send_if_modified(|reasons| {
            let changed = reasons.get(self.name) != Some(&reason);
            reasons.insert(self.name, reason);
            changed
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shutdown::Cause;

    #[test]
    fn ready_only_when_every_gate_is_open() {
        let readiness = Readiness::new(&Shutdown::new());
        let (raft, disk) = (readiness.gate("raft"), readiness.gate("disk"));
        raft.open();
        assert_eq!(readiness.unready_reasons(), ["disk: starting"]);
        disk.open();
        assert!(readiness.is_ready());
        raft.close("no leader yet");
        assert_eq!(readiness.unready_reasons(), ["raft: no leader yet"]);
    }

    #[test]
    fn shutdown_makes_unready_at_once() {
        let shutdown = Shutdown::new();
        let readiness = Readiness::new(&shutdown);
        assert!(readiness.is_ready());
        shutdown.begin(Cause::Signal("SIGTERM"));
        assert!(!readiness.is_ready());
        assert_eq!(readiness.unready_reasons(), ["shutdown: stopping"]);
    }

    #[tokio::test]
    async fn waiter_hears_of_the_last_gate() {
        let readiness = Readiness::new(&Shutdown::new());
        let gate = readiness.gate("raft");
        let waiter = readiness.clone();
        let opened = async move { gate.open() };
        tokio::join!(waiter.ready(), opened);
        assert!(readiness.is_ready());
    }
}
