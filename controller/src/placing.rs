//! How it goes with places that the tier is to be told of: while it takes none, no private image may be admitted.

use jiff::Timestamp;

/// Whether the tier takes places.
#[derive(Debug, Default)]
pub(crate) struct Placing {
    /// Since when there are some, of which it has confirmed nothing.
    waits_since: Option<Timestamp>,
    /// Whether it was told last in vain.
    is_failing: bool,
}

impl Placing {
    /// Notes whether a plan has places to tell of.
    pub(crate) fn plan(&mut self, has_places: bool, now: Timestamp) {
        match has_places {
            true => _ = self.waits_since.get_or_insert(now),
            false => *self = Self::default(),
        }
    }

    /// Notes whether the tier has confirmed what it was told.
    pub(crate) fn settle(&mut self, is_confirmed: bool) {
        match is_confirmed {
            true => *self = Self::default(),
            false => self.is_failing = true,
        }
    }

    /// Whether pods would be sent to nodes that are served nothing private.
    pub(crate) fn is_failing(&self) -> bool {
        self.is_failing
    }

    /// Since when places wait, if they do.
    pub(crate) fn waits_since(&self) -> Option<Timestamp> {
        self.waits_since
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn places_wait_until_the_tier_has_confirmed_some_or_there_are_none() {
        let now = Timestamp::UNIX_EPOCH;
        let later = now + Duration::from_secs(5);
        let mut placing = Placing::default();
        placing.plan(true, now);
        placing.settle(false);
        placing.plan(true, later);
        assert!(placing.is_failing() && placing.waits_since() == Some(now));
        placing.settle(true);
        assert!(!placing.is_failing() && placing.waits_since().is_none());
        placing.plan(true, later);
        placing.settle(false);
        placing.plan(false, later);
        assert!(!placing.is_failing() && placing.waits_since().is_none());
    }
}
