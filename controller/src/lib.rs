//! The controller: keeps certificates, CachedImages and Repositories, and tells the tier what the cluster uses.

mod action;
mod cleanup;
mod config;
pub mod crd;
mod credentials;
mod events;
mod executor;
mod grant;
mod image;
pub mod lease;
mod metrics;
mod name;
mod news;
pub mod pki;
mod placing;
mod plan;
mod pod;
mod proxy_standing;
mod reconciler;
mod run;
mod schedule;
mod self_test;
mod sign_of_life;
mod state;
mod tier;
mod usage;
mod watches;
mod workload;

pub use cleanup::{CleanupError, Leftovers, clean_up};
pub use config::{Architectures, Certificates, Config, ConfigError, Install, NodeAddress};
pub use run::start;
pub use self_test::{SelfTestError, self_test};

/// Who wrote a field, in objects that are written whole by this program.
pub(crate) const FIELD_MANAGER: &str = "kuik-controller";
