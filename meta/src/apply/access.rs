//! Visibility of repositories, grants and their credentials, placements, known hosts.

use std::collections::BTreeSet;

use oci::{Repository, SourceHost};

use super::Refusal;
use super::transaction::Transaction;
use crate::command::{
    ACCESS_AT_ONCE_MAX, KNOWN_HOSTS_MAX, KnowHosts, MarkGrants, NodePlacement, PLACED_REPOSITORIES_MAX, PutGrant,
    ResealCredential, RevokeGrants, SEALED_BYTES_MAX, SetPlacements, SetVisibility,
};
use crate::family::Family;
use crate::id::CredentialId;
use crate::outcome::{Outcome, Rejected};
use crate::read::{Read, ReadError};
use crate::record::{CredentialRecord, GrantRecord, PlacementRecord, Visibility, grant_key, visibility_key};
use crate::view;

/// Longest namespace, node name or key id: Kubernetes allows 253 bytes.
const NAME_BYTES_MAX: usize = 253;
/// Longest origin kept: a namespace and a name.
const ORIGIN_BYTES_MAX: usize = 512;

pub(super) fn set_visibility<R: Read>(tx: &mut Transaction<R>, command: &SetVisibility) -> Result<Outcome, Refusal> {
    see(tx, &command.repository, command.public)?;
    Ok(Outcome::VisibilitySet)
}

/// Records what a repository is, unless that is known.
fn see<R: Read>(tx: &mut Transaction<R>, repository: &Repository, public: bool) -> Result<(), ReadError> {
    let known = view::visibility(tx, repository)?;
    if known.is_some_and(|known| matches!(known, Visibility::Public { .. }) == public) {
        return Ok(());
    }
    let since_ms = tx.now_ms();
    let visibility = match public {
        true => Visibility::Public { since_ms },
        false => Visibility::Private { since_ms },
    };
    tx.put(&visibility_key(repository), &visibility);
    Ok(())
}

pub(super) fn put_grant<R: Read>(tx: &mut Transaction<R>, command: &PutGrant) -> Result<Outcome, Refusal> {
    check_name("namespace", &command.namespace)?;
    check_sealed(&command.key_id, &command.sealed)?;
    check_length("origin", &command.origin, ORIGIN_BYTES_MAX)?;
    let key = grant_key(&command.repository, &command.namespace);
    let before = view::grant(tx, &command.repository, &command.namespace)?;
    let is_new = before
        .as_ref()
        .is_none_or(|grant| grant.credential != command.credential);
    if is_new && let Some(before) = before {
        release(tx, before.credential)?;
    }
    let held = view::credential(tx, command.credential)?;
    let credential = CredentialRecord {
        sealed: command.sealed.clone(),
        key_id: command.key_id.clone(),
        origin: command.origin.clone(),
        n_grants: held.map_or(0, |held| held.n_grants) + u64::from(is_new),
    };
    tx.put(&command.credential.to_key(), &credential);
    let grant = GrantRecord {
        credential: command.credential,
        verified_at_ms: tx.now_ms(),
        refused_since_ms: None,
    };
    tx.put(&key, &grant);
    see(tx, &command.repository, false)?;
    Ok(Outcome::Granted)
}

/// Takes one grant from a credential, which goes with its last one.
fn release<R: Read>(tx: &mut Transaction<R>, id: CredentialId) -> Result<(), ReadError> {
    let Some(mut credential) = view::credential(tx, id)? else {
        return Ok(());
    };
    credential.n_grants = credential.n_grants.saturating_sub(1);
    if credential.n_grants == 0 {
        tx.delete(Family::Credentials, id.to_key().to_vec());
    } else {
        tx.put(&id.to_key(), &credential);
    }
    Ok(())
}

pub(super) fn revoke<R: Read>(tx: &mut Transaction<R>, command: &RevokeGrants) -> Result<Outcome, Refusal> {
    check_count("repositories", command.repositories.len(), ACCESS_AT_ONCE_MAX)?;
    for repository in &command.repositories {
        if let Some(grant) = view::grant(tx, &repository.0, &command.namespace)? {
            tx.delete(Family::Grants, grant_key(&repository.0, &command.namespace));
            release(tx, grant.credential)?;
        }
    }
    Ok(Outcome::Revoked)
}

