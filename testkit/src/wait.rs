//! Waiting for a condition instead of a time.

use std::future::Future;
use std::time::Duration;

use tokio::time::{sleep, timeout};

/// Between two looks at a condition.
const LOOK: Duration = Duration::from_millis(10);

/// Looks at a condition until it answers something, and answers that.
///
/// # Panics
/// If the deadline passes first, with `what` was waited for.
pub async fn eventually<T, F, L>(deadline: Duration, what: &str, mut look: L) -> T
where
    L: FnMut() -> F,
    F: Future<Output = Option<T>>,
{
    let looking = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            sleep(LOOK).await;
        }
    };
    match timeout(deadline, looking).await {
        Ok(found) => found,
        Err(_) => panic!("not within {deadline:?}: {what}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_answer_of_the_condition_is_returned() {
        let mut looks = 0;
        let found = eventually(Duration::from_secs(1), "three looks", || {
            looks += 1;
            let found = (looks == 3).then_some(looks);
            async move { found }
        });
        assert_eq!(found.await, 3);
    }

    #[tokio::test(start_paused = true)]
    #[should_panic(expected = "not within 1s: the impossible")]
    async fn a_condition_that_never_holds_is_named() {
        eventually(Duration::from_secs(1), "the impossible", || async { None::<()> }).await;
    }
}
