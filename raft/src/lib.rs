//! Runs `meta` under openraft: the replicated log, its stores, the network between nodes and how a cluster forms.
//!
//! [`open`](fn@open) (or [`open_on_disk`]) gives two things: a gRPC service to be served at once, since peers ask it whether this
//! node is empty, and a [`Formation`], which founds or joins a cluster, or returns to it, and ends in a [`MetaHandle`].
//! No type of openraft leaves this crate.

#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests own their tasks"))]

mod codec;
mod config;
mod connect;
mod data_dir;
#[cfg(feature = "rocksdb")]
mod db;
mod environment;
mod error;
mod fatal;
mod formation;
#[cfg(feature = "rocksdb")]
mod fsck;
mod handle;
mod identity;
mod log_disk;
pub mod log_io;
mod log_store;
mod membership;
mod memory_log;
mod memory_state;
mod metrics;
mod network;
mod node;
mod open;
#[cfg(feature = "rocksdb")]
mod rocks_log;
#[cfg(feature = "rocksdb")]
mod rocks_state;
pub mod runtime;
mod server;
mod snapshot;
mod state_machine;
mod state_store;
mod status;
#[cfg(test)]
mod store_suite;
mod types;

pub use config::{Config, Limits, Peer, Retention, Timing};
pub use connect::{BadAddress, Connect, PlainConnect, endpoint};
pub use data_dir::{DataDir, DataDirError};
pub use environment::{Clock, Entropy, System};
pub use error::{FormationError, OpenError, ReadError, WriteError};
pub use fatal::{Abort, Observed, OnFatal};
pub use formation::Formation;
#[cfg(feature = "rocksdb")]
pub use fsck::{Finding, FsckError, StateReport, fsck};
pub use handle::MetaHandle;
pub use identity::{Identity, IdentityStore, Member, MemoryIdentity};
pub use log_disk::{LogDisk, LogRoom, Stall};
pub use log_store::{Driver, SyncDelay};
pub use memory_log::MemoryLog;
pub use memory_state::MemoryStore;
#[cfg(feature = "rocksdb")]
pub use open::open_on_disk;
pub use open::{Dependencies, Opened, Storage, open};
pub use server::RaftService;
pub use snapshot::{Manifest, Snapshot, SnapshotWriter};
pub use state_store::{LocalView, StateStore};
pub use status::{RaftStatus, Role};
pub use types::NodeInfo;
