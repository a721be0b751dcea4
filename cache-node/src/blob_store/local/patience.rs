//! Bounds the waiting for a disk that hangs.
//!
//! File IO cannot be cancelled: a thread that waits for a disk is lost until the disk answers. So nobody waits for longer
//! than a while, and while one thread is lost no other is risked: who comes then waits for a moment whether the disk was
//! only slow. What the page cache holds is read all the same.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, timeout};

/// Longest wait for one read or write of a few MiB: far beyond what a loaded disk that turns takes.
pub(super) const STEP: Duration = Duration::from_secs(5);
/// Longest wait for a new file: somebody's pull stands still meanwhile.
pub(super) const BEGIN: Duration = Duration::from_secs(1);
/// Longest wait for a blob of many gigabytes to reach a slow disk. Nobody's pull waits for it.
pub(super) const COMMIT: Duration = Duration::from_secs(300);
/// How long others wait for a disk that was given up: it may only be slow.
const GRACE: Duration = Duration::from_secs(1);
/// A disk given up for so long is not only slow, and costs nobody a wait any more.
const SLOW_MAX: Duration = Duration::from_secs(5);

const QUEUED: u8 = 0;
const RUNNING: u8 = 1;
const ENDED: u8 = 2;
const GIVEN_UP: u8 = 3;

/// Patience with one kind of file IO: a disk that does not take a write any more may well be read.
#[derive(Debug, Default)]
pub(super) struct Patience {
    lost: watch::Sender<Lost>,
}

/// File IO that was given up and has not come to an end.
#[derive(Debug, Clone, Copy, Default)]
struct Lost {
    // Less than none for a moment: a job may end before it is counted.
    n: i64,
    since: Option<Instant>,
}

/// How far a job has come, as whoever waits for it and its thread both see it.
#[derive(Debug, Default)]
struct Progress(AtomicU8);

impl Progress {
    /// Goes from `QUEUED` to `next`. Returns whether it was there.
    fn leave_queue(&self, next: u8) -> bool {
        let left = self
            .0
            .compare_exchange(QUEUED, next, Ordering::SeqCst, Ordering::SeqCst);
        left.is_ok()
    }
}

/// A job on its thread; over when dropped.
struct Job {
    patience: Arc<Patience>,
    progress: Arc<Progress>,
}

impl Drop for Job {
    fn drop(&mut self) {
        if self.progress.0.swap(ENDED, Ordering::SeqCst) == GIVEN_UP {
            self.patience.count(-1);
        }
    }
}

impl Patience {
    /// Whether the disk hangs.
    pub(super) fn is_lost(&self) -> bool {
        self.lost.borrow().n > 0
    }

    /// Runs file IO away from the async workers, and waits at most `limit` for a thread, and again for the work. What has
    /// begun goes on after that.
    ///
    /// # Errors
    /// [`io::ErrorKind::TimedOut`] after `limit`, and soon while the disk hangs.
    pub(super) async fn run<T: Send + 'static>(
        self: &Arc<Self>,
        limit: Duration,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<T> {
        if !self.is_back().await {
            return Err(timed_out("the disk hangs"));
        }
        let progress = Arc::new(Progress::default());
        let job = Job {
            patience: Arc::clone(self),
            progress: Arc::clone(&progress),
        };
        let (begins, begun) = oneshot::channel();
        let working = spawn_blocking(move || {
            job.progress.leave_queue(RUNNING).then(|| {
                // Whoever waited may have gone.
                begins.send(()).ok();
                work()
            })
        });
        if timeout(limit, begun).await.is_err() && progress.leave_queue(ENDED) {
            return Err(timed_out("no thread is free for the disk"));
        }
        match timeout(limit, working).await {
            Ok(done) => done
                .map_err(io::Error::other)?
                .ok_or_else(|| timed_out("the disk was not asked")),
            Err(_) => {
                if progress.0.swap(GIVEN_UP, Ordering::SeqCst) == RUNNING {
                    self.count(1);
                    tracing::warn!(waited = ?limit, "the disk hangs, blobs are streamed and not kept until it answers");
                }
                Err(timed_out("the disk hangs"))
            }
        }
    }

    /// Waits a moment for a disk that was given up, unless it has been for long. Returns whether it answers.
    async fn is_back(&self) -> bool {
        let mut lost = self.lost.subscribe();
        let now = *lost.borrow();
        if now.n > 0 && now.since.is_some_and(|since| since.elapsed() >= SLOW_MAX) {
            return false;
        }
        timeout(GRACE, lost.wait_for(|lost| lost.n <= 0)).await.is_ok()
    }

    fn count(&self, change: i64) {
        self.lost.send_modify(|lost| {
            lost.n += change;
            lost.since = (lost.n > 0).then(|| lost.since.unwrap_or_else(Instant::now));
        });
    }
}

fn timed_out(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, why)
}

#[cfg(test)]
mod tests;
