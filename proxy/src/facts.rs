//! What the tier knows and every proxy should: which hosts have a port, so that `host-port` in a path means them.
//!
//! Asked of any living node every few seconds, and kept while none answers. Only a pull whose path may name a host that
//! is not known yet waits for it, for a moment: the pod may be the first that names that host.

use std::collections::HashSet;
use std::convert::Infallible;
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use oci::SourceHost;
use proto::access::TierFacts;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout};

use crate::pull::Pull;
use crate::supply::Supply;

/// A host that a pod names for the first time can be written `host-port` after this.
const INTERVAL: Duration = Duration::from_secs(5);
/// What was asked this short a time ago is new enough: no pod is admitted, scheduled and pulled faster.
const FRESH: Duration = Duration::from_millis(300);
/// A pull waits no longer than this for newer facts.
const PATIENCE: Duration = Duration::from_millis(500);
/// Hosts kept: more than a company has registries.
const HOSTS_MAX: usize = 1024;

/// The newest facts.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    hosts_with_port: RwLock<HashSet<SourceHost>>,
    /// When the last question that has been answered, or failed, was asked, and whether it was answered.
    asked: watch::Sender<Option<(Instant, bool)>>,
    ask_now: Notify,
}

impl Facts {
    /// Whether the tier knows this `host:port`.
    pub(crate) fn knows(&self, host: &SourceHost) -> bool {
        let hosts = self.hosts_with_port.read().unwrap_or_else(PoisonError::into_inner);
        hosts.contains(host)
    }

    /// Takes newer facts; what is no host with a port is passed over.
    pub(crate) fn replace(&self, facts: &TierFacts) {
        let hosts = facts.hosts_with_port.iter().filter_map(|host| host.parse().ok());
        let with_port = |host: &SourceHost| host.as_str().contains(':');
        let hosts = hosts.filter(with_port).take(HOSTS_MAX).collect();
        *self.hosts_with_port.write().unwrap_or_else(PoisonError::into_inner) = hosts;
    }

    /// Waits until the facts are those of now; says no if they cannot be had within a moment.
    pub(crate) async fn newer(&self) -> bool {
        let now = Instant::now();
        let wanted = now.checked_sub(FRESH).unwrap_or(now);
        let is_fresh = |asked: &Option<(Instant, bool)>| asked.is_some_and(|(asked, _)| asked >= wanted);
        let mut asked = self.asked.subscribe();
        if !is_fresh(&asked.borrow_and_update()) {
            self.ask_now.notify_one();
        }
        let newer = timeout(PATIENCE, asked.wait_for(is_fresh)).await;
        matches!(newer, Ok(Ok(asked)) if asked.is_some_and(|(_, answered)| answered))
    }

    /// Keeps the facts new, until dropped.
    pub(crate) async fn run<S: Supply>(&self, pull: &Pull<S>) -> Infallible {
        loop {
            let began = Instant::now();
            let facts = pull.facts().await;
            if let Some(facts) = &facts {
                self.replace(facts);
            }
            self.asked.send_replace(Some((began, facts.is_some())));
            let _elapsed = timeout(INTERVAL, self.ask_now.notified()).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_hosts_with_a_port_are_known_and_newer_facts_replace_older() {
        let facts = Facts::default();
        let known = |host: &str| facts.knows(&host.parse().unwrap());
        facts.replace(&TierFacts {
            hosts_with_port: ["reg.corp:5000", "quay.io", "not a host", ""]
                .map(str::to_owned)
                .to_vec(),
        });
        assert!(known("reg.corp:5000") && !known("quay.io") && !known("reg.corp:5001"));
        facts.replace(&TierFacts::default());
        assert!(!known("reg.corp:5000"));
    }
}
