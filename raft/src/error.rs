//! Why something asked of consensus did not happen, by what the caller can do about it.

use std::io;

use meta::{ClusterId, DecodeError};

use crate::data_dir::DataDirError;

/// Why a write has no outcome.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// Too many writes wait on this node already. Nothing was proposed; try later.
    #[error("too many writes are waiting")]
    Overloaded,
    /// The command is larger than an entry may be. Never to be tried again.
    #[error("command of {bytes} bytes is over the limit of {max}")]
    TooLarge {
        /// Its encoded size.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// No outcome in time: no leader was found, or it could not commit. The command may still take effect. Proposing
    /// it again is safe, since every command is.
    #[error("no outcome within the deadline")]
    TimedOut,
    /// The leader's disk is full, so nothing new is recorded. What is recorded is still served.
    #[error("the leader's disk is full, nothing new is recorded: make room on its volume")]
    NoRoom,
    /// This node is shutting down, or has failed.
    #[error("consensus has stopped on this node")]
    Stopped,
    /// The answer cannot be read: the cluster is newer than this binary.
    #[error("read the outcome")]
    Unreadable(#[source] DecodeError),
}

/// Why a linearizable read is not possible now.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// There is no leader with a quorum, or this node does not hear of it. Local reads still work.
    #[error("no quorum within the deadline")]
    TimedOut,
    /// This node is shutting down, or has failed.
    #[error("consensus has stopped on this node")]
    Stopped,
}

/// Why a node cannot start on its disk.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory is in use or cannot be made.
    #[error("open the data directory")]
    DataDir(#[source] DataDirError),
    /// The identity cannot be read or written.
    #[error("open the identity of this node")]
    Identity(#[source] io::Error),
    /// The log is damaged, or the disk failed. Never repaired by cutting it short: this disk counts as lost.
    #[error("open the log")]
    Log(#[source] io::Error),
    /// The state is damaged, or the disk failed.
    #[error("open the state")]
    State(#[source] io::Error),
}

/// Why a node did not become a member of its cluster.
#[derive(Debug, thiserror::Error)]
pub enum FormationError {
    /// The settings contradict each other.
    #[error("settings of consensus are not valid: {reason}")]
    Config {
        /// What is wrong.
        reason: String,
    },
    /// The data on this disk is of another cluster than the peers are in.
    #[error("the data of this node is of cluster {ours}, but {peer} is in cluster {theirs}")]
    OtherCluster {
        /// Whose data is on this disk.
        ours: ClusterId,
        /// What the peer is in.
        theirs: ClusterId,
        /// Address of that peer.
        peer: String,
    },
    /// The peers are in two clusters, so there is none to join.
    #[error("peers are in different clusters: {one} and {other}")]
    SplitPeers {
        /// One of them.
        one: ClusterId,
        /// Another.
        other: ClusterId,
    },
    /// The log gave this node an id it cannot have.
    #[error("the cluster was founded, but not by this node: {reason}")]
    NotFounder {
        /// What was answered.
        reason: String,
    },
    /// The disk failed.
    #[error("write the identity of this node")]
    Identity(#[source] io::Error),
    /// Consensus failed to start or has stopped.
    #[error("consensus has stopped: {reason}")]
    Stopped {
        /// What it said.
        reason: String,
    },
}
