//! The credentials that were granted, as the client of source registries asks for them.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use daemon::runtime::one_line;
use meta::view::Grant;
use meta::{Command, CredentialId, MarkGrants, ReadError, SetVisibility, Visibility, view};
use oci::Repository;
use raft::MetaHandle;
use tokio::time::Instant;
use upstream::{Credential, GrantedCredentials};

use super::keys::KeyRing;
use crate::recorder::Recorder;

/// Grants of one repository looked at. Most rest on a few credentials.
const GRANTS_MAX: usize = 256;
/// Credentials tried for one request: each costs a round trip.
const TRIED_MAX: usize = 4;
/// How long the same thing is not noted again: by then the first note is committed.
const NOTED_FOR: Duration = Duration::from_secs(30);
/// Notes remembered.
const NOTES_MAX: usize = 4096;

/// Opens granted credentials.
pub struct Vault {
    ledger: MetaHandle,
    keys: Arc<KeyRing>,
    recorder: Recorder,
    noted: Mutex<HashMap<Note, Instant>>,
}

/// That a repository is public, or refuses a credential.
type Note = (Repository, Option<CredentialId>);

impl Vault {
    /// Opens what `ledger` holds with `keys`.
    pub fn new(ledger: MetaHandle, keys: Arc<KeyRing>, recorder: Recorder) -> Self {
        Self {
            ledger,
            keys,
            recorder,
            noted: Mutex::default(),
        }
    }

    fn read(&self, repository: &Repository) -> Result<Vec<(Grant, Arc<Credential>)>, ReadError> {
        let state = self.ledger.local();
        if !matches!(view::visibility(&state, repository)?, Some(Visibility::Private { .. })) {
            return Ok(Vec::new());
        }
        let mut grants = view::grants_of(&state, repository, GRANTS_MAX)?;
        grants.sort_by_key(preference);
        let mut opened: Vec<(Grant, Arc<Credential>)> = Vec::new();
        for grant in grants {
            let id = grant.record.credential;
            if opened.iter().any(|(known, _)| known.record.credential == id) {
                continue;
            }
            let Some(sealed) = view::credential(&state, id)? else {
                continue;
            };
            match self.keys.open(id, &sealed.key_id, &sealed.sealed) {
                Some(login) => opened.push((grant, Arc::new(login.credential()))),
                // The leader says so once, and counts it.
                None => tracing::debug!(
                    origin = sealed.origin,
                    key_id = sealed.key_id,
                    "a stored credential cannot be opened"
                ),
            }
            if opened.len() == TRIED_MAX {
                break;
            }
        }
        Ok(opened)
    }

    fn note_refused(&self, repository: &Repository, credential: &Credential) -> Result<(), ReadError> {
        let opened = self.read(repository)?;
        let Some((grant, _)) = opened.iter().find(|(_, other)| **other == *credential) else {
            return Ok(());
        };
        let id = grant.record.credential;
        if grant.record.refused_since_ms.is_some() || !self.is_news(repository, Some(id)) {
            return Ok(());
        }
        let grants = view::grants_of(&self.ledger.local(), repository, GRANTS_MAX)?;
        let resting = grants.into_iter().filter(|grant| grant.record.credential == id);
        let namespaces = resting.map(|grant| grant.namespace).collect();
        tracing::warn!(%repository, ?namespaces, "the source refuses a granted credential");
        self.recorder.record(Command::MarkGrants(MarkGrants {
            repository: repository.clone(),
            namespaces,
            credential: id,
            refused: true,
        }));
        Ok(())
    }

    fn is_news(&self, repository: &Repository, id: Option<CredentialId>) -> bool {
        let now = Instant::now();
        let mut noted = self.noted();
        if noted.len() >= NOTES_MAX {
            noted.clear();
        }
        let note = (repository.clone(), id);
        let is_news = noted
            .get(&note)
            .is_none_or(|last| now.duration_since(*last) >= NOTED_FOR);
        if is_news {
            noted.insert(note, now);
        }
        is_news
    }

    fn note_public(&self, repository: &Repository) -> Result<(), ReadError> {
        let known = view::visibility(&self.ledger.local(), repository)?;
        if !matches!(known, Some(Visibility::Public { .. })) && self.is_news(repository, None) {
            self.recorder.record(Command::SetVisibility(SetVisibility {
                repository: repository.clone(),
                public: true,
            }));
        }
        Ok(())
    }

    fn noted(&self) -> MutexGuard<'_, HashMap<Note, Instant>> {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Those that are not refused first, of them the one that worked last.
fn preference(grant: &Grant) -> (bool, std::cmp::Reverse<u64>) {
    let record = &grant.record;
    (
        record.refused_since_ms.is_some(),
        std::cmp::Reverse(record.verified_at_ms),
    )
}

impl GrantedCredentials for Vault {
    fn of(&self, repository: &Repository) -> Vec<Arc<Credential>> {
        match self.read(repository) {
            Ok(opened) => opened.into_iter().map(|(_, credential)| credential).collect(),
            Err(error) => {
                tracing::error!(error = one_line(&error), "the state cannot be read");
                Vec::new()
            }
        }
    }

    fn refused(&self, repository: &Repository, credential: &Credential) {
        if let Err(error) = self.note_refused(repository, credential) {
            tracing::error!(error = one_line(&error), "the state cannot be read");
        }
    }

    fn public(&self, repository: &Repository) {
        if let Err(error) = self.note_public(repository) {
            tracing::error!(error = one_line(&error), "the state cannot be read");
        }
    }
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Vault")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(namespace: &str, verified_at_ms: u64, refused: bool) -> Grant {
        Grant {
            repository: "a.example/b".parse().unwrap(),
            namespace: namespace.into(),
            record: meta::GrantRecord {
                credential: CredentialId::new(1),
                verified_at_ms,
                refused_since_ms: refused.then_some(9),
            },
        }
    }

    #[test]
    fn what_worked_last_is_tried_first_and_what_is_refused_last() {
        let mut grants = [
            grant("refused", 9, true),
            grant("old", 1, false),
            grant("new", 5, false),
        ];
        grants.sort_by_key(preference);
        let names: Vec<_> = grants.iter().map(|grant| grant.namespace.as_str()).collect();
        assert_eq!(names, ["new", "old", "refused"]);
    }
}
