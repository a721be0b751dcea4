//! Blobs become Present, generations are abandoned.

use oci::Digest;

use super::transaction::Transaction;
use super::{Refusal, nodes, references};
use crate::command::{AbandonGens, CommitBlob};
use crate::generation::Gen;
use crate::outcome::{Outcome, Rejected};
use crate::read::Read;
use crate::record::{BlobRecord, BlobState};
use crate::view;

pub(super) fn commit<R: Read>(tx: &mut Transaction<R>, command: &CommitBlob) -> Result<Outcome, Refusal> {
    let CommitBlob {
        digest,
        size,
        generation,
        repository,
    } = command;
    if digest.verifier().is_err() {
        return Err(Rejected::DigestUnverifiable.into());
    }
    let known = view::blob(tx, digest)?;
    if let Some(BlobRecord { size: known, .. }) = known
        && known != *size
    {
        return Err(Rejected::SizeMismatch { known }.into());
    }
    let outcome = match known.map(|blob| blob.state) {
        Some(BlobState::Present { generation: winner }) if winner != *generation => {
            Outcome::AlreadyPresent { generation: winner }
        }
        Some(BlobState::Present { .. }) => Outcome::BlobCommitted,
        Some(BlobState::Lost { generation: lost }) if lost == *generation => return Err(Rejected::GenRefused.into()),
        Some(BlobState::Lost { .. }) | None => {
            check_generation(tx, *generation)?;
            make_present(tx, digest, *size, *generation);
            Outcome::BlobCommitted
        }
    };
    let repository = tx.repository_id(repository)?;
    references::link(tx, repository, digest);
    Ok(outcome)
}

pub(super) fn abandon<R: Read>(tx: &mut Transaction<R>, command: &AbandonGens) -> Result<Outcome, Refusal> {
    let mut node = nodes::existing(tx, command.node)?;
    if command.boots_below > node.boot_count {
        return Err(Rejected::GenRefused.into());
    }
    node.abandoned_below = node.abandoned_below.max(command.boots_below);
    tx.put(&command.node.to_key(), &node);
    Ok(Outcome::GensAbandoned)
}

fn check_generation<R: Read>(tx: &Transaction<R>, generation: Gen) -> Result<(), Refusal> {
    let writer = nodes::existing(tx, generation.node)?;
    let abandoned = generation.boot_count < writer.abandoned_below;
    if abandoned || generation.epoch > tx.cluster()?.epoch {
        return Err(Rejected::GenRefused.into());
    }
    Ok(())
}

fn make_present<R: Read>(tx: &mut Transaction<R>, digest: &Digest, size: u64, generation: Gen) {
    let state = BlobState::Present { generation };
    tx.put(BlobRecord::key(digest), &BlobRecord { size, state });
}
