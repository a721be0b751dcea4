//! The proxy on each machine: what container runtimes call on `localhost:7439`.
//!
//! It finds content at the cache nodes, and at the source registry itself when they cannot help, so that a pull
//! through it never fails where the direct pull would work. See `pull` for what it guarantees.
//!
//! It deliberately keeps nothing on disk, takes no writes, and knows neither Raft nor how nodes store blobs.

mod app;
pub mod check;
mod config;
mod facts;
mod http_totals;
mod listener;
mod loans;
mod metrics;
mod pull;
mod registry;
mod ring;
mod standing;
mod supply;
mod tag_tokens;

pub use app::{Proxy, StartError, start};
pub use config::{Config, ConfigError, NODE_NAME_ENV, NodeAddress};
pub use listener::{BoundSocket, ListenError, bind_all};
