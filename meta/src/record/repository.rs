//! Repositories, by id and by name.
//!
//! Keys: `repositories` big-endian id; `repository_names` the text `host/name` (a host has no slash, so it is unique).

use minicbor::{Decode, Encode};
use oci::Repository;

use super::Record;
use crate::family::Family;
use crate::id::RepositoryId;

/// What a repository id stands for.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct RepositoryRecord {
    /// The repository as callers name it.
    #[cbor(n(0), with = "crate::codec::repository")]
    pub repository: Repository,
}

impl Record for RepositoryRecord {
    const FAMILY: Family = Family::Repositories;
}

impl Record for RepositoryId {
    const FAMILY: Family = Family::RepositoryNames;
}

pub(crate) fn repository_name_key(repository: &Repository) -> Vec<u8> {
    repository.to_string().into_bytes()
}
