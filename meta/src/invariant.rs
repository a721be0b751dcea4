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

type Check<R> = fn(&R) -> Result<(), Violation>;

fn checks<R: Read>() -> [Check<R>; 12] {
    [
        complete_manifests_have_all_they_need,
        references_mirror_manifests,
        inline_bytes_match_their_digest,
        present_generations_could_exist,
        links_and_referrers_resolve,
        tags_serve_what_was_complete,
        node_ids_are_unique,
        layout_names_registered_nodes,
        repositories_have_one_id,
        desired_images_are_counted,
        credentials_rest_on_grants,
        requests_are_bounded,
    ]
}

/// Checks every invariant.
///
/// # Errors
/// The first [`Violation`] found.
pub fn check_all<R: Read>(state: &R) -> Result<(), Violation> {
    checks().into_iter().try_for_each(|check| check(state))
}

/// The first [`Violation`] of each invariant.
pub fn violations<R: Read>(state: &R) -> Vec<Violation> {
    checks().into_iter().filter_map(|check| check(state).err()).collect()
}

fn ensure(condition: bool, invariant: &'static str, detail: impl Display) -> Result<(), Violation> {
    if condition {
        return Ok(());
    }
    let detail = detail.to_string();
    Err(Violation::Broken { invariant, detail })
}
