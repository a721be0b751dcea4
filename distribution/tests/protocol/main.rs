//! The server's side of the contract with container runtimes, over real sockets. Test names carry the behaviour;
//! the numbers in comments are those of the contract's list.

#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

mod blobs;
mod bounds;
mod errors;
mod lists;
mod manifests;
mod memory;
mod random;
mod ranges;
mod shutdown;
mod tls;
mod transport;
mod wire;