pub(super) fn mark<R: Read>(tx: &mut Transaction<R>, command: &MarkGrants) -> Result<Outcome, Refusal> {
    check_count("namespaces", command.namespaces.len(), ACCESS_AT_ONCE_MAX)?;
    for namespace in &command.namespaces {
        let Some(mut grant) = view::grant(tx, &command.repository, namespace)? else {
            continue;
        };
        if grant.credential != command.credential || grant.refused_since_ms.is_some() == command.refused {
            continue;
        }
        grant.refused_since_ms = command.refused.then_some(tx.now_ms());
        tx.put(&grant_key(&command.repository, namespace), &grant);
    }
    Ok(Outcome::GrantsMarked)
}

pub(super) fn reseal<R: Read>(tx: &mut Transaction<R>, command: &ResealCredential) -> Result<Outcome, Refusal> {
    check_sealed(&command.key_id, &command.sealed)?;
    let before = view::credential(tx, command.credential)?.ok_or(Rejected::UnknownCredential)?;
    if before.key_id != command.expected_key_id {
        return Err(Rejected::KeyChanged.into());
    }
    let after = CredentialRecord {
        sealed: command.sealed.clone(),
        key_id: command.key_id.clone(),
        ..before
    };
    tx.put(&command.credential.to_key(), &after);
    Ok(Outcome::Resealed)
}

pub(super) fn place<R: Read>(tx: &mut Transaction<R>, command: &SetPlacements) -> Result<Outcome, Refusal> {
    check_count("placements", command.placements.len(), ACCESS_AT_ONCE_MAX)?;
    for NodePlacement { node, repositories } in &command.placements {
        check_name("node", node)?;
        check_count("repositories", repositories.len(), PLACED_REPOSITORIES_MAX)?;
        if repositories.is_empty() {
            tx.delete(Family::Placements, node.as_bytes().to_vec());
            continue;
        }
        let distinct: BTreeSet<String> = repositories.iter().map(|repository| repository.0.to_string()).collect();
        let repositories = distinct.into_iter().collect();
        tx.put(node.as_bytes(), &PlacementRecord { repositories });
    }
    Ok(Outcome::PlacementsSet)
}

pub(super) fn know_hosts<R: Read>(tx: &mut Transaction<R>, command: &KnowHosts) -> Result<Outcome, Refusal> {
    check_count("hosts", command.hosts.len(), ACCESS_AT_ONCE_MAX)?;
    for host in &command.hosts {
        if !know_host(tx, host)? {
            let what = "known hosts".to_owned();
            return Err(Rejected::TooMany { what }.into());
        }
    }
    Ok(Outcome::HostsKnown)
}

/// Remembers a host if it has a port; false if there is no room.
pub(super) fn know_host<R: Read>(tx: &mut Transaction<R>, host: &SourceHost) -> Result<bool, ReadError> {
    if host.port().is_none() || view::is_known_host(tx, host)? {
        return Ok(true);
    }
    if tx.scan(Family::KnownHosts, b"", None, KNOWN_HOSTS_MAX)?.len() == KNOWN_HOSTS_MAX {
        return Ok(false);
    }
    tx.put_bytes(Family::KnownHosts, host.as_str().as_bytes().to_vec(), Vec::new());
    Ok(true)
}

fn check_sealed(key_id: &str, sealed: &[u8]) -> Result<(), Rejected> {
    check_name("key id", key_id)?;
    match sealed.len() <= SEALED_BYTES_MAX {
        true => Ok(()),
        false => Err(too_long("sealed")),
    }
}

/// A name is not empty, not too long, and has no byte that parts keys.
fn check_name(field: &str, name: &str) -> Result<(), Rejected> {
    match name.is_empty() || name.contains('\0') {
        true => Err(too_long(field)),
        false => check_length(field, name, NAME_BYTES_MAX),
    }
}

fn check_length(field: &str, text: &str, max: usize) -> Result<(), Rejected> {
    match text.len() <= max {
        true => Ok(()),
        false => Err(too_long(field)),
    }
}

fn check_count(what: &str, count: usize, max: usize) -> Result<(), Rejected> {
    match count <= max {
        true => Ok(()),
        false => Err(Rejected::TooMany { what: what.to_owned() }),
    }
}

fn too_long(field: &str) -> Rejected {
    Rejected::FieldTooLong {
        field: field.to_owned(),
    }
}
