//! Who may read private repositories, and with which credentials they are read at their source.
//!
//! Keys: `visibilities` the repository, `host/name`; `credentials` the id, big-endian; `grants` the repository, `\0`, the
//! namespace; `placements` the node's name; `known_hosts` the host. Values of the last are empty.

use std::fmt;

use minicbor::{Decode, Encode};
use oci::Repository;

use super::{Record, bad_key, text_of_key};
use crate::family::Family;
use crate::id::CredentialId;
use crate::read::ReadError;

/// Who may read a repository at its source, as last seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Visibility {
    /// Anyone: something of it was fetched without credentials.
    #[n(0)]
    Public {
        /// Since when, in logical milliseconds.
        #[n(0)]
        since_ms: u64,
    },
    /// Only who has credentials.
    #[n(1)]
    Private {
        /// Since when, in logical milliseconds.
        #[n(0)]
        since_ms: u64,
    },
}

/// A credential for a source, readable only with a key that is not in the state. Dropped with its last grant.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
pub struct CredentialRecord {
    /// The ciphertext.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub sealed: Vec<u8>,
    /// Which key opens it.
    #[n(1)]
    pub key_id: String,
    /// Where it came from, for people: `namespace/secret`.
    #[n(2)]
    pub origin: String,
    /// How many grants rest on it.
    #[n(3)]
    pub n_grants: u64,
}

/// That a namespace showed credentials which read a repository.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct GrantRecord {
    /// Which.
    #[n(0)]
    pub credential: CredentialId,
    /// When the source last accepted it, in logical milliseconds.
    #[n(1)]
    pub verified_at_ms: u64,
    /// Since when the source refuses it, in logical milliseconds.
    #[n(2)]
    pub refused_since_ms: Option<u64>,
}

/// The private repositories that admitted pods of one Kubernetes node use.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct PlacementRecord {
    /// `host/name` of each, sorted.
    #[n(0)]
    pub repositories: Vec<String>,
}

impl fmt::Debug for CredentialRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CredentialRecord")
            .field("key_id", &self.key_id)
            .field("origin", &self.origin)
            .field("n_grants", &self.n_grants)
            .finish_non_exhaustive()
    }
}

impl PlacementRecord {
    /// Whether `repository` is among them.
    pub fn holds(&self, repository: &Repository) -> bool {
        self.repositories.binary_search(&repository.to_string()).is_ok()
    }
}

impl Record for Visibility {
    const FAMILY: Family = Family::Visibilities;
}

impl Record for CredentialRecord {
    const FAMILY: Family = Family::Credentials;
}

impl Record for GrantRecord {
    const FAMILY: Family = Family::Grants;
}

impl Record for PlacementRecord {
    const FAMILY: Family = Family::Placements;
}

pub(crate) fn visibility_key(repository: &Repository) -> Vec<u8> {
    repository.to_string().into_bytes()
}

pub(crate) fn grant_prefix(repository: &Repository) -> Vec<u8> {
    format!("{repository}\0").into_bytes()
}

pub(crate) fn grant_key(repository: &Repository, namespace: &str) -> Vec<u8> {
    format!("{repository}\0{namespace}").into_bytes()
}

/// Repository and namespace.
pub(crate) fn split_grant_key(key: &[u8]) -> Result<(Repository, String), ReadError> {
    let mut parts = key.splitn(2, |byte| *byte == 0);
    let mut next = || parts.next().unwrap_or_default();
    let repository = text_of_key(Family::Grants, next())?;
    let namespace = String::from_utf8(next().to_vec()).map_err(|_| bad_key(Family::Grants))?;
    Ok((repository, namespace))
}
