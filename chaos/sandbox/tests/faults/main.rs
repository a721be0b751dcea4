//! What clients see of real clusters while sources, nodes and disks fail.

#![allow(clippy::unwrap_used, reason = "a test ends where it fails")]

mod bad_input;
mod cached;
mod cold;
mod crashes;
mod download;
mod fills;
mod raw_source;
mod stored;
mod tags;
mod world;
