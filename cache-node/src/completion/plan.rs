//! What an image needs next. Pure reads of the state.

use meta::{Read, ReadError, view};
use oci::Digest;

use crate::whole::wanted_children;

/// What an image needs next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Next {
    /// Its manifest is not recorded yet.
    AwaitManifest,
    /// These blobs are not present.
    Fetch(Vec<MissingBlob>),
    /// Someone has to ask for a child of the index first, or its children have to become Complete.
    AwaitChildren(Vec<Digest>),
    /// Propose that it is Complete, an index for these children.
    Complete(Vec<Digest>),
    /// Nothing.
    Done,
}

/// A blob to fetch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct MissingBlob {
    pub(super) digest: Digest,
    pub(super) size_bytes: u64,
}

/// Says what `digest` needs next.
pub(super) fn next(state: &impl Read, digest: &Digest) -> Result<Next, ReadError> {
    let Some(record) = view::manifest(state, digest)? else {
        return Ok(Next::AwaitManifest);
    };
    if record.references.children.is_empty() {
        if record.is_complete() {
            return Ok(Next::Done);
        }
        let mut missing = missing_blobs(state, &record)?;
        if !record.inline && !is_present(state, digest)? {
            missing.push(MissingBlob {
                digest: digest.clone(),
                size_bytes: record.size,
            });
        }
        return Ok(if missing.is_empty() {
            Next::Complete(Vec::new())
        } else {
            Next::Fetch(missing)
        });
    }
    let wanted = wanted_children(state, &record)?;
    let mut whole = Vec::new();
    let mut open = Vec::new();
    for child in wanted {
        match view::manifest(state, &child)? {
            Some(child_record) if child_record.is_complete() => whole.push(child),
            _ => open.push(child),
        }
    }
    if !whole.is_empty() && !record.is_complete_for(&whole) {
        return Ok(Next::Complete(whole));
    }
    Ok(if open.is_empty() && !whole.is_empty() {
        Next::Done
    } else {
        Next::AwaitChildren(open)
    })
}

fn missing_blobs(state: &impl Read, record: &meta::ManifestRecord) -> Result<Vec<MissingBlob>, ReadError> {
    let mut missing: Vec<MissingBlob> = Vec::new();
    for blob in record.references.blobs.iter().filter(|blob| blob.required) {
        let known = missing.iter().any(|other| other.digest == blob.digest);
        if !known && !is_present(state, &blob.digest)? {
            missing.push(MissingBlob {
                digest: blob.digest.clone(),
                size_bytes: blob.size,
            });
        }
    }
    Ok(missing)
}

fn is_present(state: &impl Read, digest: &Digest) -> Result<bool, ReadError> {
    Ok(view::blob(state, digest)?.is_some_and(|blob| blob.present().is_some()))
}

#[cfg(test)]
mod tests;
