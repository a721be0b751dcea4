//! cache-node

pub mod blob_store;
pub mod fill;
