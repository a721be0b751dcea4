//! Proposes what this node learned to the cluster, without anyone waiting for it.
//!
//! A pull never waits for a commit. What cannot be committed now (no quorum) is tried again for a while; what is lost here
//! is found again by the workers that compare the node's disk and open images with the state, so dropping is safe.

use std::time::Duration;

use daemon::runtime::one_line;
use daemon::task::TaskSet;
use meta::{Command, Outcome};
use raft::MetaHandle;
use tokio::sync::mpsc;
use tokio::time::sleep;

/// Proposals waiting. One pull makes one for each manifest and blob.
const QUEUE_MAX: usize = 4096;
/// Proposals written at once; the log groups what comes together into one fsync.
const IN_FLIGHT_MAX: usize = 32;
/// Tries before a proposal is left to the workers.
const TRIES_MAX: u32 = 5;
/// Pause after a failed try.
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// Hands proposals to the cluster in the background. Clones share the queue.
#[derive(Clone)]
pub struct Recorder {
    queue: mpsc::Sender<Command>,
}

impl Recorder {
    /// Starts the writers in `tasks`.
    pub fn start(ledger: MetaHandle, tasks: &TaskSet) -> Self {
        let (queue, mut proposals) = mpsc::channel(QUEUE_MAX);
        let writers = tasks.clone();
        let stop = tasks.stop_token();
        tasks.spawn("recorder", async move {
            let permits = std::sync::Arc::new(tokio::sync::Semaphore::new(IN_FLIGHT_MAX));
            loop {
                let command = tokio::select! {
                    () = stop.cancelled() => return,
                    command = proposals.recv() => command,
                };
                let (Some(command), Ok(permit)) = (command, std::sync::Arc::clone(&permits).acquire_owned().await)
                else {
                    return;
                };
                let ledger = ledger.clone();
                writers.spawn_request(async move {
                    let _permit = permit;
                    propose(&ledger, command).await;
                });
            }
        });
        Self { queue }
    }

    /// Queues a proposal. Returns whether there was room.
    pub fn record(&self, command: Command) -> bool {
        let queued = self.queue.try_send(command).is_ok();
        if !queued {
            tracing::warn!("proposal queue is full, a proposal is left to the workers");
        }
        queued
    }
}

async fn propose(ledger: &MetaHandle, command: Command) {
    let name = command.name();
    for _ in 0..TRIES_MAX {
        match ledger.write(command.clone()).await {
            Ok(Outcome::Rejected(reason)) => {
                tracing::debug!(command = name, reason = %reason, "proposal was rejected");
                return;
            }
            Ok(_) => return,
            Err(error) => {
                tracing::debug!(command = name, error = one_line(&error), "proposal failed");
                sleep(RETRY_AFTER).await;
            }
        }
    }
    tracing::warn!(
        command = name,
        "proposal could not be committed, it is left to the workers"
    );
}
