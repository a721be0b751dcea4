//! Tasks with a name, an owner and an ending.
//!
//! Every task of a process belongs to a [`TaskSet`], so that at the end each one is waited for, and one that
//! hangs is called by its name. A panic is reported and never lost. A critical task that ends before it was
//! told to takes the whole process down in order, because a process without it only looks alive.

use std::any::Any;
use std::collections::BTreeMap;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Why a critical task is no longer there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TaskEnded {
    /// The task returned although nothing had asked it to stop.
    #[error("task {name} ended early")]
    Returned {
        /// The name the task was spawned with.
        name: &'static str,
    },
    /// The task panicked.
    #[error("task {name} panicked: {message}")]
    Panicked {
        /// The name the task was spawned with.
        name: &'static str,
        /// What the panic said.
        message: String,
    },
}

/// Tasks that were still running when the time to join them was over.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{count} tasks did not stop in {waited:?}: {}", names.join(", "))]
pub struct StillRunning {
    /// Names of the named tasks among them, oldest first.
    pub names: Vec<&'static str>,
    /// How many tasks in all, connections and requests included.
    pub count: usize,
    /// How long they were waited for.
    pub waited: Duration,
}

type OnCriticalEnd = dyn Fn(TaskEnded) + Send + Sync;

/// A group of tasks that stop together. Clones share the group.
#[derive(Clone)]
pub struct TaskSet {
    inner: Arc<Inner>,
}

struct Inner {
    tracker: TaskTracker,
    stop: CancellationToken,
    abort: CancellationToken,
    next_id: AtomicU64,
    named: Mutex<BTreeMap<u64, &'static str>>,
    on_critical_end: Box<OnCriticalEnd>,
}

impl TaskSet {
    /// Makes an empty set. `stop` is what its tasks watch; `on_critical_end` hears of each critical task that
    /// ended before `stop` was cancelled.
    pub fn new(stop: CancellationToken, on_critical_end: impl Fn(TaskEnded) + Send + Sync + 'static) -> Self {
        let inner = Inner {
            tracker: TaskTracker::new(),
            stop,
            abort: CancellationToken::new(),
            next_id: AtomicU64::new(0),
            named: Mutex::new(BTreeMap::new()),
            on_critical_end: Box::new(on_critical_end),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Cancelled when the tasks of this set are to finish what they are doing and return.
    pub fn stop_token(&self) -> CancellationToken {
        self.inner.stop.clone()
    }

    /// Spawns a task the process cannot do without. If it returns or panics before the stop token is
    /// cancelled, the owner of the set is told, which ends the process.
    pub fn spawn_critical(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let inner = Arc::clone(&self.inner);
        // On the heap from here on: each wrapper would hold a copy of a future that may be large.
        let task = Box::pin(task);
        self.spawn_named(name, async move {
            let end = reported(name, task).await;
            if !inner.stop.is_cancelled() {
                (inner.on_critical_end)(end);
            }
        });
    }

    /// Spawns a task the process can go on without; its panic is logged, its return is not remarkable.
    pub fn spawn(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let task = Box::pin(task);
        self.spawn_named(name, async move {
            reported(name, task).await;
        });
    }

    /// Spawns the short life of a connection or a request: counted and joined, but without a name of its own,
    /// so it costs no more than a plain spawn. A panic in it reaches the panic hook and ends only this task.
    pub fn spawn_request(&self, task: impl Future<Output = ()> + Send + 'static) {
        let abort = self.inner.abort.clone();
        let _detached = self.inner.tracker.spawn(async move {
            let _aborted = abort.run_until_cancelled_owned(task).await;
        });
    }

    /// How many tasks are running now.
    pub fn len(&self) -> usize {
        self.inner.tracker.len()
    }

    /// Whether nothing is running.
    pub fn is_empty(&self) -> bool {
        self.inner.tracker.is_empty()
    }

    /// Tells the tasks to stop and waits for all of them. Tasks spawned meanwhile are waited for as well.
    ///
    /// # Errors
    /// [`StillRunning`] after `grace`, naming who did not stop. They are aborted at their next wait.
    pub async fn stop(&self, grace: Duration) -> Result<(), StillRunning> {
        self.inner.stop.cancel();
        self.inner.tracker.close();
        let joined = tokio::time::timeout(grace, self.inner.tracker.wait()).await;
        if joined.is_ok() {
            return Ok(());
        }
        let still_running = StillRunning {
            names: self.running_names(),
            count: self.inner.tracker.len(),
            waited: grace,
        };
        self.inner.abort.cancel();
        Err(still_running)
    }

    /// Drops every task at its next wait, as a crash would. For tests that kill a node inside one process.
    pub fn abort(&self) {
        self.inner.abort.cancel();
        self.inner.stop.cancel();
    }

    fn spawn_named(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let registration = Registration::new(Arc::clone(&self.inner), name);
        self.spawn_request(async move {
            let _registration = registration;
            task.await;
        });
    }

    fn running_names(&self) -> Vec<&'static str> {
        let named = self.inner.named.lock().unwrap_or_else(PoisonError::into_inner);
        named.values().copied().collect()
    }
}

/// Keeps a task's name on the list for as long as the task exists, however it ends.
struct Registration {
    inner: Arc<Inner>,
    id: u64,
}

impl Registration {
    fn new(inner: Arc<Inner>, name: &'static str) -> Self {
        let id = inner.next_id.fetch_add(1, Ordering::Relaxed);
        inner
            .named
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(id, name);
        Self { inner, id }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.inner
            .named
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&self.id);
    }
}

async fn reported(name: &'static str, task: impl Future<Output = ()>) -> TaskEnded {
    // A task that panicked is never polled again, so no one sees what it left half done.
    match AssertUnwindSafe(task).catch_unwind().await {
        Ok(()) => {
            tracing::debug!(task = name, "task ended");
            TaskEnded::Returned { name }
        }
        Err(panic) => {
            let message = panic_message(panic.as_ref()).to_owned();
            tracing::error!(task = name, panic = message, "task panicked");
            TaskEnded::Panicked { name, message }
        }
    }
}

fn panic_message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&'static str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}

#[cfg(test)]
mod tests;
