//! The state in memory, for tests and the simulation.

use std::collections::BTreeMap;
use std::ops::Bound;

use crate::family::Family;
use crate::mutation::Mutation;
use crate::read::{Entry, Read, ReadError};

/// All records in a map. The reference implementation of [`Read`]; it never fails.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemoryState {
    records: BTreeMap<(Family, Vec<u8>), Vec<u8>>,
}

impl MemoryState {
    /// A state without records.
    pub fn new() -> Self {
        Self::default()
    }

    /// Carries out `mutations`, in order.
    pub fn apply_mutations(&mut self, mutations: impl IntoIterator<Item = Mutation>) {
        for Mutation { family, key, value } in mutations {
            match value {
                Some(value) => self.records.insert((family, key), value),
                None => self.records.remove(&(family, key)),
            };
        }
    }

    /// Every record in the order of snapshots: family, key, value.
    pub fn records(&self) -> impl Iterator<Item = (Family, &[u8], &[u8])> {
        self.records
            .iter()
            .map(|((family, key), value)| (*family, key.as_slice(), value.as_slice()))
    }
}

impl Read for MemoryState {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>, ReadError> {
        Ok(self.records.get(&(family, key.to_vec())).cloned())
    }

    fn scan(
        &self,
        family: Family,
        prefix: &[u8],
        start_after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<Entry>, ReadError> {
        let start = match start_after {
            Some(after) if after >= prefix => Bound::Excluded((family, after.to_vec())),
            _ => Bound::Included((family, prefix.to_vec())),
        };
        Ok(self
            .records
            .range((start, Bound::Unbounded))
            .take_while(|((found, key), _)| *found == family && key.starts_with(prefix))
            .take(limit)
            .map(|((_, key), value)| (key.clone(), value.clone()))
            .collect())
    }
}
