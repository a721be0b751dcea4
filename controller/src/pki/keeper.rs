//! Keeps the Secrets and the webhook's bundle in order, pass by pass.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use kube::Client;
use proto::access::Role;
use ring::rand::{SecureRandom, SystemRandom};
use tokio::time::Instant;

use super::authority::Authorities;
use super::certificate::{CertificateError, Facts, Pair, make_leaf};
use super::part::{Part, parts};
use super::plan::{Due, due};
use super::secrets::Slot;
use super::webhook::write_bundle;
use crate::config::Install;
use crate::metrics;

/// Also how soon a Secret that someone deleted is back.
const PASS_INTERVAL: Duration = Duration::from_secs(60);
/// After a pass that failed, such as one before the proxies' namespace is there.
const RETRY_INTERVAL: Duration = Duration::from_secs(2);
/// Every Secret has held what it should for this long before an authority changes: longer than any part takes to see
/// a changed Secret, whatever happened to this program in between.
const SETTLED: Duration = Duration::from_secs(60 * 60);
const KEY_BYTES: usize = 32;

/// Why certificates are not in order.
#[derive(Debug, thiserror::Error)]
pub enum KeeperError {
    /// The API server refused or did not answer.
    #[error("secret {name}")]
    Api {
        /// What was read or written.
        name: String,
        /// Why.
        source: Box<kube::Error>,
    },
    /// A certificate could not be made.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// The operating system gave no random bytes.
    #[error("no random bytes for the key in secret {0}")]
    Random(String),
}

/// PEM texts with which this program shows itself to the tier.
#[derive(Clone, PartialEq, Eq)]
pub struct Identity {
    /// Authorities that are trusted.
    pub ca: String,
    /// Our certificate.
    pub cert: String,
    /// Its key.
    pub key: String,
}

struct Pass {
    identity: Identity,
    complete: bool,
}

/// Keeps certificates in order while this program leads.
pub struct Keeper {
    client: Client,
    install: Install,
    settled_since: Option<Instant>,
    own: Option<(Authorities, Pair)>,
}

impl Keeper {
    /// Makes a keeper that has not looked yet.
    pub fn new(client: Client, install: Install) -> Self {
        Self {
            client,
            install,
            settled_since: None,
            own: None,
        }
    }

    /// Passes for ever, and tells `identities` whenever ours is a new one.
    pub async fn run(mut self, identities: tokio::sync::watch::Sender<Option<Identity>>) {
        loop {
            let wait = match self.pass(Timestamp::now()).await {
                Ok(pass) => {
                    identities.send_if_modified(|held| {
                        let changed = held.as_ref() != Some(&pass.identity);
                        *held = Some(pass.identity);
                        changed
                    });
                    if pass.complete { PASS_INTERVAL } else { RETRY_INTERVAL }
                }
                Err(error) => {
                    warn(&error);
                    RETRY_INTERVAL
                }
            };
            tokio::time::sleep(wait).await;
        }
    }

    /// Keeps the key that seals credentials alone, for ever, where others make the certificates.
    pub async fn run_for_sealing_key(self) {
        loop {
            let wait = match self.write_sealing_key().await {
                Ok(_) => PASS_INTERVAL,
                Err(error) => {
                    warn(&error);
                    RETRY_INTERVAL
                }
            };
            tokio::time::sleep(wait).await;
        }
    }

    /// Brings everything in order once. What fails for one part, such as its namespace not being there yet, holds up no
    /// other part.
    ///
    /// # Errors
    /// [`KeeperError`] without an authority; what was written until then stays, and the next pass goes on from it.
    async fn pass(&mut self, now: Timestamp) -> Result<Pass, KeeperError> {
        let authorities = self.authorities(now).await?;
        let mut written = vec![self.write_sealing_key().await];
        for part in parts(&self.install) {
            written.push(self.write_part(&part, &authorities, now).await);
        }
        written.push(self.write_bundle(&authorities).await);
        written
            .iter()
            .filter_map(|written| written.as_ref().err())
            .for_each(warn);
        if written.iter().all(|written| matches!(written, Ok(false))) {
            self.settled_since.get_or_insert_with(Instant::now);
        } else {
            self.settled_since = None;
        }
        Ok(Pass {
            identity: self.identity(&authorities, now)?,
            complete: written.iter().all(Result::is_ok),
        })
    }

