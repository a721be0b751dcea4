//! Identities: of clusters, nodes, repositories, requests and log entries.

use std::fmt;
use std::str::FromStr;

use minicbor::{Decode, Encode};

/// A cache node. Allocated by the log from 1 upwards, never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(transparent)]
pub struct NodeId(#[n(0)] u64);

/// A repository. Allocated by the log from 1 upwards, never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(transparent)]
pub struct RepositoryId(#[n(0)] u64);

/// Tells one cluster from another: drawn at random at genesis, printed as 32 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(transparent)]
pub struct ClusterId(#[n(0)] u128);

/// Names the prefix of an object store; outlives epochs. Printed as 32 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(transparent)]
pub struct StorageId(#[n(0)] u128);

/// Drawn at random by an empty node before it first joins, so that asking twice gives one id.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(transparent)]
pub struct JoinNonce(#[n(0)] u128);

/// Names a stored credential: made from its content with a secret key, so that equal ones are stored once and nobody
/// can guess at one by its name. Printed as 32 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(transparent)]
pub struct CredentialId(#[n(0)] u128);

/// One request to change the state: a retry carries the id of the first try.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct RequestId {
    /// Drawn at random when the asking process started.
    #[n(0)]
    pub client: u64,
    /// Counts the requests of that process.
    #[n(1)]
    pub sequence: u64,
}

/// Where a log ends. Ordered by term, then index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct LogPosition {
    /// Raft term.
    #[n(0)]
    pub term: u64,
    /// Raft log index.
    #[n(1)]
    pub index: u64,
}

/// Why a string is not an id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not {expected}")]
pub struct IdError {
    text: String,
    expected: &'static str,
}

macro_rules! counted {
    ($name:ident, $expected:literal) => {
        impl $name {
            /// The first one handed out.
            pub const FIRST: Self = Self(1);

            /// An id by its number.
            pub const fn new(id: u64) -> Self {
                Self(id)
            }

            /// Its number.
            pub const fn get(self) -> u64 {
                self.0
            }

            pub(crate) const fn next(self) -> Self {
                Self(self.0.saturating_add(1))
            }

            pub(crate) const fn to_key(self) -> [u8; 8] {
                self.0.to_be_bytes()
            }

            pub(crate) fn from_key(key: &[u8]) -> Option<Self> {
                Some(Self(u64::from_be_bytes(key.try_into().ok()?)))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                let id: Option<u64> = text.parse().ok();
                id.filter(|id| id.to_string() == text)
                    .map(Self)
                    .ok_or_else(|| IdError {
                        text: text.chars().take(80).collect(),
                        expected: $expected,
                    })
            }
        }
    };
}

counted!(NodeId, "a node id");
counted!(RepositoryId, "a repository id");

macro_rules! random {
    ($name:ident, $expected:literal) => {
        impl $name {
            /// An id by its number.
            pub const fn new(id: u128) -> Self {
                Self(id)
            }

            /// Its number.
            pub const fn get(self) -> u128 {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:032x}", self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:032x}", self.0)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                let id = u128::from_str_radix(text, 16).ok().map(Self);
                id.filter(|id| id.to_string() == text).ok_or_else(|| IdError {
                    text: text.chars().take(80).collect(),
                    expected: $expected,
                })
            }
        }
    };
}

random!(ClusterId, "a cluster id of 32 hex digits");
random!(StorageId, "a storage id of 32 hex digits");
random!(JoinNonce, "a join nonce of 32 hex digits");
random!(CredentialId, "a credential id of 32 hex digits");

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}-{}", self.client, self.sequence)
    }
}

impl RequestId {
    pub(crate) fn to_key(self) -> [u8; 16] {
        let mut key = [0; 16];
        key[..8].copy_from_slice(&self.client.to_be_bytes());
        key[8..].copy_from_slice(&self.sequence.to_be_bytes());
        key
    }
}

impl JoinNonce {
    pub(crate) const fn to_key(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }
}

impl CredentialId {
    pub(crate) const fn to_key(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }

    pub(crate) fn from_key(key: &[u8]) -> Option<Self> {
        Some(Self(u128::from_be_bytes(key.try_into().ok()?)))
    }
}

impl fmt::Display for LogPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.term, self.index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_have_one_spelling() {
        let id = ClusterId::new(0xab);
        assert_eq!(id.to_string().parse::<ClusterId>().unwrap(), id);
        assert!("AB".parse::<ClusterId>().is_err() && "ab".parse::<ClusterId>().is_err());
        assert_eq!("7".parse::<NodeId>().unwrap(), NodeId::new(7));
        assert!("+7".parse::<NodeId>().is_err() && "07".parse::<NodeId>().is_err());
    }
}
