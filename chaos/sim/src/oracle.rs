//! What an observer outside the cluster knows: everything that was ever committed or acknowledged.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use meta::{Command, LayoutRecord, Outcome, Read, view};

/// A write that was acknowledged.
#[derive(Debug, Clone)]
pub(crate) struct Acknowledged {
    pub(crate) command: Command,
    pub(crate) outcome: Outcome,
}

/// Every acknowledged write of one run. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct Oracle(Arc<Mutex<Vec<Acknowledged>>>);

impl Oracle {
    pub(crate) fn acknowledge(&self, command: Command, outcome: Outcome) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(Acknowledged { command, outcome });
    }

    pub(crate) fn acknowledged(&self) -> Vec<Acknowledged> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many of each outcome there were: what the workload really did.
    pub(crate) fn summary(&self) -> BTreeMap<String, usize> {
        let mut summary = BTreeMap::new();
        for Acknowledged { command, outcome } in self.acknowledged() {
            let kind = match outcome {
                Outcome::Rejected(_) => format!("{} rejected", command.name()),
                _ => command.name().to_owned(),
            };
            *summary.entry(kind).or_insert(0) += 1;
        }
        summary
    }

    /// The first acknowledged write whose effect is not in `state`.
    pub(crate) fn missing_from(&self, state: &impl Read) -> Option<Acknowledged> {
        self.acknowledged().into_iter().find(|write| !is_present(write, state))
    }
}

fn is_present(write: &Acknowledged, state: &impl Read) -> bool {
    let LayoutRecord { version, .. } = view::layout(state).expect("a state in memory is readable");
    let cluster = view::cluster(state).expect("a state in memory is readable");
    match (&write.command, &write.outcome) {
        (Command::CommitBlob(commit), Outcome::BlobCommitted) => {
            let record = view::blob(state, &commit.digest).expect("a state in memory is readable");
            record.and_then(|record| record.present()) == Some(commit.generation)
        }
        (Command::PutManifest(put), Outcome::ManifestStored { .. }) => view::manifest(state, &put.digest)
            .expect("a state in memory is readable")
            .is_some(),
        (Command::PromoteTag(_), Outcome::TagPromoted { serving_index }) => {
            cluster.is_some_and(|cluster| cluster.serving_changes >= *serving_index)
        }
        (Command::SetLayout(_), Outcome::LayoutSet { version: set }) => version >= *set,
        _ => true,
    }
}
