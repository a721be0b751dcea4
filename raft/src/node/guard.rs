//! Watches the disk of a node: a leader whose disk is full or hangs lets another lead.
//!
//! A leader with a disk that hangs goes on sending heartbeats, so nobody would ever replace it, while nothing it
//! proposes is applied. A follower is in nobody's way and goes on serving what it can read.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::Node;
use super::successor::Tried;
use crate::log_disk::{LogRoom, Stall};
use crate::runtime::Runtime;
use crate::state_store::StateStore;

/// How often the disk is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// A disk that works on one thing for longer hangs: ten heartbeats, and far beyond any sync of a healthy one.
const HANGS_AFTER: Duration = Duration::from_secs(2);
/// A leader that could not give leadership away by then ends, so that the others elect, if they can.
const ABORT_AFTER: Duration = Duration::from_secs(10);
/// Between two attempts to give leadership away.
const HAND_OVER_EVERY: Duration = Duration::from_secs(3);
/// Between two attempts to give it to the same node: where every disk is full it goes round once in this time.
const SAME_AGAIN_AFTER: Duration = Duration::from_secs(60);

/// What is to be done about a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Nothing,
    HandOver { same_again_after: Duration },
    Abort,
}

/// Decides; `stall` is the oldest work in hand, `replaceable` whether the others could elect without this node.
fn step(room: LogRoom, stall: Option<Stall>, leads: bool, replaceable: bool) -> Step {
    let lasts = stall.map_or(Duration::ZERO, |stall| stall.lasts);
    match leads {
        false => Step::Nothing,
        // With nobody to lead instead, ending would only take away what can be read here.
        true if lasts >= ABORT_AFTER && replaceable => Step::Abort,
        // There is little time, so also whoever was tried just now.
        true if lasts >= HANGS_AFTER => Step::HandOver {
            same_again_after: Duration::ZERO,
        },
        true if room > LogRoom::Enough => Step::HandOver {
            same_again_after: SAME_AGAIN_AFTER,
        },
        true => Step::Nothing,
    }
}

impl<RT: Runtime, S: StateStore> Node<RT, S> {
    /// Watches the disk until the node stops.
    pub(crate) async fn guard(self: Arc<Self>) {
        let stop = self.stop.clone();
        stop.run_until_cancelled(self.watch_disk()).await;
    }

    async fn watch_disk(&self) {
        let mut handed_at: Option<Instant> = None;
        let mut tried = Tried::default();
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let stall = self.disk.oldest_work();
            match step(self.disk.room(), stall, self.leads(), self.is_replaceable()) {
                Step::Nothing => {}
                Step::Abort => {
                    let what = stall.map_or("work", |stall| stall.what);
                    self.on_fatal.fatal(&format!(
                        "the disk hangs ({what} takes more than {ABORT_AFTER:?}) and no other node takes over leadership"
                    ));
                    return;
                }
                Step::HandOver { same_again_after }
                    if handed_at.is_none_or(|at| at.elapsed() >= HAND_OVER_EVERY)
                        && self.hand_over_once(&mut tried, same_again_after).await =>
                {
                    handed_at = Some(Instant::now());
                    tracing::warn!(?stall, room = ?self.disk.room(), "gave leadership away, this node's disk is not well");
                }
                Step::HandOver { .. } => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn busy(seconds: u64) -> Option<Stall> {
        Some(Stall {
            what: "sync the log",
            lasts: Duration::from_secs(seconds),
        })
    }

    #[test]
    fn a_leader_gives_way_before_it_ends_for_others_and_a_follower_does_neither() {
        let (slowly, quickly) = (
            Step::HandOver {
                same_again_after: SAME_AGAIN_AFTER,
            },
            Step::HandOver {
                same_again_after: Duration::ZERO,
            },
        );
        for (room, stall, leads, replaceable, expected) in [
            (LogRoom::Enough, None, true, true, Step::Nothing),
            (LogRoom::Enough, busy(1), true, true, Step::Nothing),
            (LogRoom::Enough, busy(2), true, true, quickly),
            (LogRoom::Enough, busy(10), true, true, Step::Abort),
            (LogRoom::Enough, busy(600), true, false, quickly),
            (LogRoom::Scarce, None, true, true, slowly),
            (LogRoom::Exhausted, busy(3), true, true, quickly),
            (LogRoom::Exhausted, busy(60), false, true, Step::Nothing),
        ] {
            let found = step(room, stall, leads, replaceable);
            assert_eq!(found, expected, "{room:?} {stall:?} {leads} {replaceable}");
        }
    }
}
