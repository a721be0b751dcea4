//! Links: what may be read through which repository; and referrers, which manifests are about which.
//!
//! Keys: `links` big-endian repository id, then the digest; `referrers` big-endian repository id, the subject, `\0`,
//! the manifest. Values are empty.

use oci::Digest;

use super::{bad_key, text_of_key};
use crate::family::Family;
use crate::id::RepositoryId;
use crate::read::ReadError;

pub(crate) fn link_key(repository: RepositoryId, digest: &Digest) -> Vec<u8> {
    [repository.to_key().as_slice(), digest.as_str().as_bytes()].concat()
}

pub(crate) fn split_link_key(key: &[u8]) -> Result<(RepositoryId, Digest), ReadError> {
    let (id, digest) = split_repository(Family::Links, key)?;
    Ok((id, text_of_key(Family::Links, digest)?))
}

pub(crate) fn referrer_key(repository: RepositoryId, subject: &Digest, manifest: &Digest) -> Vec<u8> {
    let mut key = referrer_prefix(repository, subject);
    key.extend_from_slice(manifest.as_str().as_bytes());
    key
}

pub(crate) fn referrer_prefix(repository: RepositoryId, subject: &Digest) -> Vec<u8> {
    [repository.to_key().as_slice(), subject.as_str().as_bytes(), b"\0"].concat()
}

/// Repository, subject, manifest.
pub(crate) fn split_referrer_key(key: &[u8]) -> Result<(RepositoryId, Digest, Digest), ReadError> {
    let (id, rest) = split_repository(Family::Referrers, key)?;
    let mut parts = rest.splitn(2, |byte| *byte == 0);
    let mut next = || text_of_key(Family::Referrers, parts.next().unwrap_or_default());
    Ok((id, next()?, next()?))
}

fn split_repository(family: Family, key: &[u8]) -> Result<(RepositoryId, &[u8]), ReadError> {
    let (id, rest) = key.split_first_chunk::<8>().ok_or_else(|| bad_key(family))?;
    let id = RepositoryId::from_key(id).ok_or_else(|| bad_key(family))?;
    Ok((id, rest))
}
