//! Waiting for a condition with a deadline.

use std::thread::sleep;
use std::time::Duration;

use anyhow::{Result, bail};
use tokio::time::Instant;

/// How often a condition is looked at.
const INTERVAL: Duration = Duration::from_millis(50);

/// Asks until there is an answer.
///
/// # Errors
/// After `deadline`, with the last error of `ask` where there is one; `what` says what was waited for.
pub fn until<T>(deadline: Duration, what: &str, mut ask: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let end = Instant::now() + deadline;
    loop {
        let last = match ask() {
            Ok(Some(answer)) => return Ok(answer),
            Ok(None) => None,
            Err(error) => Some(error),
        };
        if Instant::now() >= end {
            match last {
                Some(error) => return Err(error.context(format!("waited {deadline:?} for {what}"))),
                None => bail!("waited {deadline:?} for {what}"),
            }
        }
        sleep(INTERVAL);
    }
}
