//! The controller: keeps certificates, CachedImages and Repositories, and tells the tier what the cluster uses.

mod config;
pub mod crd;
pub mod lease;
mod metrics;
pub mod pki;
mod run;

pub use config::{Architectures, Certificates, Config, ConfigError, Install, NodeAddress};
pub use run::start;

/// Who wrote a field, in objects that are written whole by this program.
pub(crate) const FIELD_MANAGER: &str = "kuik-controller";
