//! What clients see of real clusters while sources, nodes and disks fail.

#![allow(clippy::unwrap_used, reason = "a test ends where it fails")]

mod crashes;
mod download;
mod fills;
mod world;
