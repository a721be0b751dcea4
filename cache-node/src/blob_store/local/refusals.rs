//! What was not kept for want of room, remembered so that it can be said: a blob larger than all the room there is leaves
//! that room free, and the volume looks well.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How long a refusal is spoken of; whoever still wants the blob is refused again within that.
const REMEMBERED: Duration = Duration::from_hours(1);

/// The largest write that was refused of late.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    last: Mutex<Option<Refusal>>,
}

#[derive(Clone, Copy, Debug)]
struct Refusal {
    bytes: u64,
    at: Instant,
}

impl Refusal {
    fn is_of_late(self, now: Instant) -> bool {
        now.saturating_duration_since(self.at) < REMEMBERED
    }
}

impl Refusals {
    /// Notes that `bytes` were refused.
    pub(super) fn note(&self, bytes: u64, now: Instant) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_none_or(|last| last.bytes <= bytes || !last.is_of_late(now)) {
            *last = Some(Refusal { bytes, at: now });
        }
    }

    /// What was refused of late and would be again, as it is larger than `free_bytes`.
    pub(super) fn larger_than(&self, free_bytes: u64, now: Instant) -> Option<u64> {
        let last = *self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.filter(|last| last.bytes > free_bytes && last.is_of_late(now))
            .map(|last| last.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_of_late_is_told_until_it_would_fit() {
        let start = Instant::now();
        let after = |minutes: u64| start + Duration::from_mins(minutes);
        let refusals = Refusals::default();
        assert_eq!(refusals.larger_than(0, start), None);
        refusals.note(300, start);
        refusals.note(200, after(1));
        for (free, minutes, expected) in [
            (100, 2, Some(300)),
            (299, 59, Some(300)),
            (300, 2, None),
            (100, 60, None),
        ] {
            assert_eq!(
                refusals.larger_than(free, after(minutes)),
                expected,
                "{free} free after {minutes}"
            );
        }
        refusals.note(200, after(70));
        assert_eq!(refusals.larger_than(100, after(71)), Some(200));
    }
}
