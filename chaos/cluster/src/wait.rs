//! Waiting for a condition with a deadline.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// How often a condition is looked at: each look is a process.
const INTERVAL: Duration = Duration::from_millis(200);

/// Asks until there is an answer, and says how long that took.
///
/// # Errors
/// After `deadline`, with the last error of `ask` where there is one; `what` says what was waited for.
pub fn until<T>(deadline: Duration, what: &str, mut ask: impl FnMut() -> Result<Option<T>>) -> Result<(T, Duration)> {
    let started = now();
    loop {
        let last = match ask() {
            Ok(Some(answer)) => return Ok((answer, started.elapsed())),
            Ok(None) => None,
            Err(error) => Some(error),
        };
        if started.elapsed() >= deadline {
            match last {
                Some(error) => return Err(error.context(format!("waited {deadline:?} for {what}"))),
                None => bail!("waited {deadline:?} for {what}"),
            }
        }
        sleep(INTERVAL);
    }
}

/// The real time: other processes are measured.
pub(crate) fn now() -> Instant {
    #[expect(clippy::disallowed_methods, reason = "other processes are waited for, in real time")]
    Instant::now()
}
