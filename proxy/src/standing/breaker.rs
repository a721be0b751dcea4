//! A circuit breaker as a pure state machine: callers bring the time and the outcomes.
//!
//! Guarantees that a source that stopped answering costs its deadline once and not once per request: after a
//! [`Fault::Dead`] it opens at once, and only a probe that was answered (or a request that was) closes it again.
//! Probes are spaced by a pause that doubles up to [`PAUSE_MAX`]. Who probes, and how, is left to the caller.

use std::time::Duration;

use tokio::time::Instant;

/// The first pause between opening and the first probe: a node that restarts is back in about a second.
pub(crate) const PAUSE_MIN: Duration = Duration::from_millis(500);
/// The longest pause between probes: a node that was away for hours is used again this soon after it is back.
pub(crate) const PAUSE_MAX: Duration = Duration::from_secs(8);
/// Refusals in a row after which a source that does answer is left alone for a pause; fewer are everyday noise.
pub(crate) const REFUSALS_MAX: u32 = 3;

/// What a failed attempt says about the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// No connection, no answer, or a connection that broke: the next attempt would cost its deadline again.
    Dead,
    /// It answered at once that it cannot; cheap, so it takes [`REFUSALS_MAX`] in a row to open.
    Refusing,
}

/// Whether a source should be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BreakerState {
    /// Ask it.
    Closed,
    /// Ask it only when nothing else is left.
    Open,
    /// As open, while one probe is under way.
    HalfOpen,
}

/// One source's breaker.
#[derive(Debug, Clone)]
pub(crate) struct Breaker {
    state: BreakerState,
    refusals: u32,
    pause: Duration,
    probe_at: Option<Instant>,
}

impl Default for Breaker {
    fn default() -> Self {
        Self {
            state: BreakerState::Closed,
            refusals: 0,
            pause: PAUSE_MIN,
            probe_at: None,
        }
    }
}

impl Breaker {
    /// Whether the source should be asked like any other.
    pub(crate) fn is_closed(&self) -> bool {
        self.state == BreakerState::Closed
    }

    /// Lets one request per pause through an open breaker, for sources that are not probed otherwise.
    ///
    /// That request may be dropped without a report: the next pause lets another through.
    pub(crate) fn admit_one(&mut self, now: Instant) -> bool {
        let due = self.probe_at.is_some_and(|at| at <= now);
        if due {
            self.probe_failed(now);
        }
        due
    }

    /// When the next probe is due; `None` while closed or while a probe is under way.
    pub(crate) fn probe_at(&self) -> Option<Instant> {
        self.probe_at
    }

    /// Records that the source answered, to a request or to a probe.
    pub(crate) fn succeeded(&mut self) {
        *self = Self::default();
    }

    /// Records a failed request.
    pub(crate) fn failed(&mut self, fault: Fault, now: Instant) {
        match (self.state, fault) {
            (BreakerState::Closed, Fault::Dead) => self.open(now),
            (BreakerState::Closed, Fault::Refusing) => {
                self.refusals += 1;
                if self.refusals >= REFUSALS_MAX {
                    self.open(now);
                }
            }
            // A request sent as a last resort says nothing that the opening did not.
            (BreakerState::Open | BreakerState::HalfOpen, _) => {}
        }
    }

    /// Takes the probe if one is due: at most one caller per pause is told `true`.
    ///
    /// Who is told so must report [`Breaker::succeeded`] or [`Breaker::probe_failed`].
    pub(crate) fn take_probe(&mut self, now: Instant) -> bool {
        let due = self.probe_at.is_some_and(|at| at <= now);
        if due {
            self.state = BreakerState::HalfOpen;
            self.probe_at = None;
        }
        due
    }

    /// Records that a probe was not answered: open again, for twice as long.
    pub(crate) fn probe_failed(&mut self, now: Instant) {
        self.pause = (self.pause * 2).min(PAUSE_MAX);
        self.open(now);
    }

    fn open(&mut self, now: Instant) {
        self.state = BreakerState::Open;
        self.probe_at = Some(now + self.pause);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(millis: u64) -> Instant {
        // A fixed origin per test process keeps the arithmetic readable.
        static ORIGIN: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
        *ORIGIN.get_or_init(Instant::now) + Duration::from_millis(millis)
    }

    #[test]
    fn a_dead_source_opens_at_the_first_fault() {
        let mut breaker = Breaker::default();
        breaker.failed(Fault::Dead, at(0));
        assert_eq!(breaker.state, BreakerState::Open);
    }

    #[test]
    fn a_refusing_source_opens_only_after_several_in_a_row() {
        let mut breaker = Breaker::default();
        for _ in 1..REFUSALS_MAX {
            breaker.failed(Fault::Refusing, at(0));
        }
        assert_eq!(breaker.state, BreakerState::Closed);
        breaker.succeeded();
        breaker.failed(Fault::Refusing, at(0));
        assert_eq!(
            breaker.state,
            BreakerState::Closed,
            "a success in between starts the count again"
        );
        for _ in 1..REFUSALS_MAX {
            breaker.failed(Fault::Refusing, at(0));
        }
        assert_eq!(breaker.state, BreakerState::Open);
    }

    #[test]
    fn one_probe_is_given_per_pause_and_its_answer_closes() {
        let mut breaker = Breaker::default();
        breaker.failed(Fault::Dead, at(0));
        assert!(!breaker.take_probe(at(499)));
        assert!(breaker.take_probe(at(500)));
        assert!(!breaker.take_probe(at(60_000)), "a probe is under way");
        assert_eq!(breaker.state, BreakerState::HalfOpen);
        breaker.succeeded();
        assert_eq!(breaker.state, BreakerState::Closed);
        assert_eq!(breaker.probe_at(), None);
    }

    #[test]
    fn unanswered_probes_space_out_up_to_the_maximum() {
        let mut breaker = Breaker::default();
        let mut now = at(0);
        breaker.failed(Fault::Dead, now);
        let mut pauses = Vec::new();
        for _ in 0..6 {
            let next = breaker.probe_at().expect("open");
            pauses.push((next - now).as_millis());
            now = next;
            assert!(breaker.take_probe(now));
            breaker.probe_failed(now);
        }
        assert_eq!(pauses, [500, 1000, 2000, 4000, 8000, 8000]);
    }

    #[derive(Debug, Clone, Copy)]
    enum Event {
        Dead,
        Refusing,
        Succeeded,
        Probe { answered: bool },
    }

    fn event() -> impl Strategy<Value = Event> {
        prop_oneof![
            Just(Event::Dead),
            Just(Event::Refusing),
            Just(Event::Succeeded),
            any::<bool>().prop_map(|answered| Event::Probe { answered }),
        ]
    }

    proptest! {
        #[test]
        fn an_open_breaker_always_has_a_probe_coming(events in prop::collection::vec((event(), 0u64..20_000), 0..60)) {
            let mut breaker = Breaker::default();
            let mut now = at(0);
            for (event, pause) in events {
                now += Duration::from_millis(pause);
                match event {
                    Event::Dead => breaker.failed(Fault::Dead, now),
                    Event::Refusing => breaker.failed(Fault::Refusing, now),
                    Event::Succeeded => breaker.succeeded(),
                    Event::Probe { answered } => if breaker.take_probe(now) {
                        if answered { breaker.succeeded() } else { breaker.probe_failed(now) }
                    },
                }
                match breaker.state {
                    BreakerState::Closed => prop_assert!(breaker.probe_at().is_none()),
                    _ => prop_assert!(breaker.probe_at().is_some_and(|at| at <= now + PAUSE_MAX)),
                }
            }
        }
    }
}
