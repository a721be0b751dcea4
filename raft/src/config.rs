//! Settings of one node, and the values consensus runs with.

use std::time::Duration;

use meta::Addresses;
use openraft::SnapshotPolicy;

/// A leader says it lives this often. It is also the deadline of replication, so it must outlast a slow disk sync:
/// stalls of 40 ms are common on busy or cloud disks.
const HEARTBEAT: Duration = Duration::from_millis(200);
/// Shortest wait before a follower stands for election. A follower waits the maximum and this on top.
const ELECTION_MIN: Duration = Duration::from_millis(400);
/// Longest wait, and how long a follower believes in a leader it heard of.
const ELECTION_MAX: Duration = Duration::from_millis(800);
/// A leader without a quorum falls silent for as long, so that the others may elect; at least twice [`ELECTION_MAX`].
const QUORUM_LOSS_PROBE: Duration = Duration::from_millis(1700);
/// Entries between snapshots.
const SNAPSHOT_ENTRIES: u64 = 50_000;
/// Entries kept behind a snapshot: a restart of ten minutes never needs a snapshot.
const KEPT_ENTRIES: u64 = 50_000;
/// A follower further behind than this gets a snapshot. More than [`SNAPSHOT_ENTRIES`], or a snapshot would not help.
const LAG_ENTRIES_MAX: u64 = 60_000;
/// Entries purged at a time.
const PURGE_BATCH_ENTRIES: u64 = 1000;
/// All of a snapshot's transfer. What is stuck is noticed much earlier, see the network.
const SNAPSHOT_TRANSFER: Duration = Duration::from_secs(600);
/// Calls waiting for openraft. Our own queue is shorter and sheds load before this one is full.
const API_QUEUE_LEN: u64 = 8192;
/// Writes in flight per node. With this many waiting the disk is behind, and more waiting helps nobody.
const WRITES_MAX: usize = 4096;
/// How long a write may look for a leader and wait for its commit; spans an election.
const WRITE_DEADLINE: Duration = Duration::from_secs(5);
/// How long a linearizable read may wait.
const READ_DEADLINE: Duration = Duration::from_secs(3);
/// Most voters. More would slow every commit and survive no likely failure more.
const VOTERS_MAX: usize = 5;

/// One of the nodes that are to form the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Its number in the set, from 0. Only number 0 may found a cluster.
    pub ordinal: u32,
    /// Stable name of its gRPC endpoint, `host:port`.
    pub address: String,
}

/// How consensus keeps time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timing {
    /// Between two signs of life of a leader; also the deadline of one replication call.
    pub heartbeat: Duration,
    /// Shortest election timeout.
    pub election_min: Duration,
    /// Longest election timeout.
    pub election_max: Duration,
    /// How long a leader without quorum is silent, then tries again.
    pub quorum_loss_probe: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Timing {
            heartbeat: HEARTBEAT,
            election_min: ELECTION_MIN,
            election_max: ELECTION_MAX,
            quorum_loss_probe: QUORUM_LOSS_PROBE,
        }
    }
}

impl Timing {
    /// How long after the last sign of a leader, or of a quorum, it still counts.
    pub(crate) fn contact_max(&self) -> Duration {
        self.election_max * 2
    }
}

/// How much of the log is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retention {
    /// Entries between snapshots.
    pub snapshot_entries: u64,
    /// Entries kept behind a snapshot.
    pub kept_entries: u64,
    /// A follower further behind gets a snapshot.
    pub lag_entries_max: u64,
    /// Entries purged at a time.
    pub purge_batch_entries: u64,
}

impl Default for Retention {
    fn default() -> Self {
        Retention {
            snapshot_entries: SNAPSHOT_ENTRIES,
            kept_entries: KEPT_ENTRIES,
            lag_entries_max: LAG_ENTRIES_MAX,
            purge_batch_entries: PURGE_BATCH_ENTRIES,
        }
    }
}

/// Bounds of what callers of the handle wait for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Writes in flight on this node; more are refused at once.
    pub writes_max: usize,
    /// How long a write may take.
    pub write_deadline: Duration,
    /// How long a linearizable read may take.
    pub read_deadline: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            writes_max: WRITES_MAX,
            write_deadline: WRITE_DEADLINE,
            read_deadline: READ_DEADLINE,
        }
    }
}

/// Settings of one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// This node's number among the peers.
    pub ordinal: u32,
    /// Every node that is to form the cluster, this one included.
    pub peers: Vec<Peer>,
    /// Where this node is reached. `grpc` is the stable name its peers know it by.
    pub addresses: Addresses,
    /// Failure domain; empty if not known.
    pub zone: String,
    /// Whether this node may found a cluster, if it has number 0 and every peer is empty.
    pub allow_genesis: bool,
    /// How consensus keeps time.
    pub timing: Timing,
    /// How much of the log is kept.
    pub retention: Retention,
    /// Bounds for callers.
    pub limits: Limits,
}

impl Config {
    /// Default settings for node `ordinal` of `peers`, which is reached at `addresses`.
    pub fn new(ordinal: u32, peers: Vec<Peer>, addresses: Addresses) -> Self {
        Config {
            ordinal,
            peers,
            addresses,
            zone: String::new(),
            allow_genesis: false,
            timing: Timing::default(),
            retention: Retention::default(),
            limits: Limits::default(),
        }
    }

    /// Voters of the formed cluster: the largest odd number of peers, but at most five.
    pub fn voters_expected(&self) -> usize {
        let peers = self.peers.len().clamp(1, VOTERS_MAX);
        peers - usize::from(peers.is_multiple_of(2))
    }

    pub(crate) fn other_peers(&self) -> impl Iterator<Item = &Peer> {
        self.peers.iter().filter(|peer| peer.ordinal != self.ordinal)
    }

    pub(crate) fn to_openraft(&self) -> Result<openraft::Config, openraft::ConfigError> {
        let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        openraft::Config {
            cluster_name: "kuik".to_owned(),
            heartbeat_interval: millis(self.timing.heartbeat),
            election_timeout_min: millis(self.timing.election_min),
            election_timeout_max: millis(self.timing.election_max),
            quorum_loss_probe_interval: Some(millis(self.timing.quorum_loss_probe)),
            enable_pre_vote: Some(true),
            install_snapshot_timeout: millis(SNAPSHOT_TRANSFER),
            snapshot_policy: SnapshotPolicy::LogsSinceLast(self.retention.snapshot_entries),
            max_in_snapshot_log_to_keep: self.retention.kept_entries,
            replication_lag_threshold: self.retention.lag_entries_max,
            purge_batch_size: self.retention.purge_batch_entries,
            api_channel_size: Some(API_QUEUE_LEN),
            // A follower whose log went back has lost acknowledged entries: never to be papered over.
            allow_log_reversion: Some(false),
            // A restarted leader stands for election like anyone else.
            enable_leader_restore: Some(false),
            ..openraft::Config::default()
        }
        .validate()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(peers: u32) -> Config {
        let peer = |ordinal| Peer {
            ordinal,
            address: format!("node-{ordinal}:5001"),
        };
        Config::new(0, (0..peers).map(peer).collect(), Addresses::default())
    }

    #[test]
    fn voters_are_odd_and_at_most_five() {
        let voters: Vec<usize> = (1..=8).map(|peers| of(peers).voters_expected()).collect();
        assert_eq!(voters, [1, 1, 3, 3, 5, 5, 5, 5]);
    }

    #[test]
    fn the_defaults_are_valid() {
        of(3).to_openraft().unwrap();
    }
}
