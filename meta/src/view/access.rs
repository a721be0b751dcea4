//! Typed reads of desired images and of who may read what.

use oci::{ImageReference, Repository, SourceHost};

use crate::family::Family;
use crate::id::CredentialId;
use crate::read::{Read, ReadError};
use crate::record::{
    self, CredentialRecord, DesiredRecord, GrantRecord, PlacementRecord, Record, Visibility, WantedRecord, bad_key,
    grant_key, grant_prefix, split_grant_key, text_of_key, visibility_key,
};

/// A grant in a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// For which repository.
    pub repository: Repository,
    /// To which namespace.
    pub namespace: String,
    /// The grant.
    pub record: GrantRecord,
}

/// What is known of a desired image; `None` if it is not desired.
///
/// # Errors
/// [`ReadError`], as all functions here.
pub fn desired(state: &impl Read, reference: &ImageReference) -> Result<Option<DesiredRecord>, ReadError> {
    record::get(state, &DesiredRecord::key(reference))
}

/// Up to `limit` desired images in the order of their references, those after `after`.
///
/// # Errors
/// [`ReadError`].
pub fn list_desired(
    state: &impl Read,
    after: Option<&ImageReference>,
    limit: usize,
) -> Result<Vec<(ImageReference, DesiredRecord)>, ReadError> {
    let after = after.map(DesiredRecord::key);
    state
        .scan(Family::Desired, b"", after.as_deref(), limit)?
        .into_iter()
        .map(|(key, value)| Ok((text_of_key(Family::Desired, &key)?, DesiredRecord::from_value(&value)?)))
        .collect()
}

/// What holds for all desired images.
///
/// # Errors
/// [`ReadError`].
pub fn wanted(state: &impl Read) -> Result<WantedRecord, ReadError> {
    Ok(record::get(state, WantedRecord::KEY)?.unwrap_or_default())
}

/// Whether anyone may read a repository; `None` if it was never heard.
///
/// # Errors
/// [`ReadError`].
pub fn visibility(state: &impl Read, repository: &Repository) -> Result<Option<Visibility>, ReadError> {
    record::get(state, &visibility_key(repository))
}

/// The grant of a namespace for a repository.
///
/// # Errors
/// [`ReadError`].
pub fn grant(state: &impl Read, repository: &Repository, namespace: &str) -> Result<Option<GrantRecord>, ReadError> {
    record::get(state, &grant_key(repository, namespace))
}

/// Up to `limit` grants for a repository, by namespace.
///
/// # Errors
/// [`ReadError`].
pub fn grants_of(state: &impl Read, repository: &Repository, limit: usize) -> Result<Vec<Grant>, ReadError> {
    let entries = state.scan(Family::Grants, &grant_prefix(repository), None, limit)?;
    entries.into_iter().map(read_grant).collect()
}

/// Up to `limit` grants of all by repository and namespace, those after the one of `after`.
///
/// # Errors
/// [`ReadError`].
pub fn list_grants(
    state: &impl Read,
    after: Option<(&Repository, &str)>,
    limit: usize,
) -> Result<Vec<Grant>, ReadError> {
    let after = after.map(|(repository, namespace)| grant_key(repository, namespace));
    let entries = state.scan(Family::Grants, b"", after.as_deref(), limit)?;
    entries.into_iter().map(read_grant).collect()
}

fn read_grant((key, value): (Vec<u8>, Vec<u8>)) -> Result<Grant, ReadError> {
    let (repository, namespace) = split_grant_key(&key)?;
    Ok(Grant {
        repository,
        namespace,
        record: GrantRecord::from_value(&value)?,
    })
}

/// A sealed credential.
///
/// # Errors
/// [`ReadError`].
pub fn credential(state: &impl Read, id: CredentialId) -> Result<Option<CredentialRecord>, ReadError> {
    record::get(state, &id.to_key())
}

/// Up to `limit` sealed credentials by id, those after `after`.
///
/// # Errors
/// [`ReadError`].
pub fn list_credentials(
    state: &impl Read,
    after: Option<CredentialId>,
    limit: usize,
) -> Result<Vec<(CredentialId, CredentialRecord)>, ReadError> {
    let after = after.map(CredentialId::to_key);
    state
        .scan(
            Family::Credentials,
            b"",
            after.as_ref().map(<[u8; 16]>::as_slice),
            limit,
        )?
        .into_iter()
        .map(|(key, value)| {
            let id = CredentialId::from_key(&key).ok_or_else(|| bad_key(Family::Credentials))?;
            Ok((id, CredentialRecord::from_value(&value)?))
        })
        .collect()
}

/// The private repositories of a Kubernetes node; none if it is unknown.
///
/// # Errors
/// [`ReadError`].
pub fn placement(state: &impl Read, node: &str) -> Result<PlacementRecord, ReadError> {
    Ok(record::get(state, node.as_bytes())?.unwrap_or_default())
}

/// Every Kubernetes node with private repositories, by name.
///
/// # Errors
/// [`ReadError`].
pub fn placements(state: &impl Read) -> Result<Vec<(String, PlacementRecord)>, ReadError> {
    state
        .scan(Family::Placements, b"", None, usize::MAX)?
        .into_iter()
        .map(|(key, value)| {
            let node = String::from_utf8(key).map_err(|_| bad_key(Family::Placements))?;
            Ok((node, PlacementRecord::from_value(&value)?))
        })
        .collect()
}

/// Whether somebody named this host with its port.
///
/// # Errors
/// [`ReadError`].
pub fn is_known_host(state: &impl Read, host: &SourceHost) -> Result<bool, ReadError> {
    Ok(state.get(Family::KnownHosts, host.as_str().as_bytes())?.is_some())
}

/// Every host that was named with a port.
///
/// # Errors
/// [`ReadError`].
pub fn known_hosts(state: &impl Read) -> Result<Vec<SourceHost>, ReadError> {
    let entries = state.scan(Family::KnownHosts, b"", None, usize::MAX)?;
    entries
        .into_iter()
        .map(|(key, _)| text_of_key(Family::KnownHosts, &key))
        .collect()
}
