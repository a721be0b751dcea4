//! Replicas at the same index have the same state, and that state is sound.

use std::collections::BTreeMap;

use meta::StateHash;
use raft::MetaHandle;

use super::Violation;

#[derive(Default)]
pub(super) struct SameStateAtSameIndex {
    hashes: BTreeMap<u64, StateHash>,
    seen: BTreeMap<String, u64>,
}

impl SameStateAtSameIndex {
    pub(super) fn check(&mut self, name: &str, handle: &MetaHandle) -> Result<(), Violation> {
        let (applied, _) = handle.state_hash();
        let seen = self.seen.insert(name.to_owned(), applied).unwrap_or(0);
        if applied == seen {
            return Ok(());
        }
        let is_first = self.hashes.keys().next_back().is_none_or(|last| *last < applied);
        // A node that lost its state applies again from an earlier index: all of that must come out the same too.
        let from = if applied > seen { seen + 1 } else { 0 };
        for index in from..=applied {
            let Some(hash) = handle.state_hash_at(index) else {
                continue;
            };
            let known = *self.hashes.entry(index).or_insert(hash);
            if known != hash {
                return Err(format!(
                    "{name} has state {hash} at entry {index}, another node had {known}"
                ));
            }
        }
        if !is_first {
            return Ok(());
        }
        // The others will have the same hash, and so the same state.
        meta::invariant::check_all(&handle.local()).map_err(|violation| format!("{name} at {applied}: {violation}"))
    }
}
