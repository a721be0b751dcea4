//! Whether there is somebody who places pods: private images are served to no new node without.
//!
//! The controller says so with every [`Place`](proto::v1::PlaceRequest) that could be committed, every few seconds. The
//! node that hears it tells the others, so that each can answer the webhook. Nothing of this is written down: it is true
//! for seconds.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use daemon::runtime::one_line;
use daemon::task::TaskSet;
use futures::future::join_all;
use tokio::time::Instant;

use crate::control::Control;
use crate::tier::Tier;

/// The controller counts as gone when it has not been heard for this long: four of its signs of life, and what a standby
/// needs to take over its Lease.
pub const SILENT_AFTER: Duration = Duration::from_secs(20);

/// When the controller was last heard.
pub struct Liveness {
    heard_at: Mutex<Option<Instant>>,
    telling: AtomicBool,
    tier: Arc<Tier>,
    control: Control,
    tasks: TaskSet,
}

impl Liveness {
    /// Not heard yet. The other nodes are told in `tasks`.
    pub fn new(tier: Arc<Tier>, control: Control, tasks: TaskSet) -> Arc<Self> {
        let heard_at = Mutex::new(None);
        let telling = AtomicBool::new(false);
        Arc::new(Self {
            heard_at,
            telling,
            tier,
            control,
            tasks,
        })
    }

    /// Whether it was heard lately.
    pub fn is_heard(&self) -> bool {
        is_recent(*self.lock(), Instant::now())
    }

    /// Notes that another node has just heard it.
    pub fn note(&self) {
        let now = Instant::now();
        let before = self.lock().replace(now);
        if !is_recent(before, now) {
            tracing::info!("the controller is heard, private images are admitted");
        }
    }

    /// Notes that this node has just heard it, and tells the others; once at a time, whoever is missed hears the next.
    pub fn hear(self: &Arc<Self>) {
        self.note();
        if self.telling.swap(true, Ordering::AcqRel) {
            return;
        }
        let liveness = Arc::clone(self);
        self.tasks.spawn_request(async move {
            let _ended = Telling(&liveness.telling);
            let others = liveness
                .tier
                .others()
                .map(|peer| liveness.control.tell_controller_heard(peer.ordinal));
            for failure in join_all(others).await.into_iter().filter_map(Result::err) {
                tracing::debug!(
                    error = one_line(&failure),
                    "a node was not told that the controller lives"
                );
            }
        });
    }

    fn lock(&self) -> MutexGuard<'_, Option<Instant>> {
        self.heard_at.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lets the next one tell, however this one ends.
struct Telling<'a>(&'a AtomicBool);

impl Drop for Telling<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

fn is_recent(heard_at: Option<Instant>, now: Instant) -> bool {
    heard_at.is_some_and(|at| now.saturating_duration_since(at) < SILENT_AFTER)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_controller_is_gone_when_it_was_not_heard_for_a_while() {
        let now = Instant::now();
        assert!(!is_recent(None, now));
        assert!(is_recent(Some(now), now + SILENT_AFTER - Duration::from_millis(1)));
        assert!(!is_recent(Some(now), now + SILENT_AFTER));
    }
}
