//! What an answer says about itself beyond its bytes: the tag token, staleness, where the bytes came from.

use std::fmt;
use std::num::ParseIntError;
use std::str::FromStr;

use thiserror::Error;

/// Remarks on an answer; each becomes one header. The default is none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Notes {
    /// `X-Cache-Index`: the tag's own index of last change.
    pub cache_index: Option<CacheIndex>,
    /// `Warning`: what is wrong with an answer that is still the best there is.
    pub warning: Option<Warning>,
    /// `X-Kuik-Source`: where the bytes came from.
    pub source: Option<Source>,
}

impl Notes {
    /// Notes that name only where the bytes came from.
    pub fn from_source(source: Source) -> Self {
        Self {
            source: Some(source),
            ..Self::default()
        }
    }
}

/// The monotonic tag token: a cluster epoch and the index of a tag's last change. Later is greater.
///
/// On the wire `<epoch>:<index>`, both decimal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CacheIndex {
    /// Cluster epoch; a recovered cluster starts a greater one.
    pub epoch: u64,
    /// Log index of the tag's last serving change within the epoch.
    pub index: u64,
}

impl fmt::Display for CacheIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.epoch, self.index)
    }
}

/// Why a text is not a [`CacheIndex`].
#[derive(Debug, Error)]
pub enum CacheIndexError {
    /// There is no colon between epoch and index.
    #[error("cache index {0:?} is not <epoch>:<index>")]
    Shape(String),
    /// One of the two parts is not a decimal number of 64 bits.
    #[error("cache index {text:?} holds a part that is no number")]
    Number {
        /// The whole text.
        text: String,
        /// What was wrong with the part.
        source: ParseIntError,
    },
}

impl FromStr for CacheIndex {
    type Err = CacheIndexError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (epoch, index) = text
            .split_once(':')
            .ok_or_else(|| CacheIndexError::Shape(text.to_owned()))?;
        let number = |part: &str| {
            part.parse().map_err(|source| CacheIndexError::Number {
                text: text.to_owned(),
                source,
            })
        };
        Ok(Self {
            epoch: number(epoch)?,
            index: number(index)?,
        })
    }
}

/// A `Warning` header of RFC 7234.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Warning {
    /// 110: the answer could not be checked against its source in time.
    Stale,
}

impl Warning {
    /// The header's value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stale => "110 - \"Response is Stale\"",
        }
    }
}

/// Where the bytes of an answer came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Source {
    /// The answering process had them.
    Local,
    /// Another cache node.
    Peer,
    /// The source registry, fetched for this request or one it joined.
    Upstream,
}

impl Source {
    /// The header's value, and a metric label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Peer => "peer",
            Self::Upstream => "upstream",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cache_index_survives_the_wire() {
        let index = CacheIndex {
            epoch: 3,
            index: u64::MAX,
        };
        assert_eq!(index.to_string().parse::<CacheIndex>().unwrap(), index);
    }

    #[test]
    fn a_later_epoch_is_greater_than_any_index_of_an_earlier_one() {
        assert!(
            CacheIndex { epoch: 2, index: 0 }
                > CacheIndex {
                    epoch: 1,
                    index: u64::MAX
                }
        );
    }

    #[test]
    fn malformed_cache_indexes_are_refused() {
        for text in [
            "",
            "1",
            ":",
            "1:",
            ":1",
            "1:2:3",
            "-1:2",
            "1: 2",
            "18446744073709551616:0",
        ] {
            assert!(text.parse::<CacheIndex>().is_err(), "{text:?}");
        }
    }
}
