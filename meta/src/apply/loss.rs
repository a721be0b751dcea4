//! Blobs become Lost: after every manifest that relies on them has stopped being Complete.

use oci::Digest;

use super::transaction::Transaction;
use super::{Refusal, references};
use crate::command::MarkLost;
use crate::family::Family;
use crate::outcome::{Outcome, Rejected};
use crate::read::{Read, ReadError};
use crate::record::{BlobRecord, BlobState, Completeness, ManifestRecord, bad_key};
use crate::view;

/// Most manifests one entry demotes. Thousands of images may share a base layer; an entry must stay small.
const DEMOTIONS_MAX: usize = 64;

pub(super) fn mark_lost<R: Read>(tx: &mut Transaction<R>, command: &MarkLost) -> Result<Outcome, Refusal> {
    let MarkLost { digest, generation } = command;
    let Some(blob) = view::blob(tx, digest)? else {
        return Err(Rejected::GenChanged { current: None }.into());
    };
    match blob.state {
        BlobState::Lost { generation: lost } if lost == *generation => return Ok(Outcome::BlobLost),
        BlobState::Present { generation: present } if present == *generation => {}
        _ => {
            let current = blob.present();
            return Err(Rejected::GenChanged { current }.into());
        }
    }
    for _ in 0..DEMOTIONS_MAX {
        match references::first_holder(tx, Family::BlobReferences, digest)? {
            Some(holder) => demote_top(tx, holder)?,
            None => {
                let state = BlobState::Lost {
                    generation: *generation,
                };
                tx.put(BlobRecord::key(digest), &BlobRecord { state, ..blob });
                return Ok(Outcome::BlobLost);
            }
        }
    }
    Ok(Outcome::LossPending)
}

/// Demotes the topmost manifest that relies, over any number of steps, on `manifest`: so at every step what is
/// Complete still has all it needs. The nesting limit of completion bounds the climb.
fn demote_top<R: Read>(tx: &mut Transaction<R>, manifest: Digest) -> Result<(), ReadError> {
    let mut top = manifest;
    while let Some(holder) = references::first_holder(tx, Family::ManifestParents, &top)? {
        top = holder;
    }
    let before = view::manifest(tx, &top)?.ok_or_else(|| bad_key(Family::ManifestParents))?;
    let after = ManifestRecord {
        completeness: Completeness::Degraded,
        ..before.clone()
    };
    references::update(tx, &top, &before, &after);
    Ok(())
}
