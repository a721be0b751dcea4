//! Generations: which copy of a digest's bytes is meant.

use std::fmt;
use std::str::FromStr;

use crate::id::NodeId;

/// Names one writing of a blob; part of its file name and of its object key.
///
/// Made by the writing node alone, without a log entry: unique because each boot of a node counts one up and each
/// writing of a boot counts one up. The bytes of one generation are written once, so a late delete of an old
/// generation can never hit a newer one. Printed as `epoch-node-boot-counter` in decimal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Gen {
    /// Epoch of the cluster the writer belonged to.
    pub epoch: u64,
    /// The writer.
    pub node: NodeId,
    /// Which boot of the writer.
    pub boot_count: u64,
    /// Which writing of that boot.
    pub counter: u64,
}

/// Why a string is not a [`Gen`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid generation {0:?}: not epoch-node-boot-counter")]
pub struct GenError(String);

impl fmt::Display for Gen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}-{}", self.epoch, self.node, self.boot_count, self.counter)
    }
}

impl FromStr for Gen {
    type Err = GenError;

    fn from_str(text: &str) -> Result<Self, GenError> {
        parse(text)
            .filter(|parsed| parsed.to_string() == text)
            .ok_or_else(|| GenError(text.chars().take(100).collect()))
    }
}

fn parse(text: &str) -> Option<Gen> {
    let mut parts = text.splitn(4, '-').map(|part| part.parse::<u64>().ok());
    let mut next = || parts.next().flatten();
    Some(Gen {
        epoch: next()?,
        node: NodeId::new(next()?),
        boot_count: next()?,
        counter: next()?,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_the_printed_form_parses() {
        for bad in [
            "",
            "1",
            "1-2-3",
            "1-2-3-4-5",
            "01-2-3-4",
            "+1-2-3-4",
            "1-2-3-",
            "1--3-4",
            " 1-2-3-4",
        ] {
            assert!(bad.parse::<Gen>().is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn printing_and_parsing_are_inverse(epoch: u64, node: u64, boot_count: u64, counter: u64) {
            let generation = Gen { epoch, node: NodeId::new(node), boot_count, counter };
            prop_assert_eq!(generation.to_string().parse::<Gen>().unwrap(), generation);
        }

        #[test]
        fn arbitrary_text_never_panics(text in "\\PC{0,40}") {
            let _ = text.parse::<Gen>();
        }
    }
}
