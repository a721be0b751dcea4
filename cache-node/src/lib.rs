//! A cache node: the registry that holds blobs, votes on metadata, fetches from sources, and serves peers and proxies.
//!
//! [`start`] puts it together. The domain is in [`tags`], [`manifests`], [`blobs`], [`fill`] and [`completion`]; what
//! they decide purely is in [`freshness`], [`whole`] and [`source_health`].

pub mod access;
mod api;
pub mod asked;
mod backoff;
pub mod blob_store;
pub mod blobs;
pub mod coalesce;
pub mod completion;
pub mod config;
pub mod control;
pub mod copies;
pub mod desired;
pub mod disk;
mod feature_level;
pub mod fill;
mod filled;
pub mod freshness;
mod generations;
mod layout;
pub mod listings;
pub mod manifests;
pub mod metrics;
mod node;
pub mod peers;
pub mod provenance;
pub mod pull_error;
pub mod recorder;
pub mod registry;
pub mod reports;
pub mod source_health;
pub mod sources;
pub mod tags;
pub mod tier;
pub mod whole;

pub use config::Config;
pub use node::{StartError, start};
