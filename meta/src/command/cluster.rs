//! Commands about the cluster as a whole.

use minicbor::{Decode, Encode};

use crate::feature_level::FeatureLevel;
use crate::id::{ClusterId, StorageId};

/// Genesis: the first entry of an epoch. Everything else is rejected before it.
///
/// Answers [`Outcome::Initialized`](crate::Outcome::Initialized), also when repeated with the same ids.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct InitCluster {
    /// Drawn at random by the founder.
    #[n(0)]
    pub cluster_id: ClusterId,
    /// 1 for a new cluster.
    #[n(1)]
    pub epoch: u64,
    /// Names the object-store prefix.
    #[n(2)]
    pub storage_id: StorageId,
    /// What every founding member understands.
    #[n(3)]
    pub feature_level: FeatureLevel,
}

/// Raises the feature level. Rejected while any registered node understands less, or none is registered.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct SetFeatureLevel {
    /// The new level.
    #[n(0)]
    pub level: FeatureLevel,
}
