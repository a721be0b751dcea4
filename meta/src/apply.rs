//! Applying a command: dispatch, and what all commands share (request window, clock, feature level).

mod access;
mod blobs;
mod cluster;
mod completion;
mod desired;
mod loss;
mod manifests;
mod nodes;
mod references;
mod requests;
mod tags;
mod transaction;

use crate::command::Command;
use crate::envelope::Envelope;
use crate::feature_level::FeatureLevel;
use crate::mutation::Mutation;
use crate::outcome::{Outcome, Rejected};
use crate::read::{Read, ReadError};

pub use completion::{CHILDREN_COMPLETED_AT_ONCE_MAX, MISSING_BLOBS_LISTED_MAX};
pub use requests::REQUESTS_REMEMBERED_MAX;

use transaction::Transaction;

/// Why a command changes nothing, or cannot be applied at all.
enum Refusal {
    Rejected(Rejected),
    Read(ReadError),
}

impl From<Rejected> for Refusal {
    fn from(reason: Rejected) -> Self {
        Self::Rejected(reason)
    }
}

impl From<ReadError> for Refusal {
    fn from(error: ReadError) -> Self {
        Self::Read(error)
    }
}

/// What `envelope` answers and changes in `state`.
///
/// Total and deterministic: for equal states and envelopes every replica returns the same, and no command panics. A
/// request that is still remembered gets its first answer again and changes nothing. The mutations name each record
/// at most once, ordered by family and key.
///
/// # Errors
/// [`ReadError`] if this replica cannot go on: its storage failed, or it is too old for the entry. Nothing is changed.
pub fn apply(state: &impl Read, envelope: &Envelope) -> Result<(Outcome, Vec<Mutation>), ReadError> {
    if let Some(outcome) = requests::remembered(state, envelope.request)? {
        return Ok((outcome, Vec::new()));
    }
    let mut tx = Transaction::begin(state, envelope.now_ms)?;
    let outcome = match decide(&mut tx, &envelope.command) {
        Ok(outcome) => outcome,
        Err(Refusal::Read(error)) => return Err(error),
        Err(Refusal::Rejected(reason)) => {
            tx.roll_back();
            Outcome::Rejected(reason)
        }
    };
    requests::remember(&mut tx, envelope.request, &outcome)?;
    Ok((outcome, tx.finish()))
}

fn decide<R: Read>(tx: &mut Transaction<R>, command: &Command) -> Result<Outcome, Refusal> {
    check_feature_level(tx, command)?;
    match command {
        Command::InitCluster(command) => cluster::init(tx, command),
        Command::SetFeatureLevel(command) => cluster::set_feature_level(tx, command),
        Command::RegisterNode(command) => nodes::register(tx, command),
        Command::BootNode(command) => nodes::boot(tx, command),
        Command::SetLayout(command) => nodes::set_layout(tx, command),
        Command::PutManifest(command) => manifests::put(tx, command),
        Command::CommitBlob(command) => blobs::commit(tx, command),
        Command::AbandonGens(command) => blobs::abandon(tx, command),
        Command::CompleteManifest(command) => completion::complete(tx, command),
        Command::MarkLost(command) => loss::mark_lost(tx, command),
        Command::SetCandidate(command) => tags::set_candidate(tx, command),
        Command::PromoteTag(command) => tags::promote(tx, command),
        Command::TagChecked(command) => tags::checked(tx, command),
        Command::Link(command) => manifests::link(tx, command),
        Command::ChangeDesired(command) => desired::change(tx, command),
        Command::NoteDesired(command) => desired::note(tx, command),
        Command::SetVisibility(command) => access::set_visibility(tx, command),
        Command::PutGrant(command) => access::put_grant(tx, command),
        Command::RevokeGrants(command) => access::revoke(tx, command),
        Command::MarkGrants(command) => access::mark(tx, command),
        Command::ResealCredential(command) => access::reseal(tx, command),
        Command::SetPlacements(command) => access::place(tx, command),
        Command::KnowHosts(command) => access::know_hosts(tx, command),
        Command::Newer(newer) => Err(too_old(newer.feature_level)),
    }
}

/// Rejects what not every node understands, and stops a replica that is itself too old for the cluster.
fn check_feature_level<R: Read>(tx: &Transaction<R>, command: &Command) -> Result<(), Refusal> {
    let required = command.feature_level();
    let cluster = match (tx.cluster(), command) {
        (Ok(cluster), _) => cluster.feature_level,
        (Err(_), Command::InitCluster(_) | Command::Newer(_)) => return Ok(()),
        (Err(reason), _) => return Err(reason.into()),
    };
    if cluster > FeatureLevel::SUPPORTED {
        return Err(too_old(cluster));
    }
    if required > cluster {
        return Err(Rejected::FeatureLevelTooLow { required, cluster }.into());
    }
    Ok(())
}

fn too_old(required: FeatureLevel) -> Refusal {
    Refusal::Read(ReadError::TooOld { required })
}
