//! What is always true of the state: one function each, as far as the state alone can tell.
//!
//! For property tests, the simulation and checks of a cluster on disk; they read everything. Numbers I1 to I5 are
//! those of `docs/architecture.md`. That bytes really lie where a Present blob says (I2, I3) is checked by nodes
//! against their disks, and that replicas agree (I6) by comparing [`StateHash`](crate::StateHash).

mod access;
mod identities;
mod manifests;
mod tags;

use std::fmt::Display;

use crate::read::{Read, ReadError};

pub use access::{credentials_rest_on_grants, desired_images_are_counted};
pub use identities::{
    layout_names_registered_nodes, node_ids_are_unique, repositories_have_one_id, requests_are_bounded,
};
pub use manifests::{
    complete_manifests_have_all_they_need, inline_bytes_match_their_digest, links_and_referrers_resolve,
    present_generations_could_exist, references_mirror_manifests,
};
pub use tags::tags_serve_what_was_complete;

/// Something that must never be.
#[derive(Debug, thiserror::Error)]
pub enum Violation {
    /// The state contradicts itself.
    #[error("{invariant}: {detail}")]
    Broken {
        /// Which function found it.
        invariant: &'static str,
        /// Where.
        detail: String,
    },
    /// The state could not be read.
    #[error("read state to check it")]
    Read(#[from] ReadError),
}

/// Checks every invariant.
///
/// # Errors
/// The first [`Violation`] found.
pub fn check_all(state: &impl Read) -> Result<(), Violation> {
    complete_manifests_have_all_they_need(state)?;
    references_mirror_manifests(state)?;
    inline_bytes_match_their_digest(state)?;
    present_generations_could_exist(state)?;
    links_and_referrers_resolve(state)?;
    tags_serve_what_was_complete(state)?;
    node_ids_are_unique(state)?;
    layout_names_registered_nodes(state)?;
    repositories_have_one_id(state)?;
    desired_images_are_counted(state)?;
    credentials_rest_on_grants(state)?;
    requests_are_bounded(state)
}

fn ensure(condition: bool, invariant: &'static str, detail: impl Display) -> Result<(), Violation> {
    if condition {
        return Ok(());
    }
    let detail = detail.to_string();
    Err(Violation::Broken { invariant, detail })
}
