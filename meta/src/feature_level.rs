//! Feature levels: which commands every node of a cluster understands.

use std::fmt;

use minicbor::{Decode, Encode};

/// How much of the command set a binary, or a whole cluster, understands.
///
/// The cluster's level is at most the lowest of its nodes, and only a log entry raises it; a command above it is
/// rejected by every replica alike, also by one too old to read the command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(transparent)]
pub struct FeatureLevel(#[n(0)] u32);

impl FeatureLevel {
    /// The level every version understands.
    pub const FIRST: Self = Self(1);
    /// Desired images, grants, sealed credentials, placements.
    pub const ACCESS: Self = Self(2);
    /// The highest level this binary understands.
    pub const SUPPORTED: Self = Self::ACCESS;

    /// A level by its number.
    pub const fn new(level: u32) -> Self {
        Self(level)
    }

    /// Its number.
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl fmt::Display for FeatureLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
