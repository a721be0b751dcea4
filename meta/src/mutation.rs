//! Mutations: what an entry changes.

use crate::family::Family;

/// One record put or deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mutation {
    /// Which class of records.
    pub family: Family,
    /// Which record.
    pub key: Vec<u8>,
    /// Its new value; `None` deletes it.
    pub value: Option<Vec<u8>>,
}
