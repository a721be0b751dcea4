//! cache-node

pub mod blob_store;
