//! Seals every stored credential with the active key: the leader looks now and then for those of another. Those whose key
//! is gone are counted, and each is named once.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use ::metrics::Gauge;
use daemon::runtime::one_line;
use daemon::task::TaskSet;
use meta::{Command, CredentialId, CredentialRecord, ReadError, ResealCredential, view};
use raft::MetaHandle;
use tokio::time::{MissedTickBehavior, interval};

use super::keys::KeyRing;
use super::seal::Login;
use crate::metrics;

/// How often the leader looks.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Credentials sealed anew in one look, so that a rotation does not fill the log.
const PAGE: usize = 100;

/// Starts looking in `tasks`.
pub fn start(ledger: MetaHandle, keys: Arc<KeyRing>, tasks: &TaskSet) {
    let stop = tasks.stop_token();
    let mut rewrap = Rewrap {
        ledger,
        keys,
        after: None,
        found_lost: BTreeSet::new(),
        lost: BTreeSet::new(),
        gauge: metrics::lost_key_credentials(),
    };
    let rewrapping = async move {
        let mut ticks = interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if !rewrap.ledger.status().borrow().is_leader() {
                rewrap.rest();
            } else if let Err(error) = rewrap.look().await {
                tracing::error!(error = one_line(&error), "the state cannot be read");
            }
        }
    };
    tasks.spawn("credential rewrap", async move {
        stop.run_until_cancelled_owned(rewrapping).await;
    });
}

/// Goes through all credentials, page by page, again and again.
struct Rewrap {
    ledger: MetaHandle,
    keys: Arc<KeyRing>,
    after: Option<CredentialId>,
    /// Those without a key that this round has come across, and those of the round before.
    found_lost: BTreeSet<CredentialId>,
    lost: BTreeSet<CredentialId>,
    gauge: Gauge,
}

impl Rewrap {
    /// Leaves it to another node, which counts for itself.
    fn rest(&mut self) {
        self.after = None;
        self.found_lost.clear();
        self.lost.clear();
        self.gauge.set(0.0);
    }

    async fn look(&mut self) -> Result<(), ReadError> {
        let active = self.keys.active();
        let page = view::list_credentials(&self.ledger.local(), self.after, PAGE)?;
        self.after = page.last().map(|(id, _)| *id).filter(|_| page.len() == PAGE);
        for (id, record) in page
            .iter()
            .filter(|(_, record)| active.as_ref() != Some(&record.key_id))
        {
            match self.keys.open(*id, &record.key_id, &record.sealed) {
                Some(login) => reseal(&self.ledger, &self.keys, *id, record, &login).await,
                None => self.find_lost(*id, record),
            }
        }
        if self.after.is_none() {
            self.lost = std::mem::take(&mut self.found_lost);
            // A gauge is a float; nobody has 2^53 credentials.
            self.gauge.set(self.lost.len() as f64);
        }
        Ok(())
    }

    fn find_lost(&mut self, id: CredentialId, record: &CredentialRecord) {
        if self.found_lost.insert(id) && !self.lost.contains(&id) {
            tracing::warn!(
                origin = record.origin,
                key_id = record.key_id,
                n_grants = record.n_grants,
                "the key of a stored credential is gone: until it is granted again only what is cached is served for it"
            );
        }
    }
}

async fn reseal(ledger: &MetaHandle, keys: &KeyRing, id: CredentialId, record: &CredentialRecord, login: &Login) {
    let Some(sealed) = keys.seal_again(id, login) else {
        return;
    };
    let command = Command::ResealCredential(ResealCredential {
        credential: id,
        expected_key_id: record.key_id.clone(),
        sealed: sealed.bytes,
        key_id: sealed.key_id,
    });
    match ledger.write(command).await.map(meta::Outcome::accepted) {
        Ok(Ok(_)) => tracing::info!(origin = record.origin, "credential sealed with the active key"),
        Ok(Err(reason)) => tracing::debug!(%reason, "a credential was not sealed anew"),
        Err(error) => tracing::debug!(error = one_line(&error), "a credential was not sealed anew"),
    }
}
