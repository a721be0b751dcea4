//! Which cache nodes to prefer for a digest or tag: those that the tier itself would give it to.

use meta::placement;

/// The cache nodes of the configuration.
#[derive(Debug, Clone)]
pub(crate) struct Ring {
    /// Ordinal of each node, which is its slot in the tier's layout, by its position in the configuration.
    ordinals: Vec<u32>,
}

impl Ring {
    /// Takes the ordinals in the order of the configuration.
    pub(crate) fn new(ordinals: Vec<u32>) -> Self {
        Self { ordinals }
    }

    /// Positions of all nodes, the likeliest owner of `key` first.
    pub(crate) fn order(&self, key: &[u8]) -> Vec<usize> {
        let ranked = placement::rank(self.ordinals.iter().copied(), key);
        let position = |ordinal| self.ordinals.iter().position(|candidate| *candidate == ordinal);
        ranked.into_iter().filter_map(position).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_goes_by_ordinal_and_not_by_position() {
        let (ring, shuffled) = (Ring::new(vec![0, 1, 2]), Ring::new(vec![2, 0, 1]));
        for key in 0..50_u32 {
            let ordinals = |ring: &Ring| -> Vec<u32> {
                ring.order(&key.to_be_bytes())
                    .into_iter()
                    .map(|position| ring.ordinals[position])
                    .collect()
            };
            assert_eq!(ordinals(&ring), ordinals(&shuffled));
        }
    }
}
