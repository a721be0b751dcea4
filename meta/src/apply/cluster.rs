//! Genesis and the feature level.

use super::transaction::Transaction;
use super::{Refusal, too_old};
use crate::command::{InitCluster, SetFeatureLevel};
use crate::feature_level::FeatureLevel;
use crate::id::{NodeId, RepositoryId};
use crate::outcome::{Outcome, Rejected};
use crate::read::Read;
use crate::record::ClusterRecord;
use crate::view;

pub(super) fn init<R: Read>(tx: &mut Transaction<R>, command: &InitCluster) -> Result<Outcome, Refusal> {
    if let Ok(cluster) = tx.cluster() {
        if (cluster.cluster_id, cluster.epoch) == (command.cluster_id, command.epoch) {
            return Ok(Outcome::Initialized);
        }
        let (cluster_id, epoch) = (cluster.cluster_id, cluster.epoch);
        return Err(Rejected::AlreadyInitialized { cluster_id, epoch }.into());
    }
    if command.feature_level > FeatureLevel::SUPPORTED {
        return Err(too_old(command.feature_level));
    }
    tx.found_cluster(ClusterRecord {
        cluster_id: command.cluster_id,
        epoch: command.epoch,
        storage_id: command.storage_id,
        feature_level: command.feature_level,
        logical_now_ms: tx.now_ms(),
        next_node_id: NodeId::FIRST,
        next_repository_id: RepositoryId::FIRST,
        serving_changes: 0,
        requests_remembered: 0,
    });
    Ok(Outcome::Initialized)
}

pub(super) fn set_feature_level<R: Read>(
    tx: &mut Transaction<R>,
    command: &SetFeatureLevel,
) -> Result<Outcome, Refusal> {
    let level = command.level;
    let current = tx.cluster()?.feature_level;
    if level < current {
        return Err(Rejected::FeatureLevelLowered { current }.into());
    }
    let nodes = view::nodes(tx)?;
    let too_old_node = nodes.iter().find(|(_, node)| node.feature_level < level);
    if too_old_node.is_some() || (nodes.is_empty() && level > current) {
        let node = too_old_node.map(|(id, _)| *id);
        return Err(Rejected::NodeTooOld { node, level }.into());
    }
    // Every registered node understands the level, so a replica that does not is not one of them any more.
    if level > FeatureLevel::SUPPORTED {
        return Err(too_old(level));
    }
    tx.cluster_mut()?.feature_level = level;
    Ok(Outcome::FeatureLevelSet)
}
