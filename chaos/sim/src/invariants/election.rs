//! Election safety: a term has at most one leader.

use std::collections::BTreeMap;

use raft::RaftStatus;

use super::Violation;

#[derive(Default)]
pub(super) struct OneLeaderPerTerm(BTreeMap<u64, String>);

impl OneLeaderPerTerm {
    pub(super) fn check(&mut self, name: &str, status: &RaftStatus) -> Result<(), Violation> {
        if !status.is_leader() {
            return Ok(());
        }
        let leader = self.0.entry(status.term).or_insert_with(|| name.to_owned());
        if leader == name {
            return Ok(());
        }
        Err(format!("term {} has two leaders: {leader} and {name}", status.term))
    }

    pub(super) fn leaders(&self) -> impl Iterator<Item = (u64, &str)> {
        self.0.iter().map(|(term, name)| (*term, name.as_str()))
    }
}
