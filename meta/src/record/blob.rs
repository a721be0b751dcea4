//! Blobs.
//!
//! Key: the digest. Where copies lie is each node's own business and not recorded.

use minicbor::{Decode, Encode};
use oci::Digest;

use super::Record;
use crate::family::Family;
use crate::generation::Gen;

/// What is known of a blob.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct BlobRecord {
    /// Length in bytes.
    #[n(0)]
    pub size: u64,
    /// Whether its bytes are stored.
    #[n(1)]
    pub state: BlobState,
}

/// Whether the bytes of a blob are stored. Variants 2 (condemned) and 3 (swept) are reserved for garbage collection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum BlobState {
    /// They were durable when the generation was committed, and nobody said otherwise since.
    #[n(0)]
    Present {
        /// Which writing of them counts.
        #[cbor(n(0), with = "crate::codec::text")]
        generation: Gen,
    },
    /// Every holder said that it has them no more.
    #[n(1)]
    Lost {
        /// Which writing was lost.
        #[cbor(n(0), with = "crate::codec::text")]
        generation: Gen,
    },
}

impl BlobRecord {
    /// The generation to read, if the blob is Present.
    pub fn present(&self) -> Option<Gen> {
        match self.state {
            BlobState::Present { generation } => Some(generation),
            BlobState::Lost { .. } => None,
        }
    }

    pub(crate) fn key(digest: &Digest) -> &[u8] {
        digest.as_str().as_bytes()
    }
}

impl Record for BlobRecord {
    const FAMILY: Family = Family::Blobs;
}
