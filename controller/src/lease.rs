//! One leader among the controllers, by a Lease.
//!
//! Every write names the version it was decided from, so two claims never both succeed. A holder is believed for the
//! lease's duration since we last saw it renew, by our own clock. A leader that could not renew stops its work before
//! anyone else may begin: [`Election::lead`] returns then, and at shutdown it gives the lease back.

use std::time::Duration;

use daemon::readiness::Gate;
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use tokio::time::Instant;

/// A holder that has not renewed for this long is gone.
const DURATION: Duration = Duration::from_secs(15);
/// A leader that could not renew for this long stops; the rest of the duration is the time its work has to end.
const RENEW_DEADLINE: Duration = Duration::from_secs(8);
/// How often a leader renews and others look.
const INTERVAL: Duration = Duration::from_secs(2);
/// One request; two tries fit into the renewal's deadline.
const REQUEST_DEADLINE: Duration = Duration::from_secs(4);

/// Takes part in an election under a name of its own.
pub struct Election {
    api: Api<Lease>,
    name: String,
    identity: String,
    seen: Option<Seen>,
    gate: Option<Gate>,
}

/// A holder as we last saw it change.
struct Seen {
    version: Option<String>,
    at: Instant,
}

#[derive(Debug, PartialEq, Eq)]
enum Claim {
    /// It is free, or its holder is gone.
    Take,
    /// It is ours.
    Renew,
    /// Someone else holds it.
    Wait,
}

impl Election {
    /// Takes part in the election `name` in `namespace` as `identity`, which nobody else uses.
    pub fn new(client: Client, namespace: &str, name: &str, identity: &str) -> Self {
        Self {
            api: Api::namespaced(client, namespace),
            name: name.to_owned(),
            identity: identity.to_owned(),
            seen: None,
            gate: None,
        }
    }

    /// Says in `gate` whether the API server lets us take part.
    #[must_use]
    pub fn told_to(mut self, gate: Gate) -> Self {
        self.gate = Some(gate);
        self
    }

    /// Waits until this program leads.
    pub async fn win(&mut self) {
        loop {
            match self.claim().await {
                Ok(true) => return,
                Ok(false) => {}
                Err(error) => {
                    let error = daemon::runtime::one_line(&error);
                    tracing::warn!(error, lease = self.name, "lease not read or written");
                }
            }
            tokio::time::sleep(INTERVAL).await;
        }
    }

    /// Renews for as long as it works, and returns when this program must no longer lead.
    pub async fn lead(&mut self) {
        let mut renewed = Instant::now();
        loop {
            let round = async {
                tokio::time::sleep(INTERVAL).await;
                (Instant::now(), self.claim().await)
            };
            let Ok((began, claimed)) = tokio::time::timeout_at(renewed + RENEW_DEADLINE, round).await else {
                return;
            };
            match claimed {
                Ok(true) => renewed = began,
                Ok(false) => return,
                Err(error) => {
                    let error = daemon::runtime::one_line(&error);
                    tracing::warn!(error, lease = self.name, "lease not renewed");
                }
            }
        }
    }

