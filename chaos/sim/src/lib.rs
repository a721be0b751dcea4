//! A deterministic simulation: three nodes of the real `raft` and `meta` on simulated disks, network and time.
//!
//! One seed decides everything: latencies, elections, faults, what clients write. A run checks its invariants after
//! every step, ends with all faults healed, and then demands that the nodes agree and that every acknowledged write is
//! there. The same seed gives the same events, so `cargo run -p sim --bin fuzz -- --seed N` replays a failure.

mod disk;
mod faults;
mod invariants;
mod journal;
mod network;
mod node;
mod oracle;
mod workload;
mod world;

pub use disk::Honesty;
pub use world::{Failure, Options, Report, run};