    async fn write_bundle(&self, authorities: &Authorities) -> Result<bool, KeeperError> {
        let written = write_bundle(&self.client, &self.install, &authorities.bundle()).await;
        written.map_err(|source| api_error(&self.install.name("mutating-webhook"), source))
    }

    async fn authorities(&self, now: Timestamp) -> Result<Authorities, KeeperError> {
        let name = self.install.name("ca");
        let slot = self.slot(&self.install.namespace, &name).await?;
        let Some(found) = slot.authorities() else {
            let made = Authorities::make(now)?;
            slot.write_authorities(&made)
                .await
                .map_err(|source| api_error(&name, source))?;
            tracing::info!(secret = name, "certificate authority made");
            return Ok(made);
        };
        let settled = self.settled_since.is_some_and(|since| since.elapsed() >= SETTLED);
        let ended = Facts::read(&found.active.cert).is_none_or(|active| now >= active.end);
        let stepped = if settled || ended { found.step(now)? } else { None };
        match stepped {
            None => Ok(found),
            Some(stepped) => {
                slot.write_authorities(&stepped)
                    .await
                    .map_err(|source| api_error(&name, source))?;
                tracing::info!(secret = name, "certificate authority changed by a step");
                Ok(stepped)
            }
        }
    }

    async fn write_part(&self, part: &Part, authorities: &Authorities, now: Timestamp) -> Result<bool, KeeperError> {
        let slot = self.slot(&part.namespace, &part.secret).await?;
        let held = slot.held();
        metrics::certificate_end(
            &part.secret,
            held.as_ref()
                .and_then(|held| Facts::read(&held.cert))
                .map(|facts| facts.end),
        );
        let pair = match (due(part, held.as_ref(), authorities, now), slot.leaf()) {
            (Due::Nothing, _) => return Ok(false),
            (Due::Bundle, Some(pair)) => pair,
            (Due::Bundle, None) | (Due::Certificate, _) => {
                make_leaf(&part.secret, &part.names, &authorities.active, now)?
            }
        };
        let written = slot.write_leaf(authorities.bundle(), pair).await;
        written.map_err(|source| api_error(&part.secret, source))?;
        tracing::info!(secret = part.secret, namespace = part.namespace, "certificate written");
        Ok(true)
    }

    /// Makes the key that seals credentials, once: one that exists is never touched.
    async fn write_sealing_key(&self) -> Result<bool, KeeperError> {
        let name = self.install.name("kek");
        let slot = self.slot(&self.install.namespace, &name).await?;
        if !slot.is_absent() {
            return Ok(false);
        }
        let mut key = [0; KEY_BYTES];
        let filled = SystemRandom::new().fill(&mut key);
        filled.map_err(|_unspecified| KeeperError::Random(name.clone()))?;
        // Named by the moment, so that what an earlier install sealed is never tried with it.
        let id = format!("k{}", Timestamp::now().as_second());
        let data = vec![("active", id.clone()), (id.as_str(), STANDARD.encode(key))];
        slot.write_opaque(data)
            .await
            .map_err(|source| api_error(&name, source))?;
        Ok(true)
    }

    fn identity(&mut self, authorities: &Authorities, now: Timestamp) -> Result<Identity, KeeperError> {
        let usable = |pair: &Pair| Facts::read(&pair.cert).is_some_and(|facts| now < facts.renew_at());
        let held = self
            .own
            .take()
            .filter(|(from, pair)| from.active == authorities.active && usable(pair));
        let pair = match held {
            Some((_, pair)) => pair,
            None => {
                let names = [Role::Controller.dns_name().to_owned()];
                make_leaf(&self.install.name("controllers"), &names, &authorities.active, now)?
            }
        };
        self.own = Some((authorities.clone(), pair.clone()));
        Ok(Identity {
            ca: authorities.bundle(),
            cert: pair.cert,
            key: pair.key,
        })
    }

    async fn slot(&self, namespace: &str, name: &str) -> Result<Slot, KeeperError> {
        let read = Slot::read(&self.client, namespace, name).await;
        read.map_err(|source| api_error(name, source))
    }
}

fn api_error(name: &str, source: kube::Error) -> KeeperError {
    KeeperError::Api {
        name: name.to_owned(),
        source: Box::new(source),
    }
}

fn warn(error: &KeeperError) {
    let error = daemon::runtime::one_line(error);
    tracing::warn!(error, "certificates are not in order");
}
