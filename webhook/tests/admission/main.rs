//! The real server over TLS, real reviews, and cache nodes that answer, refuse or hang.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, unreachable_pub, missing_docs)]

mod api_server;
mod certificates;
mod control_plane;
mod fake_control;
mod harness;
mod relay;
mod secrecy;
mod server;
mod tier;
