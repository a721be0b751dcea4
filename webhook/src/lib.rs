//! The mutating webhook: sends the images of new pods through the proxy on their node.
//!
//! The decision is a pure function, [`rewrite::rewrite`], of the pod, the rules and what the tier admitted. Everything
//! around it fails open: whatever is in doubt leaves the pod as it was, and says why in an annotation.
//!
//! It deliberately keeps no state that a second replica would need, reads no Secret, and writes nothing to Kubernetes.

#![cfg_attr(test, allow(clippy::disallowed_methods))]

mod app;
mod config;
pub mod kept;
mod loops;
mod metrics;
pub mod pod;
pub mod policy;
pub mod proxies;
mod review;
mod reviewer;
pub mod rewrite;
mod server;
mod serving;
mod tier;

pub use app::start;
pub use config::{Config, ConfigError, NodeAddress, ProxyDaemonSet};
pub use metrics::Metrics;
pub use serving::CertificateFiles;
pub use tier::Answer;
