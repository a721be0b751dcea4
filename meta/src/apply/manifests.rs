//! Manifests are stored and linked.

use bytes::Bytes;
use oci::{ManifestError, RawManifest};

use super::transaction::Transaction;
use super::{Refusal, references, tags};
use crate::command::{Link, MANIFEST_INLINE_BYTES_MAX, ManifestContent, PutManifest, REFERENCES_MAX};
use crate::family::Family;
use crate::outcome::{Outcome, Rejected};
use crate::read::Read;
use crate::record::{Completeness, ManifestRecord, ManifestReferences};
use crate::view;

pub(super) fn put<R: Read>(tx: &mut Transaction<R>, command: &PutManifest) -> Result<Outcome, Refusal> {
    let digest = &command.digest;
    let manifest = match view::manifest(tx, digest)? {
        Some(known) if known.media_type != command.media_type => return Err(Rejected::MediaTypeConflict.into()),
        Some(known) => known,
        None => store(tx, command)?,
    };
    let repository = tx.repository_id(&command.repository)?;
    references::link_manifest(tx, repository, digest, &manifest);
    if let Some(candidate) = &command.candidate_of {
        tags::place_candidate(
            tx,
            (repository, &candidate.tag),
            digest,
            candidate.upstream_etag.as_deref(),
        )?;
    }
    Ok(Outcome::ManifestStored { repository })
}

pub(super) fn link<R: Read>(tx: &mut Transaction<R>, command: &Link) -> Result<Outcome, Refusal> {
    let digest = &command.digest;
    let manifest = view::manifest(tx, digest)?;
    let is_known = manifest.is_some() || view::blob(tx, digest)?.is_some() || references::is_named(tx, digest)?;
    if !is_known {
        return Err(Rejected::UnknownDigest.into());
    }
    let repository = tx.repository_id(&command.repository)?;
    match manifest {
        Some(manifest) => references::link_manifest(tx, repository, digest, &manifest),
        None => references::link(tx, repository, digest),
    }
    Ok(Outcome::Linked)
}

/// Stores a manifest that is not known yet.
fn store<R: Read>(tx: &mut Transaction<R>, command: &PutManifest) -> Result<ManifestRecord, Rejected> {
    let manifest = match &command.content {
        ManifestContent::Inline { bytes } => {
            let manifest = read_inline(command, bytes)?;
            let key = ManifestRecord::key(&command.digest).to_vec();
            tx.put_bytes(Family::ManifestBytes, key, bytes.clone());
            manifest
        }
        ManifestContent::Blob { size, references } => read_blob(command, *size, references)?,
    };
    references::insert(tx, &command.digest, &manifest);
    Ok(manifest)
}

fn read_inline(command: &PutManifest, bytes: &[u8]) -> Result<ManifestRecord, Rejected> {
    if bytes.len() > MANIFEST_INLINE_BYTES_MAX {
        return Err(Rejected::ManifestTooLarge);
    }
    let bytes = Bytes::copy_from_slice(bytes);
    let raw = RawManifest::verified(bytes, command.media_type.clone(), &command.digest).map_err(reason)?;
    let references = ManifestReferences::of(&raw.parse().map_err(reason)?);
    let size = raw.bytes().len() as u64;
    record(command, size, true, references)
}

fn read_blob(command: &PutManifest, size: u64, references: &ManifestReferences) -> Result<ManifestRecord, Rejected> {
    if command.digest.verifier().is_err() {
        return Err(Rejected::DigestUnverifiable);
    }
    record(command, size, false, references.clone())
}

fn record(
    command: &PutManifest,
    size: u64,
    inline: bool,
    references: ManifestReferences,
) -> Result<ManifestRecord, Rejected> {
    if references.len() > REFERENCES_MAX || !references.is_well_formed(&command.digest) {
        return Err(Rejected::ManifestUnreadable);
    }
    Ok(ManifestRecord {
        media_type: command.media_type.clone(),
        size,
        inline,
        references,
        completeness: Completeness::Known,
        nesting: 0,
    })
}

fn reason(error: ManifestError) -> Rejected {
    match error {
        ManifestError::Mismatch(_) => Rejected::DigestMismatch,
        ManifestError::Unverifiable(_) => Rejected::DigestUnverifiable,
        ManifestError::TooLarge { .. } => Rejected::ManifestTooLarge,
        ManifestError::Malformed { .. } | ManifestError::TooManyDescriptors { .. } => Rejected::ManifestUnreadable,
    }
}
