//! Which source registries are down, so that a dead one costs its deadline once and not once per request.
//!
//! Pure: time comes in as an argument. A source that failed is down until a probe succeeds; probes happen only while
//! someone asks, so an idle cache makes no traffic.

use std::collections::HashMap;
use std::time::Duration;

use oci::SourceHost;
use tokio::time::Instant;

/// First pause before a source that failed is probed.
const PROBE_AFTER_MIN: Duration = Duration::from_secs(1);
/// Longest pause between probes of a source that stays down.
const PROBE_AFTER_MAX: Duration = Duration::from_secs(30);
/// A host that is due for a probe for this long is asked for by nobody.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(600);
/// Hosts remembered. Beyond it the failure of a new host is not remembered, which costs only its deadline again.
const HOSTS_MAX: usize = 1024;

/// What is known of a source at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// Not known to be down: ask it.
    Up,
    /// Down: do not wait for it.
    Down,
    /// Down, and the caller is the one to probe it now, besides not waiting for it.
    ProbeDue,
}

/// The sources that are down.
#[derive(Debug, Default)]
pub struct SourceHealth {
    down: HashMap<SourceHost, Outage>,
}

#[derive(Debug, Clone, Copy)]
struct Outage {
    probe_at: Instant,
    pause: Duration,
}

impl SourceHealth {
    /// Says whether to wait for `host`. Of all who ask while a probe is due, one is told to make it.
    pub fn check(&mut self, host: &SourceHost, now: Instant) -> Health {
        let Some(outage) = self.down.get_mut(host) else {
            return Health::Up;
        };
        if now < outage.probe_at {
            return Health::Down;
        }
        outage.pause = (outage.pause * 2).min(PROBE_AFTER_MAX);
        outage.probe_at = now + outage.pause;
        Health::ProbeDue
    }

    /// Says whether `host` is down, for one who will not probe it.
    pub fn is_down(&self, host: &SourceHost) -> bool {
        self.down.contains_key(host)
    }

    /// Records that `host` did not answer, or answered that it cannot serve. Of a host that is down already this is no
    /// news: only the time of its next probe counts, so that one who asks all the time does not put that off for ever.
    pub fn failed(&mut self, host: &SourceHost, now: Instant) {
        if self.down.contains_key(host) {
            return;
        }
        if self.down.len() >= HOSTS_MAX {
            // Hosts that were long down and that nobody asks for any more make room.
            self.down.retain(|_, outage| now < outage.probe_at + FORGOTTEN_AFTER);
        }
        if self.down.len() < HOSTS_MAX {
            let outage = Outage {
                probe_at: now + PROBE_AFTER_MIN,
                pause: PROBE_AFTER_MIN,
            };
            self.down.insert(host.clone(), outage);
        }
    }

    /// Records that `host` answered.
    pub fn answered(&mut self, host: &SourceHost) {
        self.down.remove(host);
    }

    /// The hosts that are down now.
    pub fn down(&self) -> impl Iterator<Item = &SourceHost> {
        self.down.keys()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host() -> SourceHost {
        "registry.example".parse().unwrap()
    }

    #[test]
    fn a_source_is_up_until_it_fails_and_again_once_it_answers() {
        let (mut health, now) = (SourceHealth::default(), Instant::now());
        assert_eq!(health.check(&host(), now), Health::Up);
        health.failed(&host(), now);
        assert_eq!(health.check(&host(), now), Health::Down);
        health.answered(&host());
        assert_eq!(health.check(&host(), now), Health::Up);
    }

    #[test]
    fn one_caller_at_a_time_is_told_to_probe() {
        let (mut health, now) = (SourceHealth::default(), Instant::now());
        health.failed(&host(), now);
        let due = now + PROBE_AFTER_MIN;
        assert_eq!(health.check(&host(), due), Health::ProbeDue);
        assert_eq!(health.check(&host(), due), Health::Down);
    }

    #[test]
    fn probes_of_a_dead_source_become_rarer_up_to_a_bound() {
        let (mut health, mut now) = (SourceHealth::default(), Instant::now());
        health.failed(&host(), now);
        for _ in 0..20 {
            now += PROBE_AFTER_MAX;
            assert_eq!(health.check(&host(), now), Health::ProbeDue);
            health.failed(&host(), now);
        }
        assert_eq!(health.check(&host(), now + PROBE_AFTER_MAX), Health::ProbeDue);
    }

    #[test]
    fn failures_of_a_dead_source_do_not_put_off_its_probe() {
        let (mut health, now) = (SourceHealth::default(), Instant::now());
        health.failed(&host(), now);
        for _ in 0..100 {
            health.failed(&host(), now + PROBE_AFTER_MIN / 2);
        }
        assert_eq!(health.check(&host(), now + PROBE_AFTER_MIN), Health::ProbeDue);
    }

    #[test]
    fn hosts_nobody_asks_for_any_more_make_room() {
        let (mut health, now) = (SourceHealth::default(), Instant::now());
        for n in 0..HOSTS_MAX {
            health.failed(&format!("h{n}.example").parse().unwrap(), now);
        }
        health.failed(&host(), now + 2 * FORGOTTEN_AFTER);
        assert!(health.is_down(&host()));
    }

    #[test]
    fn remembered_hosts_are_bounded() {
        let (mut health, now) = (SourceHealth::default(), Instant::now());
        for n in 0..HOSTS_MAX + 10 {
            health.failed(&format!("h{n}.example").parse().unwrap(), now);
        }
        assert_eq!(health.down().count(), HOSTS_MAX);
    }
}
