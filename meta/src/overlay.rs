//! Changes on top of a state that has not seen them yet.

use std::collections::BTreeMap;

use crate::family::Family;
use crate::mutation::Mutation;
use crate::read::{Entry, Read, ReadError};

/// A state with changes that are not written yet.
///
/// Lets a batch of entries be applied before any of it is written: push each entry's mutations, apply the next entry
/// to the overlay, then write [`Overlay::into_mutations`] at once.
#[derive(Debug)]
pub struct Overlay<R> {
    base: R,
    changes: BTreeMap<(Family, Vec<u8>), Option<Vec<u8>>>,
}

impl<R: Read> Overlay<R> {
    /// `base` without any change.
    pub fn new(base: R) -> Self {
        Self {
            base,
            changes: BTreeMap::new(),
        }
    }

    /// Adds changes; a later one of the same record replaces an earlier one.
    pub fn push(&mut self, mutations: impl IntoIterator<Item = Mutation>) {
        for Mutation { family, key, value } in mutations {
            self.changes.insert((family, key), value);
        }
    }

    /// All changes: each record at most once, by family and key.
    pub fn into_mutations(self) -> Vec<Mutation> {
        let mutation = |((family, key), value)| Mutation { family, key, value };
        self.changes.into_iter().map(mutation).collect()
    }

    pub(crate) fn set(&mut self, family: Family, key: Vec<u8>, value: Option<Vec<u8>>) {
        self.changes.insert((family, key), value);
    }

    pub(crate) fn discard_changes(&mut self) {
        self.changes.clear();
    }

    fn changes_in<'a>(
        &'a self,
        family: Family,
        prefix: &'a [u8],
    ) -> impl Iterator<Item = (&'a [u8], Option<&'a Vec<u8>>)> {
        self.changes
            .range((family, prefix.to_vec())..)
            .map(|((found, key), value)| (*found, key.as_slice(), value.as_ref()))
            .take_while(move |(found, key, _)| *found == family && key.starts_with(prefix))
            .map(|(_, key, value)| (key, value))
    }
}

impl<R: Read> Read for Overlay<R> {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>, ReadError> {
        match self.changes.get(&(family, key.to_vec())) {
            Some(value) => Ok(value.clone()),
            None => self.base.get(family, key),
        }
    }

    fn scan(
        &self,
        family: Family,
        prefix: &[u8],
        start_after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<Entry>, ReadError> {
        let after = |key: &[u8]| start_after.is_none_or(|start| key > start);
        let changes: Vec<_> = self.changes_in(family, prefix).filter(|(key, _)| after(key)).collect();
        let deleted = changes.iter().filter(|(_, value)| value.is_none()).count();
        // With this many entries of the base, `limit` are left however many of them the changes delete.
        let base_limit = limit.saturating_add(deleted);
        let base = self.base.scan(family, prefix, start_after, base_limit)?;
        let mut merged: BTreeMap<Vec<u8>, Vec<u8>> = base.into_iter().collect();
        for (key, value) in changes {
            match value {
                Some(value) => merged.insert(key.to_vec(), value.clone()),
                None => merged.remove(key),
            };
        }
        Ok(merged.into_iter().take(limit).collect::<Vec<Entry>>())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::memory::MemoryState;

    fn mutation() -> impl Strategy<Value = Mutation> {
        let family = prop_oneof![Just(Family::Tags), Just(Family::Links)];
        (family, "[ab]{1,3}", proptest::option::of("[xy]")).prop_map(|(family, key, value)| Mutation {
            family,
            key: key.into_bytes(),
            value: value.map(String::into_bytes),
        })
    }

    proptest! {
        #[test]
        fn an_overlay_reads_like_the_state_it_will_become(
            before in proptest::collection::vec(mutation(), 0..20),
            changes in proptest::collection::vec(mutation(), 0..20),
            prefix in "[ab]{0,2}",
            after in proptest::option::of("[ab]{0,3}"),
            limit in 0_usize..12,
        ) {
            let mut base = MemoryState::new();
            base.apply_mutations(before);
            let mut overlay = Overlay::new(&base);
            overlay.push(changes.clone());
            let mut written = base.clone();
            written.apply_mutations(changes);

            let after = after.as_ref().map(|key| key.as_bytes());
            prop_assert_eq!(
                overlay.scan(Family::Tags, prefix.as_bytes(), after, limit).unwrap(),
                written.scan(Family::Tags, prefix.as_bytes(), after, limit).unwrap()
            );
            prop_assert_eq!(
                overlay.get(Family::Links, prefix.as_bytes()).unwrap(),
                written.get(Family::Links, prefix.as_bytes()).unwrap()
            );
            let mutations = overlay.into_mutations();
            base.apply_mutations(mutations);
            prop_assert_eq!(base, written);
        }
    }
}
