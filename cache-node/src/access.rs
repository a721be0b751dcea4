//! Private images: who may have them from the cache, and with which credentials they are read at their source.
//!
//! A namespace that once showed credentials which read a repository has a *grant*; the credentials lie in the replicated
//! state, sealed with a key that is not in it. Pods are admitted by grant ([`admission`]), nodes are served what admitted
//! pods on them use ([`gate`]).

pub mod admission;
pub mod authorization;
pub mod gate;
pub mod granting;
pub mod keys;
pub mod liveness;
pub mod register;
mod rewrap;
pub mod role;
mod seal;
pub mod vault;

pub use rewrap::start as start_rewrap;
