//! Grants: which namespace may use which repository through the cache, as far as this program has asked.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use oci::Repository;

use crate::action::SecretName;

/// A namespace and a repository that its pods use.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct GrantKey {
    pub(crate) namespace: String,
    /// `host/name`.
    pub(crate) repository: String,
}

impl GrantKey {
    pub(crate) fn new(namespace: &str, repository: &Repository) -> Self {
        Self {
            namespace: namespace.to_owned(),
            repository: repository.to_string(),
        }
    }
}

/// What the tier answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GrantResult {
    Granted,
    /// It was granted before, and the source refuses the secrets now: what is cached is still served, for a day.
    Standing,
    /// Anyone may use it.
    Public,
    /// No secret that the pods name fits the repository.
    NoSecret,
    /// None of the secrets works.
    Refused,
    /// The tier or the source did not answer.
    Unreachable,
}

/// What is remembered of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Grant {
    pub(crate) result: GrantResult,
    /// When it was asked for.
    pub(crate) at: Timestamp,
    /// When a secret last worked, as far as is known.
    pub(crate) worked_at: Timestamp,
    /// When a pod was last seen that uses it.
    pub(crate) used_at: Timestamp,
    pub(crate) tried: BTreeSet<SecretName>,
}

impl Grant {
    /// Whether the tier holds it.
    pub(crate) fn is_held(&self) -> bool {
        matches!(self.result, GrantResult::Granted | GrantResult::Standing)
    }
}

/// All that were asked for.
#[derive(Debug, Default)]
pub(crate) struct Grants {
    all: BTreeMap<GrantKey, Grant>,
}

impl Grants {
    pub(crate) fn get(&self, key: &GrantKey) -> Option<&Grant> {
        self.all.get(key)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&GrantKey, &Grant)> {
        self.all.iter()
    }

    pub(crate) fn is_granted(&self, key: &GrantKey) -> bool {
        self.get(key).is_some_and(Grant::is_held)
    }

    /// Remembers an answer. A source that did not answer takes nothing away.
    pub(crate) fn heard(&mut self, key: GrantKey, result: GrantResult, tried: BTreeSet<SecretName>, now: Timestamp) {
        let before = self.all.get(&key);
        let stays = before.filter(|before| before.is_held());
        let result = match (stays, result) {
            (Some(before), GrantResult::Unreachable | GrantResult::NoSecret) => before.result,
            (_, result) => result,
        };
        let worked_at = stays
            .filter(|_| result != GrantResult::Granted)
            .map_or(now, |before| before.worked_at);
        let heard = Grant {
            result,
            at: now,
            worked_at,
            used_at: now,
            tried,
        };
        self.all.insert(key, heard);
    }

    pub(crate) fn forget(&mut self, key: &GrantKey) {
        self.all.remove(key);
    }

    /// Notes which of them pods use now, and forgets the others but for those that the tier holds.
    pub(crate) fn note_used(&mut self, used: &BTreeSet<GrantKey>, now: Timestamp) {
        self.all.retain(|key, grant| used.contains(key) || grant.is_held());
        for (key, grant) in &mut self.all {
            if used.contains(key) {
                grant.used_at = now;
            }
        }
    }
}
