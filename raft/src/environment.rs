//! Ports [`Clock`] and [`Entropy`]: what consensus takes from the world besides disk and network.

use std::time::{SystemTime, UNIX_EPOCH};

use ring::rand::{SecureRandom, SystemRandom};

/// Tells the time of day.
pub trait Clock: Send + Sync + 'static {
    /// Milliseconds since the Unix epoch. May jump; nothing here measures durations with it.
    fn now_ms(&self) -> u64;
}

/// Draws random numbers for ids that must not repeat.
pub trait Entropy: Send + Sync + 'static {
    /// A number nobody drew before.
    fn draw(&self) -> u128;
}

/// The clock and the random numbers of the operating system.
#[derive(Debug, Clone, Copy, Default)]
pub struct System;

impl Clock for System {
    fn now_ms(&self) -> u64 {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX)
    }
}

impl Entropy for System {
    fn draw(&self) -> u128 {
        let mut bytes = [0; 16];
        SystemRandom::new()
            .fill(&mut bytes)
            .expect("the operating system has random numbers");
        u128::from_be_bytes(bytes)
    }
}
