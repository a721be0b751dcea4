//! Seals every stored credential with the active key: the leader looks now and then for those of another.

use std::sync::Arc;
use std::time::Duration;

use daemon::runtime::one_line;
use daemon::task::TaskSet;
use meta::{Command, CredentialId, CredentialRecord, ReadError, ResealCredential, view};
use raft::MetaHandle;
use tokio::time::{MissedTickBehavior, interval};

use super::keys::KeyRing;

/// How often the leader looks.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Credentials sealed anew in one look, so that a rotation does not fill the log.
const PAGE: usize = 100;

/// Starts looking in `tasks`.
pub fn start(ledger: MetaHandle, keys: Arc<KeyRing>, tasks: &TaskSet) {
    let stop = tasks.stop_token();
    let rewrapping = async move {
        let mut ticks = interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut after = None;
        loop {
            ticks.tick().await;
            if !ledger.status().borrow().is_leader() {
                continue;
            }
            match rewrap_page(&ledger, &keys, after).await {
                Ok(next) => after = next,
                Err(error) => tracing::error!(error = one_line(&error), "the state cannot be read"),
            }
        }
    };
    tasks.spawn("credential rewrap", async move {
        stop.run_until_cancelled_owned(rewrapping).await;
    });
}

/// Looks at the credentials after `after`; says where to go on.
async fn rewrap_page(
    ledger: &MetaHandle,
    keys: &KeyRing,
    after: Option<CredentialId>,
) -> Result<Option<CredentialId>, ReadError> {
    let Some(active) = keys.active() else {
        return Ok(None);
    };
    let page = view::list_credentials(&ledger.local(), after, PAGE)?;
    let next = page.last().map(|(id, _)| *id).filter(|_| page.len() == PAGE);
    for (id, record) in page.iter().filter(|(_, record)| record.key_id != active) {
        rewrap(ledger, keys, *id, record).await;
    }
    Ok(next)
}

async fn rewrap(ledger: &MetaHandle, keys: &KeyRing, id: CredentialId, record: &CredentialRecord) {
    let Some(login) = keys.open(id, &record.key_id, &record.sealed) else {
        tracing::warn!(
            origin = record.origin,
            key_id = record.key_id,
            "a stored credential cannot be opened, its key is gone"
        );
        return;
    };
    let Some(sealed) = keys.seal_again(id, &login) else {
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
