//! Images to be filled and kept, and what that means for all of them.
//!
//! Keys: `desired` the reference, `host/name:tag` or `host/name@digest`; `wanted` empty, as there is one.

use minicbor::{Decode, Encode};
use oci::ImageReference;

use super::{Platform, Record};
use crate::family::Family;

/// An image somebody wants to be filled and kept.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct DesiredRecord {
    /// Never evicted, used or not.
    #[n(0)]
    pub retain: bool,
    /// Since when it is desired, in logical milliseconds.
    #[n(1)]
    pub since_ms: u64,
    /// The whole list that named it last.
    #[n(2)]
    pub list: u64,
    /// When all of it was first there after it was not, in logical milliseconds.
    #[n(3)]
    pub completed_at_ms: Option<u64>,
    /// Why it could not be fetched when that was last tried.
    #[n(4)]
    pub error: Option<String>,
}

/// What holds for all desired images.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct WantedRecord {
    /// What every image is filled for.
    #[n(0)]
    pub platforms: Vec<Platform>,
    /// Counts the whole lists that were begun.
    #[n(1)]
    pub list: u64,
    /// The last of them has not ended.
    #[n(2)]
    pub listing: bool,
    /// How many images are desired.
    #[n(3)]
    pub n_desired: u64,
}

impl DesiredRecord {
    pub(crate) fn key(reference: &ImageReference) -> Vec<u8> {
        reference.to_string().into_bytes()
    }
}

impl WantedRecord {
    pub(crate) const KEY: &[u8] = b"";
}

impl Record for DesiredRecord {
    const FAMILY: Family = Family::Desired;
}

impl Record for WantedRecord {
    const FAMILY: Family = Family::Wanted;
}
