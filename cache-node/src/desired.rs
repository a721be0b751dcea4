//! Images that somebody wants to be filled and kept, whether anyone pulls them or not.
//!
//! The owner of an image's name sees to it that its manifests are known for every wanted platform and lets completion
//! do the rest ([`filler`]). Every node can say how it stands with each ([`state`]), and tells whoever watches what
//! changes ([`board`]).

mod assess;
pub mod board;
mod copies;
pub mod filler;
pub mod observer;
pub mod platforms;
pub mod state;
