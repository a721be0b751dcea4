//! What the state machine answers and holds, through the crate's public API alone.
//!
//! `properties` checks random command sequences against the plain oracle in `model`; the `stories` tell one thing
//! each; `fixtures` pins the bytes of format version 1.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod fixtures;
mod model;
mod model_access;
mod properties;
mod properties_access;
mod replica;
mod stories_access;
mod stories_content;
mod stories_nodes;
mod stories_protocol;
mod stories_tags;
mod universe;
