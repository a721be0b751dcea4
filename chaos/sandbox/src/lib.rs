//! Real clusters, source registries and container clients, started for one test and stopped with it.
//!
//! Everything here is a process of its own on loopback with its data in a temporary directory: what a test
//! sees is what a person at a shell would. The programs are taken from beside the test (`target/debug`), or from
//! `KUIK_BIN_DIR`; `cargo xtask e2e` builds them first. Faults inside one process are the simulation's business.

pub mod client;
pub mod cluster;
pub mod http;
pub mod image;
mod observe;
mod process;
mod relay;
mod small_disk;
pub mod source;
pub mod wait;

pub use cluster::{Cluster, ClusterBuilder, NodeStatus};
pub use process::{Process, cpu_seconds, free_port, program, resident_bytes, with_children};
pub use relay::{Fault, Relay};
pub use source::SourceRegistry;
