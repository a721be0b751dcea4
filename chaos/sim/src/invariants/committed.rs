//! What was committed stays: every node that has the entry has the same bytes, and enough voters have it on disk.

use std::collections::BTreeMap;

use bytes::Bytes;
use meta::NodeId;
use raft::RaftStatus;
use raft::log_io::LogIo;

use super::Violation;
use crate::node::Place;

#[derive(Default)]
pub(super) struct CommittedStays {
    entries: BTreeMap<u64, Bytes>,
    // Up to where each node was compared in its present run.
    seen: BTreeMap<String, u64>,
    nodes: BTreeMap<NodeId, String>,
}

impl CommittedStays {
    pub(super) fn last(&self) -> u64 {
        self.entries.keys().next_back().copied().unwrap_or(0)
    }

    pub(super) fn check(&mut self, place: &Place, status: &RaftStatus, places: &[Place]) -> Result<(), Violation> {
        self.nodes.insert(status.node, place.name.clone());
        let seen = self.seen.get(&place.name).copied().unwrap_or(0);
        if status.committed < seen {
            // It started again and does not know yet.
            self.seen.insert(place.name.clone(), status.committed);
        }
        if status.committed <= seen {
            return Ok(());
        }
        let found = place
            .log
            .read(seen + 1..status.committed + 1, usize::MAX)
            .map_err(|error| error.to_string())?;
        for (index, bytes) in found {
            self.compare(&place.name, index, bytes)?;
        }
        self.seen.insert(place.name.clone(), status.committed);
        self.is_durable_on_a_majority(status, places)
    }

    fn compare(&mut self, name: &str, index: u64, bytes: Bytes) -> Result<(), Violation> {
        let known = self.entries.entry(index).or_insert_with(|| bytes.clone());
        if *known == bytes {
            return Ok(());
        }
        Err(format!(
            "entry {index} is committed on {name}, and differs from what was committed before"
        ))
    }

    fn is_durable_on_a_majority(&self, status: &RaftStatus, places: &[Place]) -> Result<(), Violation> {
        let index = status.committed;
        let holds = |voter: &&NodeId| {
            let place = self
                .nodes
                .get(voter)
                .and_then(|name| places.iter().find(|place| place.name == *name));
            place.is_some_and(|place| place.log.memory.is_durable(index))
        };
        let holders = status.voters.iter().filter(holds).count();
        let needed = status.voters.len() / 2 + 1;
        if status.voters.is_empty() || holders >= needed {
            return Ok(());
        }
        Err(format!(
            "entry {index} is committed, but durable on {holders} of {} voters",
            status.voters.len()
        ))
    }
}
