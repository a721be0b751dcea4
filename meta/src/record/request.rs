//! Requests that were answered, so that a retry gets the same answer and changes nothing.
//!
//! Keys: `requests` the request id, big-endian; `request_ring` the place in the ring, big-endian.

use minicbor::{Decode, Encode};

use super::Record;
use crate::family::Family;
use crate::id::RequestId;
use crate::outcome::Outcome;

/// How a request was answered.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct RequestRecord {
    #[n(0)]
    pub(crate) outcome: Outcome,
}

impl Record for RequestRecord {
    const FAMILY: Family = Family::Requests;
}

impl Record for RequestId {
    const FAMILY: Family = Family::RequestRing;
}

pub(crate) fn request_key(request: RequestId) -> [u8; 16] {
    request.to_key()
}

pub(crate) fn ring_key(place: u64) -> [u8; 8] {
    place.to_be_bytes()
}
