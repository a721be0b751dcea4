//! What goes wrong, and when.

use std::time::Duration;

use crate::node::{Place, SharedRandom};

/// Longest time between two faults.
const PAUSE_MAX_MS: u64 = 2_500;
/// Longest time a host stays down.
const DOWN_MAX_MS: u64 = 4_000;

/// Chooses faults, at most one per kind of each host at a time.
pub(crate) struct Faults {
    random: SharedRandom,
    next_at: Duration,
    // When the host comes back.
    down_until: Vec<Option<Duration>>,
    parted: Vec<(usize, usize)>,
}

/// One thing to do to the simulation.
#[derive(Debug)]
pub(crate) enum Fault {
    Crash(usize),
    Restart(usize),
    /// No messages either way.
    Part(usize, usize),
    /// No messages from the first to the second.
    PartOneWay(usize, usize),
    Repair(usize, usize),
}

impl Faults {
    pub(crate) fn new(places: &[Place], random: SharedRandom) -> Self {
        Faults {
            random,
            next_at: Duration::ZERO,
            down_until: vec![None; places.len()],
            parted: Vec::new(),
        }
    }

    /// What happens at `now`, in order.
    pub(crate) fn due(&mut self, now: Duration) -> Vec<Fault> {
        let mut due = self.restarts(|until| until <= now);
        if now >= self.next_at {
            self.next_at = now + Duration::from_millis(self.random.below(PAUSE_MAX_MS));
            due.extend(self.choose(now));
        }
        due
    }

    /// Everything that makes the world whole again.
    pub(crate) fn heal(&mut self) -> Vec<Fault> {
        let repairs = std::mem::take(&mut self.parted)
            .into_iter()
            .map(|(a, b)| Fault::Repair(a, b));
        let mut healed: Vec<Fault> = repairs.collect();
        healed.extend(self.restarts(|_| true));
        healed
    }

    fn restarts(&mut self, is_due: impl Fn(Duration) -> bool) -> Vec<Fault> {
        let mut restarts = Vec::new();
        for (host, until) in self.down_until.iter_mut().enumerate() {
            if until.is_some_and(&is_due) {
                *until = None;
                restarts.push(Fault::Restart(host));
            }
        }
        restarts
    }

    fn choose(&mut self, now: Duration) -> Option<Fault> {
        let hosts = self.down_until.len() as u64;
        let host = usize::try_from(self.random.below(hosts)).unwrap_or(0);
        let other = (host + 1 + usize::try_from(self.random.below(hosts - 1)).unwrap_or(0)) % self.down_until.len();
        match self.random.below(6) {
            0..=2 if self.down_until[host].is_none() => {
                let down = Duration::from_millis(self.random.below(DOWN_MAX_MS));
                self.down_until[host] = Some(now + down);
                Some(Fault::Crash(host))
            }
            3 => {
                self.parted.push((host, other));
                Some(Fault::Part(host, other))
            }
            4 => {
                self.parted.push((host, other));
                Some(Fault::PartOneWay(host, other))
            }
            5 => self.parted.pop().map(|(a, b)| Fault::Repair(a, b)),
            _ => None,
        }
    }
}
