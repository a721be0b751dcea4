//! The real server over TLS, real reviews, and cache nodes that answer, refuse or hang.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, unreachable_pub, missing_docs)]

mod certificates;
mod fake_control;
mod harness;
mod server;
mod tier;
