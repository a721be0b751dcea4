//! What a cache node says about itself on its admin port, as JSON: the documents `kuik` asks for.
//!
//! | request | document |
//! |---|---|
//! | `GET /status` | [`NodeStatus`] |
//! | `GET /images` | [`ImagesReport`] |
//! | `GET /explain?image=IMAGE` | [`ExplainReport`]; 404 if the node knows nothing of the image |
//!
//! Fields that are absent and `null` mean the same: not known. Unknown fields are ignored, so that nodes of a
//! newer version can be asked. Digests, hosts and names are shown, never acted upon, and stay text.

use serde::{Deserialize, Serialize};

/// One node's view of itself and of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// Raft node id; absent until the node has joined.
    pub node_id: Option<u64>,
    /// The node's place in the static peer list, from 0.
    pub ordinal: u32,
    /// Which cluster this is; absent until it is formed.
    pub cluster_id: Option<String>,
    /// Its role in consensus now.
    pub role: Role,
    /// Node id of the leader it knows.
    pub leader: Option<u64>,
    /// Raft term.
    pub term: u64,
    /// Index of the last entry in its own log.
    pub last_log_index: u64,
    /// Index up to which its state is current.
    pub applied_index: u64,
    /// Node ids that vote.
    pub voters: Vec<u64>,
    /// Node ids that only follow.
    pub learners: Vec<u64>,
    /// Blobs whose files it really has.
    pub blobs: BlobCount,
    /// Copies that placement expects on this node.
    pub copies: CopyCount,
    /// Images that someone wants kept, in the whole cluster.
    #[serde(default)]
    pub desired_images: u64,
    /// Fills it is fetching now.
    pub fills: Vec<FillProgress>,
    /// The volume that holds its data.
    pub disk: DiskSpace,
    /// Why it is not at its best ("disk full", "no leader"); empty when it is well.
    pub degraded: Vec<String>,
}

/// A node's role in consensus.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Accepts writes.
    Leader,
    /// Votes and follows a leader.
    Follower,
    /// Asks for votes.
    Candidate,
    /// Follows without a vote.
    Learner,
    /// Not a member yet, or shutting down.
    None,
}

/// How many blobs, and how large together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlobCount {
    /// Number of blobs.
    pub count: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Copies of blobs that one node should hold. Over all nodes these add up to the cluster's copies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyCount {
    /// Present blobs whose placement names this node.
    pub expected: u64,
    /// Those of them whose file is not on this node.
    pub missing: u64,
}

/// A blob on its way from where it comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FillProgress {
    /// The blob.
    pub digest: String,
    /// The repository it is fetched for, with its host.
    pub repository: String,
    /// Bytes on disk so far.
    pub bytes_done: u64,
    /// Its size, where the source told.
    pub bytes_total: Option<u64>,
    /// Where the bytes come from: `upstream`, or `node-N`.
    pub source: String,
    /// Age in milliseconds.
    pub started_ms_ago: u64,
}

/// Space of a volume.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskSpace {
    /// Bytes a node may still write.
    pub free_bytes: u64,
    /// Size of the volume in bytes.
    pub total_bytes: u64,
}

/// The images a node knows by tag.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImagesReport {
    /// How current the node's state is; of several nodes the one with the highest index is believed.
    pub applied_index: u64,
    /// In the order of repository and tag.
    pub images: Vec<Image>,
    /// There are more images than were listed.
    #[serde(default)]
    pub truncated: bool,
}

/// One tag and the image it serves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// Repository with its host: `docker.io/library/nginx`.
    pub repository: String,
    /// The tag.
    pub tag: String,
    /// The manifest or index the tag serves.
    pub digest: String,
    /// Whether the metadata says that every blob that was asked for is there.
    pub complete: bool,
    /// Bytes of its blobs, as far as they are known.
    pub size_bytes: u64,
    /// Platforms it has blobs for: `linux/amd64`.
    pub platforms: Vec<String>,
    /// The source could not be asked when the tag was last wanted.
    pub stale: bool,
    /// Someone wants it kept: it is filled ahead, and fetched again when it is lost.
    #[serde(default)]
    pub desired: bool,
    /// Only namespaces with a grant for its repository may use it.
    #[serde(default)]
    pub private: bool,
}

/// What one node knows and really holds of one image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExplainReport {
    /// The image in full: `docker.io/library/nginx:latest`.
    pub image: String,
    /// How current the node's state is.
    pub applied_index: u64,
    /// The manifest or index it resolves to on this node.
    pub digest: Option<String>,
    /// When the source last confirmed the tag, in milliseconds since 1970; absent for a digest.
    pub checked_at_ms: Option<u64>,
    /// The source could not be asked when the tag was last wanted.
    #[serde(default)]
    pub stale: bool,
    /// Someone wants it kept: it is filled ahead, and fetched again when it is lost.
    #[serde(default)]
    pub desired: bool,
    /// Only namespaces with a grant for its repository may use it.
    #[serde(default)]
    pub private: bool,
    /// The manifest itself, or the index followed by each child that is known.
    pub manifests: Vec<ManifestHeld>,
}

/// A manifest or index, as one node knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestHeld {
    /// Its digest.
    pub digest: String,
    /// Its media type.
    pub media_type: String,
    /// The platform it is for (`linux/arm64/v8`); absent for an index, and where nobody says.
    pub platform: Option<String>,
    /// It lists other manifests instead of blobs.
    #[serde(default)]
    pub is_index: bool,
    /// This node can serve its bytes without asking anyone. False for a child the index names and nobody wanted.
    pub here: bool,
    /// Configuration and layers; empty for an index, and for a manifest that is not here.
    pub blobs: Vec<BlobHeld>,
}

/// A blob of a manifest, as one node holds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlobHeld {
    /// Its digest.
    pub digest: String,
    /// Its size in bytes as the manifest says.
    pub size_bytes: u64,
    /// The file is really on this node's disk, looked at for this answer.
    pub here: bool,
    /// Where this node got it from: `upstream`, or `node-N`.
    pub source: Option<String>,
    /// When this node got it, in milliseconds since 1970.
    pub fetched_at_ms: Option<u64>,
    /// Why it is here or not: "copy 2 of 3", "placed on node-0 and node-2", "fill in flight".
    pub reason: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_reads_as_documented() {
        let text = r#"{
            "node_id": 2, "ordinal": 1, "cluster_id": "c1", "role": "follower", "leader": 1, "term": 3,
            "last_log_index": 90, "applied_index": 88, "voters": [1, 2, 3], "learners": [],
            "blobs": {"count": 4, "bytes": 1000}, "copies": {"expected": 5, "missing": 1},
            "fills": [{"digest": "sha256:aa", "repository": "docker.io/library/nginx", "bytes_done": 10,
                       "bytes_total": null, "source": "upstream", "started_ms_ago": 40}],
            "disk": {"free_bytes": 10, "total_bytes": 20}, "degraded": [], "of_a_newer_version": true
        }"#;
        let status: NodeStatus = serde_json::from_str(text).unwrap();
        assert_eq!(status.role, Role::Follower);
        assert_eq!(status.fills[0].bytes_total, None);
    }

    #[test]
    fn absent_is_unknown() {
        let text = r#"{"image": "docker.io/library/nginx:1", "applied_index": 3, "manifests": []}"#;
        let report: ExplainReport = serde_json::from_str(text).unwrap();
        assert_eq!(report.digest, None);
        assert!(!report.stale);
    }
}
