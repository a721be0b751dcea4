//! Decides when a connection has passed a bound, from what it was seen doing tick after tick.

use std::time::Duration;

use tokio::time::Instant;

use super::progress::{Doing, Progress};
use crate::limits::Limits;

/// Remembers since when a connection does the same thing without progress.
#[derive(Debug)]
pub(super) struct Watchdog {
    header_read: Duration,
    idle: Duration,
    write_stall: Duration,
    silence: Duration,
    seen: Doing,
    since: Instant,
}

impl Watchdog {
    pub(super) fn new(limits: &Limits, now: Instant) -> Self {
        Self {
            header_read: limits.header_read,
            idle: limits.idle,
            write_stall: limits.write_stall,
            silence: limits.silence,
            seen: Doing::Idle { mark: 0 },
            since: now,
        }
    }

    /// Looks at the connection; answers the bound it has passed, if any.
    pub(super) fn look(&mut self, progress: &Progress, now: Instant) -> Option<&'static str> {
        let doing = progress.doing();
        if doing != self.seen {
            self.seen = doing;
            self.since = now;
        }
        let (bound, limit) = match doing {
            Doing::Writing { .. } => ("write_stall", self.write_stall),
            Doing::Answering { .. } => ("silence", self.silence),
            Doing::ReadingHead { .. } => ("header_read", self.header_read),
            Doing::Idle { .. } => ("idle", self.idle),
        };
        (now.duration_since(self.since) >= limit).then_some(bound)
    }
}

#[cfg(test)]
mod tests {
    use super::super::progress::Busy;
    use super::*;
    use std::sync::Arc;

    const SECOND: Duration = Duration::from_secs(1);

    fn limits() -> Limits {
        Limits {
            header_read: 2 * SECOND,
            idle: 3 * SECOND,
            write_stall: 4 * SECOND,
            silence: 5 * SECOND,
            ..Limits::default()
        }
    }

    /// Looks once a second, acting before each look; answers the bound and the second it was passed in.
    fn watch(progress: &Arc<Progress>, mut act: impl FnMut(u32)) -> (u32, &'static str) {
        let start = Instant::now();
        let mut watchdog = Watchdog::new(&limits(), start);
        (0..100)
            .find_map(|second| {
                act(second);
                watchdog
                    .look(progress, start + second * SECOND)
                    .map(|bound| (second, bound))
            })
            .expect("some bound is passed")
    }

    #[test]
    fn an_idle_connection_is_closed() {
        assert_eq!(watch(&Arc::default(), |_| ()), (3, "idle"));
    }

    #[test]
    fn a_head_that_dribbles_in_is_bounded_as_a_whole() {
        let progress = Arc::<Progress>::default();
        assert_eq!(watch(&progress, |_| progress.add_read(1)), (2, "header_read"));
    }

    #[test]
    fn a_client_that_takes_a_little_keeps_its_connection() {
        let progress = Arc::<Progress>::default();
        let busy = Busy::new(&progress);
        let act = |second| {
            if second < 20 && second % 3 == 0 {
                progress.add_written(1);
            }
            progress.block_write();
        };
        assert_eq!(watch(&progress, act), (18 + 4, "write_stall"));
        drop(busy);
    }

    #[test]
    fn an_answer_that_never_comes_is_given_up() {
        let progress = Arc::<Progress>::default();
        let _busy = Busy::new(&progress);
        assert_eq!(watch(&progress, |_| ()), (5, "silence"));
    }

    #[test]
    fn requests_restart_the_idle_bound() {
        let progress = Arc::<Progress>::default();
        let act = |second| {
            if second < 10 {
                progress.add_read(100);
                drop(Busy::new(&progress));
            }
        };
        assert_eq!(watch(&progress, act), (9 + 3, "idle"));
    }
}
