//! Which storing of a digest a copy comes from.

use std::fmt;
use std::str::FromStr;

/// Names one storing of a blob, uniquely, without asking anyone.
///
/// Invariant: no two storings in the life of a cluster have the same generation. Whoever makes one guarantees it by
/// counting, in each boot of each node of each epoch, upwards. Printed as `<epoch>-<node>-<boot>-<counter>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation {
    /// The cluster's epoch.
    pub epoch: u64,
    /// The node that stored it.
    pub node: u64,
    /// How often that node had started.
    pub boot: u64,
    /// Counts up within the boot.
    pub counter: u64,
}

impl Generation {
    /// Sorts before every other.
    pub const MIN: Self = Self::filled(u64::MIN);
    /// Sorts after every other.
    pub const MAX: Self = Self::filled(u64::MAX);

    const fn filled(part: u64) -> Self {
        Self {
            epoch: part,
            node: part,
            boot: part,
            counter: part,
        }
    }
}

/// The text is not a [`Generation`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid blob generation {0:?}")]
pub struct GenerationError(String);

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}-{}", self.epoch, self.node, self.boot, self.counter)
    }
}

impl FromStr for Generation {
    type Err = GenerationError;

    fn from_str(text: &str) -> Result<Self, GenerationError> {
        let error = || GenerationError(text.chars().take(80).collect());
        let parts: Vec<u64> = text
            .split('-')
            .map(|part| part.parse().map_err(|_| error()))
            .collect::<Result<_, _>>()?;
        match parts[..] {
            [epoch, node, boot, counter] => Ok(Self {
                epoch,
                node,
                boot,
                counter,
            }),
            _ => Err(error()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn generations_round_trip(epoch: u64, node: u64, boot: u64, counter: u64) {
            let generation = Generation { epoch, node, boot, counter };
            prop_assert_eq!(generation.to_string().parse::<Generation>().unwrap(), generation);
        }

        #[test]
        fn parsing_never_panics(text in "[0-9-]{0,30}") {
            let _ = text.parse::<Generation>();
        }
    }

    #[test]
    fn malformed_generations_are_refused() {
        for bad in [
            "",
            "1",
            "1-2-3",
            "1-2-3-4-5",
            "1-2-3-x",
            "1-2-3-",
            "1-2-3-99999999999999999999",
        ] {
            assert!(bad.parse::<Generation>().is_err(), "{bad:?}");
        }
    }
}
