//! Asks every cache node for nothing, now and then.
//!
//! So connections are made anew before a pod waits for them, nodes that are gone are known to be, and the webhook is not
//! ready before the tier has answered it once.

use std::sync::Arc;
use std::time::Duration;

use daemon::readiness::Gate;
use daemon::task::TaskSet;
use futures::future::join_all;
use proto::v1::AdmitRequest;
use tokio::time::{Instant, timeout_at};

use super::{ANSWER_DEADLINE, Heard, Node, Tier};

/// Shorter than a node that failed is passed over, so that the next probe is out before a pod meets it again.
const INTERVAL: Duration = Duration::from_secs(2);

impl Tier {
    /// Probes until `tasks` stop; opens `gate` once a node can answer.
    pub(crate) fn start_probes(self: &Arc<Self>, gate: Gate, tasks: &TaskSet) {
        let (tier, stop) = (Arc::clone(self), tasks.stop_token());
        gate.close("no cache node answers yet");
        tasks.spawn_critical("tier-probes", async move {
            let probing = async {
                loop {
                    if join_all(tier.nodes.iter().map(Node::probe)).await.contains(&true) {
                        gate.open();
                    }
                    tokio::time::sleep(INTERVAL).await;
                }
            };
            stop.run_until_cancelled(probing).await;
        });
    }
}

impl Node {
    async fn probe(&self) -> bool {
        let deadline = Instant::now() + ANSWER_DEADLINE;
        let heard = timeout_at(deadline, self.ask(&AdmitRequest::default(), deadline)).await;
        matches!(heard, Ok(Heard::Usable(_)))
    }
}
