//! Invariants of tags.

use std::collections::BTreeSet;

use oci::Digest;

use super::{Violation, ensure};
use crate::family::Family;
use crate::id::RepositoryId;
use crate::read::{Read, for_each_entry};
use crate::record::{Completeness, Record, TAG_HISTORY_MAX, TagRecord};
use crate::view;

/// What a tag serves, or served, was Complete once and may be read through its repository; its token is its own.
///
/// # Errors
/// [`Violation`].
pub fn tags_serve_what_was_complete(state: &impl Read) -> Result<(), Violation> {
    let changes = view::cluster(state)?.map_or(0, |cluster| cluster.serving_changes);
    let mut tokens = BTreeSet::new();
    for_each_entry(state, Family::Tags, |key, value| {
        let (repository, tag) = TagRecord::split_key(key)?;
        let record = TagRecord::from_value(value)?;
        let place = format!("{tag} of {repository}");
        check_shape(&record, &place)?;
        for digest in record
            .serving
            .iter()
            .chain(record.history.iter().map(|entry| &entry.digest))
        {
            check_digest(state, repository, digest, true, &place)?;
        }
        if let Some(candidate) = &record.candidate {
            check_digest(state, repository, candidate, false, &place)?;
        }
        let token = record.serving_index;
        let own = token == 0 || tokens.insert(token);
        ensure(own && token <= changes, NAME, format_args!("token of {place}"))
    })
}

const NAME: &str = "tags serve what was complete";

fn check_shape(record: &TagRecord, place: &str) -> Result<(), Violation> {
    ensure(
        record.serving != record.candidate,
        NAME,
        format_args!("candidate of {place}"),
    )?;
    ensure(
        record.history.len() <= TAG_HISTORY_MAX,
        NAME,
        format_args!("history of {place}"),
    )?;
    let was_promoted = record.serving_index > 0;
    ensure(
        record.serving.is_some() == was_promoted,
        NAME,
        format_args!("token of {place}"),
    )
}

fn check_digest(
    state: &impl Read,
    repository: RepositoryId,
    digest: &Digest,
    was_complete: bool,
    place: &str,
) -> Result<(), Violation> {
    let manifest = view::manifest(state, digest)?;
    let fits = manifest.is_some_and(|manifest| !was_complete || manifest.completeness != Completeness::Known);
    let linked = view::is_linked(state, repository, digest)?;
    ensure(fits && linked, NAME, format_args!("{digest}, {place}"))
}
