//! Placement: which nodes a key belongs to.
//!
//! Rendezvous hashing over the slots of the layout. A slot's score for a key depends on the two alone, so when a node
//! is replaced its slot's keys go to the replacement and nothing else moves; when a slot is added it takes its share
//! from all others and nothing moves between them.

use std::cmp::Reverse;

use oci::{Digest, Repository, Tag};

use crate::id::NodeId;
use crate::record::LayoutRecord;

/// The `n` nodes that `key` belongs to, best first; all nodes if there are fewer.
///
/// Equal on every node that has the same layout, and part of what is on disk: which node holds which copy. The hash
/// is never changed.
pub fn owners(layout: &LayoutRecord, key: &[u8], n: usize) -> Vec<NodeId> {
    let ranked = rank(layout.slots.keys().copied(), key).into_iter();
    ranked
        .filter_map(|slot| layout.slots.get(&slot).copied())
        .take(n)
        .collect()
}

/// The slots in the order in which they are responsible for `key`: what [`owners`] goes by, for whoever knows nodes by
/// their slot.
pub fn rank(slots: impl IntoIterator<Item = u32>, key: &[u8]) -> Vec<u32> {
    let mut ranked: Vec<_> = slots
        .into_iter()
        .map(|slot| (Reverse(score(key, slot)), slot))
        .collect();
    ranked.sort_unstable();
    ranked.into_iter().map(|(_, slot)| slot).collect()
}

/// The key of a blob or manifest.
pub fn digest_key(digest: &Digest) -> Vec<u8> {
    digest.as_str().as_bytes().to_vec()
}

/// The key of a tag, for what one node does for all: asking upstream.
pub fn tag_key(repository: &Repository, tag: &Tag) -> Vec<u8> {
    format!("{repository}:{tag}").into_bytes()
}

fn score(key: &[u8], slot: u32) -> u64 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&slot.to_be_bytes());
    hasher.update(key);
    let mut bytes = [0; 8];
    hasher.finalize_xof().fill(&mut bytes);
    u64::from_be_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const KEYS: u32 = 2000;

    fn layout(nodes: &[u64]) -> LayoutRecord {
        LayoutRecord {
            version: 1,
            slots: (0..).zip(nodes.iter().copied().map(NodeId::new)).collect(),
        }
    }

    fn keys() -> impl Iterator<Item = Vec<u8>> {
        (0..KEYS).map(|i| digest_key(&Digest::sha256(&i.to_be_bytes())))
    }

    #[test]
    fn replacing_a_node_moves_nothing_else() {
        let (before, after) = (layout(&[1, 2, 3, 4, 5]), layout(&[1, 2, 9, 4, 5]));
        for key in keys() {
            let mut expected = owners(&before, &key, 3);
            expected
                .iter_mut()
                .filter(|node| node.get() == 3)
                .for_each(|node| *node = NodeId::new(9));
            assert_eq!(owners(&after, &key, 3), expected);
        }
    }

    #[test]
    fn adding_a_slot_moves_keys_to_it_alone() {
        let (before, after) = (layout(&[1, 2, 3]), layout(&[1, 2, 3, 4]));
        for key in keys() {
            let without_new: Vec<_> = owners(&after, &key, 4)
                .into_iter()
                .filter(|node| node.get() != 4)
                .collect();
            assert_eq!(without_new, owners(&before, &key, 3));
        }
    }

    #[test]
    fn keys_spread_evenly() {
        let layout = layout(&[1, 2, 3, 4, 5]);
        let mut shares: BTreeMap<NodeId, u32> = BTreeMap::new();
        for key in keys() {
            *shares.entry(owners(&layout, &key, 1)[0]).or_default() += 1;
        }
        let fair = KEYS / 5;
        for (node, share) in shares {
            assert!(
                share.abs_diff(fair) < fair / 5,
                "node {node} owns {share} of {KEYS} keys"
            );
        }
    }

    #[test]
    fn owners_are_distinct_and_at_most_all_nodes() {
        let layout = layout(&[1, 2, 3]);
        let mut owners_of_key = owners(&layout, b"key", 7);
        owners_of_key.sort_unstable();
        assert_eq!(owners_of_key, [NodeId::new(1), NodeId::new(2), NodeId::new(3)]);
        assert_eq!(owners(&LayoutRecord::default(), b"key", 3), []);
    }

    #[test]
    fn the_hash_never_changes() {
        let scores: Vec<_> = (0..3)
            .map(|slot| score(b"docker.io/library/nginx:latest", slot))
            .collect();
        assert_eq!(
            scores,
            [12225273853037221064, 4180497296731018434, 10241246062727740217]
        );
    }
}
