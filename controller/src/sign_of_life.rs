//! Tells the tier every few seconds that there is somebody who places pods.
//!
//! Without it the tier admits no private image: a pod would be sent to a node that is served nothing private. So it is said
//! only while plans are made, by whoever leads, and by way of what a placement needs: a tier that can commit.

use std::time::Duration;

use daemon::runtime::one_line;
use proto::v1::PlaceRequest;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::tier::Tier;

/// The tier believes us for 20 s; three may be lost.
const EVERY: Duration = Duration::from_secs(5);
/// Plans are made at least every five seconds; when there was none for this long, nothing is placed either.
const PLANNED_WITHIN: Duration = Duration::from_secs(15);

/// Says so for ever; `planned` is when the last plan was made that knew all pods, and nothing while places that were
/// planned cannot be told.
pub(crate) async fn keep_telling(tier: Tier, mut planned: watch::Receiver<Option<Instant>>) {
    if planned.wait_for(Option::is_some).await.is_err() {
        return std::future::pending().await;
    }
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut was_working = true;
    loop {
        ticks.tick().await;
        let last = *planned.borrow();
        let works = is_working(last, Instant::now());
        if was_working && !works {
            tracing::warn!(
                "no plan was made for a while, or its places were not taken: the tier is not told that we live"
            );
        }
        was_working = works;
        if !works {
            continue;
        }
        if let Err(error) = tier.place(PlaceRequest::default()).await {
            tracing::debug!(error = one_line(&error), "the tier was not told that we live");
        }
    }
}

fn is_working(planned: Option<Instant>, now: Instant) -> bool {
    planned.is_some_and(|at| now.saturating_duration_since(at) < PLANNED_WITHIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_makes_no_plans_does_not_say_that_he_lives() {
        let now = Instant::now();
        assert!(!is_working(None, now));
        assert!(is_working(Some(now), now));
        assert!(!is_working(Some(now), now + PLANNED_WITHIN));
    }
}
