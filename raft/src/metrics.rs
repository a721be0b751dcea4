//! What consensus reports to Prometheus.

use tokio::time::Instant;

use crate::status::RaftStatus;

const FSYNC_SECONDS: &str = "kube_image_keeper_raft_log_sync_seconds";
const TERM: &str = "kube_image_keeper_raft_term";
const IS_LEADER: &str = "kube_image_keeper_raft_is_leader";
const HAS_QUORUM: &str = "kube_image_keeper_raft_has_quorum";
const VOTERS: &str = "kube_image_keeper_raft_voters";
const COMMITTED: &str = "kube_image_keeper_raft_committed_index";
const APPLIED: &str = "kube_image_keeper_raft_applied_index";
const APPLY_LAG: &str = "kube_image_keeper_raft_apply_lag_entries";

/// Measures one sync of the log.
pub(crate) struct FsyncTimer(Instant);

impl FsyncTimer {
    pub(crate) fn start() -> Self {
        FsyncTimer(Instant::now())
    }

    pub(crate) fn stop(self) {
        metrics::histogram!(FSYNC_SECONDS).record(self.0.elapsed().as_secs_f64());
    }
}

/// Sets the gauges to what the node knows now.
pub(crate) fn report(status: &RaftStatus) {
    let flag = |is: bool| if is { 1.0 } else { 0.0 };
    metrics::gauge!(TERM).set(status.term as f64);
    metrics::gauge!(IS_LEADER).set(flag(status.is_leader()));
    metrics::gauge!(HAS_QUORUM).set(flag(status.has_quorum));
    metrics::gauge!(VOTERS).set(status.voters.len() as f64);
    metrics::gauge!(COMMITTED).set(status.committed as f64);
    metrics::gauge!(APPLIED).set(status.applied as f64);
    metrics::gauge!(APPLY_LAG).set(status.committed.saturating_sub(status.applied) as f64);
}
