//! The policy file, read again when it changes.
//!
//! A file that cannot be used changes nothing. Before the first good one nothing is rewritten, and the webhook is not
//! ready.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use daemon::readiness::Gate;
use daemon::runtime::one_line;
use daemon::task::TaskSet;
use tokio::sync::watch;

use super::{Policy, PolicyError};
use crate::metrics::Metrics;

/// How soon a change acts. Kubernetes takes up to a minute to bring a changed ConfigMap to a pod.
pub const RELOAD_INTERVAL: Duration = Duration::from_secs(2);

/// The policy in use; none before the first good file.
pub type CurrentPolicy = watch::Receiver<Option<Arc<Policy>>>;

/// Why the file gives no policy.
#[derive(Debug, thiserror::Error)]
pub enum PolicyFileError {
    /// It cannot be read.
    #[error("read policy {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is no policy.
    #[error("policy file {}", path.display())]
    Policy {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: PolicyError,
    },
}

struct PolicyFile {
    path: PathBuf,
    seen: Option<Result<String, String>>,
    policy: watch::Sender<Option<Arc<Policy>>>,
    metrics: Metrics,
}

/// Reads the file now and then until `tasks` stop; opens `gate` at the first good one.
pub fn start(path: &Path, gate: Gate, metrics: Metrics, tasks: &TaskSet) -> CurrentPolicy {
    let (policy, current) = watch::channel(None);
    let mut file = PolicyFile {
        path: path.to_owned(),
        seen: None,
        policy,
        metrics,
    };
    file.reload(&gate);
    let stop = tasks.stop_token();
    tasks.spawn_critical("policy", async move {
        let reloading = async {
            loop {
                tokio::time::sleep(RELOAD_INTERVAL).await;
                file.reload(&gate);
            }
        };
        stop.run_until_cancelled_owned(reloading).await;
    });
    current
}

impl PolicyFile {
    /// Acts on the file if it differs from the last time.
    fn reload(&mut self, gate: &Gate) {
        let text = std::fs::read_to_string(&self.path);
        let seen = Some(text.as_ref().map(String::clone).map_err(ToString::to_string));
        if self.seen == seen {
            return;
        }
        self.seen = seen;
        let policy = text
            .map_err(|source| PolicyFileError::Read {
                path: self.path.clone(),
                source,
            })
            .and_then(|text| {
                Policy::parse(&text).map_err(|source| PolicyFileError::Policy {
                    path: self.path.clone(),
                    source,
                })
            });
        match policy {
            Ok(policy) => {
                self.policy.send_replace(Some(Arc::new(policy)));
                self.metrics.policy_loaded();
                gate.open();
                tracing::info!("policy loaded");
            }
            Err(error) => {
                let error = one_line(&error);
                self.metrics.policy_refused();
                if self.policy.borrow().is_none() {
                    gate.close(error.clone());
                }
                tracing::warn!(error, "policy not loaded, what was in use stays");
            }
        }
    }
}
