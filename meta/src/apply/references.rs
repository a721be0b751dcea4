//! The records that mirror what manifests say: inverse references, links, referrers.

use oci::Digest;

use super::transaction::Transaction;
use crate::family::Family;
use crate::id::RepositoryId;
use crate::read::{Read, ReadError};
use crate::record::{ManifestRecord, ReferenceKey, link_key, referrer_key};

/// Stores a manifest that was not known, with the inverse of what it names.
pub(super) fn insert<R: Read>(tx: &mut Transaction<R>, digest: &Digest, manifest: &ManifestRecord) {
    for (family, key) in manifest.inverse(digest) {
        tx.put_bytes(family, key.encode(), Vec::new());
    }
    tx.put(ManifestRecord::key(digest), manifest);
}

/// Replaces a manifest by itself with another completeness, and with it which references are held.
pub(super) fn update<R: Read>(
    tx: &mut Transaction<R>,
    digest: &Digest,
    before: &ManifestRecord,
    after: &ManifestRecord,
) {
    for ((family, old), (_, new)) in before.inverse(digest).zip(after.inverse(digest)) {
        if old != new {
            tx.delete(family, old.encode());
            tx.put_bytes(family, new.encode(), Vec::new());
        }
    }
    tx.put(ManifestRecord::key(digest), after);
}

/// Lets `repository` read `manifest` and all it names, and lists it as a referrer of its subject.
pub(super) fn link_manifest<R: Read>(
    tx: &mut Transaction<R>,
    repository: RepositoryId,
    digest: &Digest,
    manifest: &ManifestRecord,
) {
    link(tx, repository, digest);
    for (_, key) in manifest.inverse(digest) {
        link(tx, repository, &key.to);
    }
    if let Some(subject) = &manifest.references.subject {
        let key = referrer_key(repository, subject, digest);
        tx.put_bytes(Family::Referrers, key, Vec::new());
    }
}

/// Lets `repository` read `digest`.
pub(super) fn link<R: Read>(tx: &mut Transaction<R>, repository: RepositoryId, digest: &Digest) {
    tx.put_bytes(Family::Links, link_key(repository, digest), Vec::new());
}

/// A manifest that holds a reference to `digest`, if there is one.
pub(super) fn first_holder<R: Read>(
    tx: &Transaction<R>,
    family: Family,
    digest: &Digest,
) -> Result<Option<Digest>, ReadError> {
    let entries = tx.scan(family, &ReferenceKey::held_prefix(digest), None, 1)?;
    entries
        .first()
        .map(|(key, _)| Ok(ReferenceKey::decode(family, key)?.from))
        .transpose()
}

/// True if some manifest names `digest`.
pub(super) fn is_named<R: Read>(tx: &Transaction<R>, digest: &Digest) -> Result<bool, ReadError> {
    let prefix = ReferenceKey::prefix(digest);
    for family in [Family::BlobReferences, Family::ManifestParents] {
        if !tx.scan(family, &prefix, None, 1)?.is_empty() {
            return Ok(true);
        }
    }
    Ok(false)
}
