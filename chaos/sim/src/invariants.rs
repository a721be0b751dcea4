//! What must hold after every step, one property per file.

mod committed;
mod election;
mod fatal;
mod state;

use crate::node::Place;

/// A property that did not hold.
pub(crate) type Violation = String;

/// All properties, with what they remember of the steps before.
#[derive(Default)]
pub(crate) struct Invariants {
    election: election::OneLeaderPerTerm,
    committed: committed::CommittedStays,
    state: state::SameStateAtSameIndex,
}

impl Invariants {
    pub(crate) fn check(&mut self, places: &[Place]) -> Result<(), Violation> {
        fatal::nobody_gave_up(places)?;
        for place in places {
            let Some(handle) = place.handle() else { continue };
            let status = handle.status().borrow().clone();
            self.election.check(&place.name, &status)?;
            self.committed.check(place, &status, places)?;
            self.state.check(&place.name, &handle)?;
        }
        Ok(())
    }

    /// Index of the last entry anyone saw committed.
    pub(crate) fn committed(&self) -> u64 {
        self.committed.last()
    }

    /// Every leader so far, by term.
    pub(crate) fn leaders(&self) -> impl Iterator<Item = (u64, &str)> {
        self.election.leaders()
    }
}
