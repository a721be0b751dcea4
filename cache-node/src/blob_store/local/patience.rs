//! Bounds the waiting for a disk that hangs.
//!
//! File IO cannot be cancelled: a thread that waits for a disk is lost until the disk answers. So nobody waits for longer
//! than a while, and while one thread is lost no other is risked. What the page cache holds is read all the same.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU8, Ordering};
use std::time::Duration;

use tokio::task::spawn_blocking;
use tokio::time::timeout;

/// Longest wait for one read or write of a few MiB: far beyond what a loaded disk that turns takes.
pub(super) const STEP: Duration = Duration::from_secs(5);
/// Longest wait for a new file: somebody's pull stands still meanwhile.
pub(super) const BEGIN: Duration = Duration::from_secs(1);
/// Longest wait for a blob of many gigabytes to reach a slow disk. Nobody's pull waits for it.
pub(super) const COMMIT: Duration = Duration::from_secs(300);

const RUNNING: u8 = 0;
const ENDED: u8 = 1;
const GIVEN_UP: u8 = 2;

/// Counts file IO that was given up and has not come to an end.
#[derive(Debug, Default)]
pub(super) struct Patience {
    lost: AtomicI64,
}

impl Patience {
    /// Whether the disk hangs.
    pub(super) fn is_lost(&self) -> bool {
        self.lost.load(Ordering::SeqCst) > 0
    }

    /// Runs file IO away from the async workers, and waits for it at most `limit`. It goes on after that.
    ///
    /// # Errors
    /// [`io::ErrorKind::TimedOut`] after `limit`, and at once while the disk hangs.
    pub(super) async fn run<T: Send + 'static>(
        self: &Arc<Self>,
        limit: Duration,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<T> {
        if self.is_lost() {
            return Err(hangs());
        }
        let state = Arc::new(AtomicU8::new(RUNNING));
        let (patience, seen) = (Arc::clone(self), Arc::clone(&state));
        let working = spawn_blocking(move || {
            let done = work();
            if seen.swap(ENDED, Ordering::SeqCst) == GIVEN_UP {
                patience.lost.fetch_sub(1, Ordering::SeqCst);
            }
            done
        });
        match timeout(limit, working).await {
            Ok(done) => done.map_err(io::Error::other),
            Err(_) => {
                if state.swap(GIVEN_UP, Ordering::SeqCst) == RUNNING {
                    self.lost.fetch_add(1, Ordering::SeqCst);
                    tracing::warn!(waited = ?limit, "the disk hangs, blobs are streamed and not kept until it answers");
                }
                Err(hangs())
            }
        }
    }
}

fn hangs() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "the disk hangs")
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn who_waits_for_a_disk_that_hangs_is_let_go_and_nobody_follows_until_it_answers() {
        let patience = Arc::new(Patience::default());
        let (release, released) = mpsc::channel::<()>();
        let limit = Duration::from_millis(20);

        let waited = patience.run(limit, move || released.recv().is_ok()).await;

        assert_eq!(waited.unwrap_err().kind(), io::ErrorKind::TimedOut);
        let refused = patience.run(COMMIT, || unreachable!("the disk hangs")).await;
        assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::TimedOut);
        release.send(()).unwrap();
        let returned = timeout(COMMIT, async {
            while patience.is_lost() {
                tokio::task::yield_now().await;
            }
        });
        returned.await.unwrap();
        assert_eq!(patience.run(COMMIT, || 7).await.unwrap(), 7);
    }
}
