//! Manifests become Complete: only while every blob they need is Present.

use std::collections::BTreeSet;

use oci::Digest;

use super::transaction::Transaction;
use super::{Refusal, references};
use crate::command::CompleteManifest;
use crate::family::Family;
use crate::outcome::{Outcome, Rejected};
use crate::read::{Read, ReadError};
use crate::record::{Completeness, ManifestRecord};
use crate::view;

/// Most missing blobs an answer names; the rest is counted.
pub const MISSING_BLOBS_LISTED_MAX: usize = 64;
/// Most children of an index one entry completes; bounds its reads. Indexes list some 20.
pub const CHILDREN_COMPLETED_AT_ONCE_MAX: usize = 64;
/// How deep indexes may be held within indexes; bounds what the loss of one blob climbs through.
const NESTING_MAX: u32 = 4;

pub(super) fn complete<R: Read>(tx: &mut Transaction<R>, command: &CompleteManifest) -> Result<Outcome, Refusal> {
    let digest = &command.digest;
    let manifest = existing(tx, digest)?;
    check_children_named(&manifest, &command.children)?;
    let children = children_to_hold(tx, &manifest, &command.children)?;
    let nesting = nesting_with(tx, digest, &manifest, &children)?;
    let incomplete = || children.iter().filter(|(_, child)| !child.is_complete());

    let mut missing = MissingBlobs::default();
    missing.look(tx, digest, &manifest)?;
    for (digest, child) in incomplete() {
        missing.look(tx, digest, child)?;
    }
    missing.none_or_rejected()?;

    for (digest, child) in incomplete() {
        mark_complete(tx, digest, child, BTreeSet::new(), child.nesting);
    }
    let held = manifest.held_children().iter().cloned();
    let held = held.chain(children.into_iter().map(|(digest, _)| digest)).collect();
    mark_complete(tx, digest, &manifest, held, nesting);
    Ok(Outcome::ManifestCompleted)
}

fn existing<R: Read>(tx: &Transaction<R>, digest: &Digest) -> Result<ManifestRecord, Refusal> {
    let digest = digest.clone();
    Ok(view::manifest(tx, &digest)?.ok_or(Rejected::UnknownManifest { digest })?)
}

/// An index is Complete for children that were named; an image has none.
fn check_children_named(manifest: &ManifestRecord, named: &[Digest]) -> Result<(), Rejected> {
    if named.len() > CHILDREN_COMPLETED_AT_ONCE_MAX {
        let field = "children".to_owned();
        return Err(Rejected::FieldTooLong { field });
    }
    let listed = &manifest.references.children;
    let is_listed = |digest: &Digest| listed.iter().any(|child| child.digest == *digest);
    if listed.is_empty() != named.is_empty() || !named.iter().all(is_listed) {
        return Err(Rejected::NotAChild);
    }
    Ok(())
}

/// The named children the index is not Complete for yet. An index among them must be Complete already.
fn children_to_hold<R: Read>(
    tx: &Transaction<R>,
    manifest: &ManifestRecord,
    named: &[Digest],
) -> Result<Vec<(Digest, ManifestRecord)>, Refusal> {
    let named: BTreeSet<&Digest> = named.iter().collect();
    let mut children = Vec::new();
    for digest in named {
        if manifest.held_children().binary_search(digest).is_ok() {
            continue;
        }
        let child = existing(tx, digest)?;
        if !child.is_complete() && !child.references.children.is_empty() {
            let digest = digest.clone();
            return Err(Rejected::ChildIncomplete { digest }.into());
        }
        children.push((digest.clone(), child));
    }
    Ok(children)
}

/// The nesting of `manifest` once it holds `children` too.
///
/// An index that is held itself keeps its nesting, so that what was checked of its holders stays true.
fn nesting_with<R: Read>(
    tx: &Transaction<R>,
    digest: &Digest,
    manifest: &ManifestRecord,
    children: &[(Digest, ManifestRecord)],
) -> Result<u32, Refusal> {
    let below = children.iter().map(|(_, child)| child.nesting.saturating_add(1)).max();
    let nesting = manifest.nesting.max(below.unwrap_or(0));
    let grows = nesting > manifest.nesting;
    let is_held = || references::first_holder(tx, Family::ManifestParents, digest);
    if nesting > NESTING_MAX || (grows && is_held()?.is_some()) {
        return Err(Rejected::NestedTooDeep.into());
    }
    Ok(nesting)
}

fn mark_complete<R: Read>(
    tx: &mut Transaction<R>,
    digest: &Digest,
    before: &ManifestRecord,
    children: BTreeSet<Digest>,
    nesting: u32,
) {
    let after = ManifestRecord {
        completeness: Completeness::Complete {
            children: children.into_iter().collect(),
        },
        nesting,
        ..before.clone()
    };
    references::update(tx, digest, before, &after);
}

/// Required blobs that are not Present.
#[derive(Default)]
struct MissingBlobs {
    looked_at: BTreeSet<Digest>,
    listed: Vec<Digest>,
    total: u64,
}

impl MissingBlobs {
    fn look<R: Read>(
        &mut self,
        tx: &Transaction<R>,
        digest: &Digest,
        manifest: &ManifestRecord,
    ) -> Result<(), ReadError> {
        for blob in manifest.required_blobs(digest) {
            if !self.looked_at.insert(blob.clone()) {
                continue;
            }
            let is_present = view::blob(tx, blob)?.is_some_and(|record| record.present().is_some());
            if !is_present {
                self.add(blob);
            }
        }
        Ok(())
    }

    fn add(&mut self, blob: &Digest) {
        self.total += 1;
        if self.listed.len() < MISSING_BLOBS_LISTED_MAX {
            self.listed.push(blob.clone());
        }
    }

    fn none_or_rejected(self) -> Result<(), Rejected> {
        match self.total {
            0 => Ok(()),
            total => Err(Rejected::MissingBlobs {
                digests: self.listed,
                total,
            }),
        }
    }
}
