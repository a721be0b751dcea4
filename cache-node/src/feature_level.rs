//! Raises what the cluster may do once every node understands it: the leader looks now and then.

use std::time::Duration;

use daemon::runtime::one_line;
use daemon::task::TaskSet;
use meta::{Command, FeatureLevel, NodeRecord, Outcome, ReadError, SetFeatureLevel, view};
use raft::MetaHandle;
use tokio::time::{MissedTickBehavior, interval};

/// How often the leader looks. A node that was upgraded is known by its next boot.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Starts looking in `tasks`.
pub(crate) fn start(ledger: MetaHandle, tasks: &TaskSet) {
    let stop = tasks.stop_token();
    let raising = async move {
        let mut ticks = interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if !ledger.status().borrow().is_leader() {
                continue;
            }
            match due(&ledger) {
                Ok(Some(level)) => raise(&ledger, level).await,
                Ok(None) => {}
                Err(error) => tracing::error!(error = one_line(&error), "the state cannot be read"),
            }
        }
    };
    tasks.spawn("feature level", async move {
        stop.run_until_cancelled_owned(raising).await;
    });
}

async fn raise(ledger: &MetaHandle, level: FeatureLevel) {
    match ledger.write(Command::SetFeatureLevel(SetFeatureLevel { level })).await {
        Ok(Outcome::FeatureLevelSet) => tracing::info!(%level, "feature level raised"),
        Ok(outcome) => tracing::debug!(?outcome, "the feature level was not raised"),
        Err(error) => tracing::debug!(error = one_line(&error), "the feature level was not raised"),
    }
}

fn due(ledger: &MetaHandle) -> Result<Option<FeatureLevel>, ReadError> {
    let state = ledger.local();
    let Some(cluster) = view::cluster(&state)? else {
        return Ok(None);
    };
    let nodes = view::nodes(&state)?;
    Ok(highest(cluster.feature_level, nodes.iter().map(|(_, node)| node)))
}

/// The level to raise to, if that is higher: what all of `nodes` and this binary understand.
fn highest<'a>(cluster: FeatureLevel, nodes: impl Iterator<Item = &'a NodeRecord>) -> Option<FeatureLevel> {
    let common = nodes.map(|node| node.feature_level).min()?.min(FeatureLevel::SUPPORTED);
    (common > cluster).then_some(common)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(level: u32) -> NodeRecord {
        NodeRecord {
            nonce: meta::JoinNonce::new(u128::from(level)),
            addresses: meta::Addresses::default(),
            zone: String::new(),
            feature_level: FeatureLevel::new(level),
            boot_count: 1,
            last_log: None,
            abandoned_below: 0,
        }
    }

    #[test]
    fn the_level_rises_to_what_all_understand_and_never_falls() {
        let supported = FeatureLevel::SUPPORTED.get();
        let table = [
            (1, vec![], None),
            (1, vec![1, supported], None),
            (1, vec![supported, supported], Some(supported)),
            (1, vec![supported + 5], Some(supported)),
            (supported, vec![supported], None),
        ];
        for (cluster, levels, expected) in table {
            let nodes: Vec<_> = levels.iter().copied().map(node).collect();
            let raised = highest(FeatureLevel::new(cluster), nodes.iter());
            assert_eq!(raised.map(FeatureLevel::get), expected, "{cluster} {levels:?}");
        }
    }
}
