//! Records: the typed values of the state, one file each with its key layout.

mod access;
mod blob;
mod cluster;
mod desired;
mod layout;
mod link;
mod manifest;
mod node;
mod reference;
mod repository;
mod request;
mod tag;

use minicbor::{Decode, Encode};

use crate::codec;
use crate::family::Family;
use crate::read::{Read, ReadError};

pub use access::{CredentialRecord, GrantRecord, PlacementRecord, Visibility};
pub use blob::{BlobRecord, BlobState};
pub use cluster::ClusterRecord;
pub use desired::{DesiredRecord, WantedRecord};
pub use layout::LayoutRecord;
pub use manifest::{Completeness, ManifestRecord};
pub use node::{Addresses, NodeRecord};
pub use reference::{BlobReference, ChildReference, ManifestReferences, Platform};
pub use repository::RepositoryRecord;
pub use tag::{TAG_HISTORY_MAX, TagHistoryEntry, TagRecord};

pub(crate) use access::{grant_key, grant_prefix, split_grant_key, visibility_key};
pub(crate) use link::{link_key, referrer_key, referrer_prefix, split_link_key, split_referrer_key};
pub(crate) use node::nonce_key;
pub(crate) use reference::{Held, ReferenceKey};
pub(crate) use repository::repository_name_key;
pub(crate) use request::{RequestRecord, request_key, ring_key};

/// A value of one family.
pub(crate) trait Record: Encode<()> + for<'b> Decode<'b, ()> {
    const FAMILY: Family;

    fn to_value(&self) -> Vec<u8> {
        codec::to_vec(self)
    }

    fn from_value(bytes: &[u8]) -> Result<Self, ReadError> {
        codec::from_slice(Self::FAMILY.name(), bytes).map_err(|source| ReadError::Corrupt {
            family: Self::FAMILY,
            source,
        })
    }
}

/// Reads the record under `key`.
pub(crate) fn get<T: Record>(state: &impl Read, key: &[u8]) -> Result<Option<T>, ReadError> {
    state
        .get(T::FAMILY, key)?
        .map(|bytes| T::from_value(&bytes))
        .transpose()
}

/// A key that is not of the layout its family has.
pub(crate) fn bad_key(family: Family) -> ReadError {
    ReadError::Corrupt {
        family,
        source: codec::DecodeError::new(family.name(), "malformed key"),
    }
}

/// The text of a key, or of a part of one, as the type it was made from.
pub(crate) fn text_of_key<T: std::str::FromStr>(family: Family, text: &[u8]) -> Result<T, ReadError> {
    std::str::from_utf8(text)
        .ok()
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| bad_key(family))
}
