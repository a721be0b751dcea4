//! What grants there are, for whoever keeps them in order. Never what their credentials hold.

use std::collections::HashMap;
use std::sync::Arc;

use meta::view::Grant;
use meta::{CredentialId, ReadError, view};
use oci::Repository;
use raft::MetaHandle;

use super::granting::GrantError;
use super::keys::KeyRing;

/// Grants told at once: some 200 bytes each, within what a message may hold.
const PAGE: usize = 1000;

/// A grant, and how it stands with its credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The grant.
    pub grant: Grant,
    /// Where its credential came from, for people.
    pub origin: String,
    /// Whether this node has the key to its credential.
    pub can_be_opened: bool,
}

/// Some grants, in their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// Them.
    pub entries: Vec<Entry>,
    /// There are others after these.
    pub more: bool,
}

/// Tells of grants.
pub struct Register {
    ledger: MetaHandle,
    keys: Arc<KeyRing>,
}

impl Register {
    /// Tells what `ledger` holds, and what `keys` open of it.
    pub fn new(ledger: MetaHandle, keys: Arc<KeyRing>) -> Self {
        Self { ledger, keys }
    }

    /// The grants after the one of `after`, as committed now.
    ///
    /// # Errors
    /// [`GrantError::Behind`] and [`GrantError::Read`].
    pub async fn page(&self, after: Option<(&Repository, &str)>) -> Result<Page, GrantError> {
        self.ledger.linearizable().await?;
        let mut grants = view::list_grants(&self.ledger.local(), after, PAGE + 1)?;
        let more = grants.len() > PAGE;
        grants.truncate(PAGE);
        let mut looked_at = HashMap::new();
        let entries = grants.into_iter().map(|grant| self.entry(grant, &mut looked_at));
        Ok(Page {
            entries: entries.collect::<Result<_, ReadError>>()?,
            more,
        })
    }

    fn entry(&self, grant: Grant, looked_at: &mut HashMap<CredentialId, (String, bool)>) -> Result<Entry, ReadError> {
        let id = grant.record.credential;
        let (origin, can_be_opened) = match looked_at.get(&id) {
            Some(known) => known.clone(),
            None => {
                let stored = view::credential(&self.ledger.local(), id)?;
                let seen = stored.map(|stored| (stored.origin.clone(), self.keys.opens(id, &stored)));
                let seen = seen.unwrap_or_default();
                looked_at.insert(id, seen.clone());
                seen
            }
        };
        Ok(Entry {
            grant,
            origin,
            can_be_opened,
        })
    }
}
