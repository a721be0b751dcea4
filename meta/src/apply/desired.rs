//! Desired images.

use std::collections::BTreeSet;

use oci::ImageReference;

use super::transaction::Transaction;
use super::{Refusal, access};
use crate::command::{ChangeDesired, DESIRED_AT_ONCE_MAX, DESIRED_MAX, DesiredImage, NoteDesired, PLATFORMS_MAX};
use crate::family::Family;
use crate::outcome::{Outcome, Rejected};
use crate::read::{Read, ReadError};
use crate::record::{self, DesiredRecord, WantedRecord};
use crate::view;

/// Longest error kept, in bytes: a line for people.
const ERROR_BYTES_MAX: usize = 1024;
/// Longest name of an operating system, architecture or variant.
const PLATFORM_BYTES_MAX: usize = 64;
/// Records read at a time when a list ends.
const PAGE: usize = 1024;

pub(super) fn change<R: Read>(tx: &mut Transaction<R>, command: &ChangeDesired) -> Result<Outcome, Refusal> {
    check(command)?;
    let mut wanted = view::wanted(tx)?;
    if command.begin {
        wanted.list += 1;
        wanted.listing = true;
    }
    if !command.platforms.is_empty() {
        let distinct: BTreeSet<_> = command.platforms.iter().cloned().collect();
        wanted.platforms = distinct.into_iter().collect();
    }
    for image in &command.put {
        put(tx, &mut wanted, image)?;
    }
    for reference in &command.drop {
        drop_one(tx, &mut wanted, reference)?;
    }
    let mut pending = false;
    if command.end && wanted.listing {
        pending = drop_unlisted(tx, &mut wanted)?;
        wanted.listing = pending;
    }
    tx.put(WantedRecord::KEY, &wanted);
    Ok(Outcome::DesiredChanged { pending })
}

fn check(command: &ChangeDesired) -> Result<(), Rejected> {
    let too_many = |what: &str| Rejected::TooMany { what: what.to_owned() };
    if command.put.len() + command.drop.len() > DESIRED_AT_ONCE_MAX {
        return Err(too_many("images"));
    }
    if command.platforms.len() > PLATFORMS_MAX {
        return Err(too_many("platforms"));
    }
    let names = |platform: &record::Platform| {
        let variant = platform.variant.as_ref().map_or(0, String::len);
        platform.os.len().max(platform.architecture.len()).max(variant)
    };
    if command
        .platforms
        .iter()
        .any(|platform| names(platform) > PLATFORM_BYTES_MAX)
    {
        let field = "platform".to_owned();
        return Err(Rejected::FieldTooLong { field });
    }
    let put = command.put.iter().map(|image| &image.reference);
    match put.chain(&command.drop).all(is_canonical) {
        true => Ok(()),
        false => Err(Rejected::ReferenceNotCanonical),
    }
}

fn is_canonical(reference: &ImageReference) -> bool {
    reference.tag.is_some() != reference.digest.is_some()
}

fn put<R: Read>(tx: &mut Transaction<R>, wanted: &mut WantedRecord, image: &DesiredImage) -> Result<(), Refusal> {
    let before = view::desired(tx, &image.reference)?;
    if before.is_none() {
        if wanted.n_desired >= DESIRED_MAX {
            let what = "desired images".to_owned();
            return Err(Rejected::TooMany { what }.into());
        }
        wanted.n_desired += 1;
    }
    let record = DesiredRecord {
        retain: image.retain,
        since_ms: before.as_ref().map_or(tx.now_ms(), |before| before.since_ms),
        list: wanted.list,
        completed_at_ms: before.as_ref().and_then(|before| before.completed_at_ms),
        error: before.and_then(|before| before.error),
    };
    tx.put(&DesiredRecord::key(&image.reference), &record);
    access::know_host(tx, &image.reference.repository.host)?;
    Ok(())
}

fn drop_one<R: Read>(
    tx: &mut Transaction<R>,
    wanted: &mut WantedRecord,
    reference: &ImageReference,
) -> Result<(), ReadError> {
    if view::desired(tx, reference)?.is_some() {
        wanted.n_desired -= 1;
        tx.delete(Family::Desired, DesiredRecord::key(reference));
    }
    Ok(())
}

/// Drops what the list that ends did not name, at most so many; says whether more remain.
fn drop_unlisted<R: Read>(tx: &mut Transaction<R>, wanted: &mut WantedRecord) -> Result<bool, ReadError> {
    let mut after: Option<ImageReference> = None;
    let mut dropped = 0;
    loop {
        let page = view::list_desired(tx, after.as_ref(), PAGE)?;
        let Some((last, _)) = page.last() else {
            return Ok(false);
        };
        after = Some(last.clone());
        let list = wanted.list;
        for (reference, _) in page.iter().filter(|(_, record)| record.list != list) {
            if dropped == DESIRED_AT_ONCE_MAX {
                return Ok(true);
            }
            drop_one(tx, wanted, reference)?;
            dropped += 1;
        }
    }
}

pub(super) fn note<R: Read>(tx: &mut Transaction<R>, command: &NoteDesired) -> Result<Outcome, Refusal> {
    if command
        .error
        .as_ref()
        .is_some_and(|error| error.len() > ERROR_BYTES_MAX)
    {
        let field = "error".to_owned();
        return Err(Rejected::FieldTooLong { field }.into());
    }
    let Some(mut record) = view::desired(tx, &command.reference)? else {
        return Ok(Outcome::DesiredNoted);
    };
    record.error = command.error.clone();
    if command.complete {
        record.completed_at_ms = record.completed_at_ms.or(Some(tx.now_ms()));
    }
    tx.put(&DesiredRecord::key(&command.reference), &record);
    Ok(Outcome::DesiredNoted)
}
