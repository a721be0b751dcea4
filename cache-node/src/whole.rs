//! Which image a tag can be answered with when its source cannot be asked. Pure reads of the state.

use meta::{ManifestRecord, Read, ReadError, TagRecord, view};
use oci::Digest;

/// The children of an index that someone asked for: those whose manifest is known.
///
/// # Errors
/// [`ReadError`] if the state cannot be read.
pub fn wanted_children(state: &impl Read, record: &ManifestRecord) -> Result<Vec<Digest>, ReadError> {
    let mut wanted = Vec::new();
    for child in &record.references.children {
        if view::manifest(state, &child.digest)?.is_some() {
            wanted.push(child.digest.clone());
        }
    }
    Ok(wanted)
}

/// Whether every blob of the manifest, or of the children of the index that someone asked for, is present.
///
/// # Errors
/// [`ReadError`] if the state cannot be read.
pub fn is_whole(state: &impl Read, digest: &Digest) -> Result<bool, ReadError> {
    match view::manifest(state, digest)? {
        Some(record) => Ok(record.is_complete_for(&wanted_children(state, &record)?)),
        None => Ok(false),
    }
}

/// The newest image of a tag that is whole, else whatever is known of it.
///
/// # Errors
/// [`ReadError`] if the state cannot be read.
pub fn newest(state: &impl Read, tag: &TagRecord) -> Result<Option<Digest>, ReadError> {
    if let Some(candidate) = &tag.candidate
        && (tag.serving.is_none() || is_whole(state, candidate)?)
    {
        return Ok(Some(candidate.clone()));
    }
    Ok(tag.serving.clone())
}
