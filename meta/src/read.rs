//! The port through which the state is read.

use std::error::Error;

use crate::codec::DecodeError;
use crate::family::Family;
use crate::feature_level::FeatureLevel;

/// A key and its value.
pub type Entry = (Vec<u8>, Vec<u8>);

/// A consistent view of the state.
///
/// An implementation answers every call from the same point of the log, and lists keys in byte order.
pub trait Read {
    /// The value of `key`, if there is one.
    ///
    /// # Errors
    /// [`ReadError`] when the storage fails; absence is not an error.
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>, ReadError>;

    /// Up to `limit` entries whose key begins with `prefix`, in byte order, from the first one after `start_after`.
    ///
    /// `start_after` is a whole key, of which nothing but its place in the order matters.
    ///
    /// # Errors
    /// [`ReadError`] when the storage fails.
    fn scan(
        &self,
        family: Family,
        prefix: &[u8],
        start_after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<Entry>, ReadError>;
}

/// Why the state could not be read. A replica that meets one while applying must stop: the others go on without it.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The storage failed.
    #[error("read {family}")]
    Storage {
        /// What was read.
        family: Family,
        /// What the storage said.
        source: Box<dyn Error + Send + Sync>,
    },
    /// A record is damaged, or of a newer version than this binary.
    #[error("record of {family} is unreadable")]
    Corrupt {
        /// What was read.
        family: Family,
        /// What is wrong with it.
        source: DecodeError,
    },
    /// An entry that the cluster accepts but this binary is too old to understand.
    #[error("entry needs feature level {required}, this version supports {supported}", supported = FeatureLevel::SUPPORTED)]
    TooOld {
        /// What the entry needs.
        required: FeatureLevel,
    },
}

impl<R: Read + ?Sized> Read for &R {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>, ReadError> {
        (**self).get(family, key)
    }

    fn scan(
        &self,
        family: Family,
        prefix: &[u8],
        start_after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<Entry>, ReadError> {
        (**self).scan(family, prefix, start_after, limit)
    }
}

/// Entries read at a time when a whole family is.
const SCAN_PAGE_ENTRIES: usize = 1024;

/// Calls `visit` with each entry of `family`, in order.
pub(crate) fn for_each_entry<E: From<ReadError>>(
    state: &impl Read,
    family: Family,
    mut visit: impl FnMut(&[u8], &[u8]) -> Result<(), E>,
) -> Result<(), E> {
    let mut after: Option<Vec<u8>> = None;
    loop {
        let page = state.scan(family, b"", after.as_deref(), SCAN_PAGE_ENTRIES)?;
        for (key, value) in &page {
            visit(key, value)?;
        }
        match page.into_iter().next_back() {
            Some((key, _)) => after = Some(key),
            None => return Ok(()),
        }
    }
}