    /// Gives the lease back, so that another leads at once.
    pub async fn release(&mut self) {
        let released = async {
            let Some(mut lease) = self.api.get_opt(&self.name).await? else {
                return Ok(());
            };
            let spec = lease.spec.get_or_insert_default();
            if spec.holder_identity.as_deref() != Some(self.identity.as_str()) {
                return Ok(());
            }
            spec.holder_identity = None;
            self.api
                .replace(&self.name, &PostParams::default(), &lease)
                .await
                .map(drop)
        };
        match tokio::time::timeout(REQUEST_DEADLINE, released).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, lease = self.name, "lease not given back"),
            Err(_elapsed) => tracing::warn!(lease = self.name, "lease not given back in time"),
        }
    }

    /// Looks once, and takes or renews the lease where that is right. Says whether it is ours now.
    async fn claim(&mut self) -> Result<bool, kube::Error> {
        let claimed = tokio::time::timeout(REQUEST_DEADLINE, self.claim_once()).await;
        let claimed = match claimed {
            Ok(Err(kube::Error::Api(status))) if status.is_conflict() || status.is_already_exists() => Ok(false),
            Ok(claimed) => claimed,
            Err(_elapsed) => Err(kube::Error::Service("no answer in time".into())),
        };
        match (&self.gate, &claimed) {
            (Some(gate), Ok(_)) => gate.open(),
            (Some(gate), Err(error)) => gate.close(format!("lease: {}", daemon::runtime::one_line(error))),
            (None, _) => {}
        }
        claimed
    }

    async fn claim_once(&mut self) -> Result<bool, kube::Error> {
        let found = self.api.get_opt(&self.name).await?;
        let Some(mut lease) = found else {
            let lease = Lease {
                metadata: ObjectMeta {
                    name: Some(self.name.clone()),
                    ..ObjectMeta::default()
                },
                spec: Some(self.taken(None, Timestamp::now())),
            };
            self.api.create(&PostParams::default(), &lease).await?;
            return Ok(true);
        };
        let spec = lease.spec.get_or_insert_default();
        let waited = self.unchanged_for(lease.metadata.resource_version.as_deref());
        match decide(spec, &self.identity, waited) {
            Claim::Wait => return Ok(false),
            Claim::Renew => spec.renew_time = Some(MicroTime(Timestamp::now())),
            Claim::Take => *spec = self.taken(Some(spec), Timestamp::now()),
        }
        self.api.replace(&self.name, &PostParams::default(), &lease).await?;
        Ok(true)
    }

    fn unchanged_for(&mut self, version: Option<&str>) -> Duration {
        match &self.seen {
            Some(seen) if seen.version.as_deref() == version => seen.at.elapsed(),
            _ => {
                self.seen = Some(Seen {
                    version: version.map(str::to_owned),
                    at: Instant::now(),
                });
                Duration::ZERO
            }
        }
    }

    fn taken(&self, before: Option<&LeaseSpec>, now: Timestamp) -> LeaseSpec {
        let transitions = before.and_then(|before| before.lease_transitions).unwrap_or(0);
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
            acquire_time: Some(MicroTime(now)),
            renew_time: Some(MicroTime(now)),
            lease_transitions: Some(transitions.saturating_add(i32::from(before.is_some()))),
            ..LeaseSpec::default()
        }
    }
}

/// What to do about a lease that has not changed for `unchanged_for`.
fn decide(spec: &LeaseSpec, identity: &str, unchanged_for: Duration) -> Claim {
    let holder = spec.holder_identity.as_deref().unwrap_or_default();
    if holder == identity {
        return Claim::Renew;
    }
    let seconds = spec
        .lease_duration_seconds
        .and_then(|seconds| u64::try_from(seconds).ok());
    let duration = seconds.map_or(DURATION, Duration::from_secs);
    if holder.is_empty() || unchanged_for >= duration {
        Claim::Take
    } else {
        Claim::Wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held_by(holder: Option<&str>) -> LeaseSpec {
        LeaseSpec {
            holder_identity: holder.map(str::to_owned),
            lease_duration_seconds: Some(15),
            ..LeaseSpec::default()
        }
    }

    #[test]
    fn a_lease_is_taken_when_free_and_when_its_holder_is_gone() {
        let seconds = Duration::from_secs;
        let table = [
            (None, 0, Claim::Take),
            (Some(""), 0, Claim::Take),
            (Some("me"), 0, Claim::Renew),
            (Some("other"), 0, Claim::Wait),
            (Some("other"), 14, Claim::Wait),
            (Some("other"), 15, Claim::Take),
        ];
        for (holder, waited, expected) in table {
            assert_eq!(
                decide(&held_by(holder), "me", seconds(waited)),
                expected,
                "{holder:?} {waited}"
            );
        }
    }

    #[test]
    fn a_stopped_leader_has_time_before_another_begins() {
        assert!(RENEW_DEADLINE + crate::run::STOP_DEADLINE < DURATION);
    }
}
