//! A hash of the whole state that is kept up to date entry by entry.

use std::fmt;

use crate::family::Family;
use crate::mutation::Mutation;
use crate::read::{Read, ReadError, for_each_entry};

/// Σ blake3(family ‖ key length ‖ key ‖ value) mod 2^128 over all records.
///
/// Equal on all replicas at the same log index. It finds accidents (a replica that diverged, a damaged record), not
/// an adversary, so a sum of hashes is enough.
#[derive(Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct StateHash(u128);

impl StateHash {
    /// The hash of a state without records.
    pub const EMPTY: Self = Self(0);

    /// Takes `mutations` into account; `before` is the state they are about to change.
    ///
    /// Each record may appear at most once in `mutations`, as [`crate::apply`](fn@crate::apply) and
    /// [`Overlay::into_mutations`](crate::Overlay::into_mutations) promise.
    ///
    /// # Errors
    /// [`ReadError`] if an old value cannot be read; the hash is then unchanged.
    pub fn fold(&mut self, before: &impl Read, mutations: &[Mutation]) -> Result<(), ReadError> {
        let mut sum = self.0;
        for Mutation { family, key, value } in mutations {
            if let Some(old) = before.get(*family, key)? {
                sum = sum.wrapping_sub(record_hash(*family, key, &old));
            }
            if let Some(new) = value {
                sum = sum.wrapping_add(record_hash(*family, key, new));
            }
        }
        self.0 = sum;
        Ok(())
    }

    /// Computes the hash of all of `state`; reads every record.
    ///
    /// # Errors
    /// [`ReadError`] if a record cannot be read.
    pub fn of(state: &impl Read) -> Result<Self, ReadError> {
        let mut hash = Self::EMPTY;
        for family in Family::ALL {
            for_each_entry(state, family, |key, value| {
                hash.add(family, key, value);
                Ok::<_, ReadError>(())
            })?;
        }
        Ok(hash)
    }

    /// The hash as 16 bytes, to store it.
    pub const fn to_bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }

    /// The hash that was stored as `bytes`.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(u128::from_be_bytes(bytes))
    }

    pub(crate) fn add(&mut self, family: Family, key: &[u8], value: &[u8]) {
        self.0 = self.0.wrapping_add(record_hash(family, key, value));
    }
}

fn record_hash(family: Family, key: &[u8], value: &[u8]) -> u128 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&[family.number()]);
    hasher.update(&(key.len() as u64).to_be_bytes());
    hasher.update(key);
    hasher.update(value);
    let mut bytes = [0; 16];
    hasher.finalize_xof().fill(&mut bytes);
    u128::from_be_bytes(bytes)
}

impl fmt::Display for StateHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for StateHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
