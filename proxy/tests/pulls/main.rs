//! Pulls through a whole proxy, over real sockets: cache nodes and a source registry that live, lie and die.

#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

mod client;
mod failover;
mod lending;
mod node;
mod patience;
mod protocol;
mod secrecy;
mod shutdown;
mod world;
