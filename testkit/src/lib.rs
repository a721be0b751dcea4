//! What tests of several crates share: images made on the spot, a source registry that misbehaves on demand, a
//! client that believes nothing it is sent, waiting for a condition, and what is logged meanwhile.
//!
//! Never shipped: crates name it under `dev-dependencies` alone. Being for tests, it panics where a test would.

mod fake_registry;
mod image;
mod log;
pub mod pull;
mod wait;

pub use fake_registry::{Auth, Builder, ConnectHang, FakeRegistry, Fault, FaultHandle, On, Route, Seen, Stage, serve};
pub use image::{Image, ImageBuilder, image, random_bytes};
pub use log::Log;
pub use pull::{Pull, PullError, Pulled};
pub use wait::eventually;
