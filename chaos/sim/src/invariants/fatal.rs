//! No node gives up: nothing that is simulated here is a reason to.

use super::Violation;
use crate::node::Place;

pub(super) fn nobody_gave_up(places: &[Place]) -> Result<(), Violation> {
    for place in places {
        if let Some(reason) = place.fatal.reasons().first() {
            return Err(format!("{} gave up: {reason}", place.name));
        }
    }
    Ok(())
}
