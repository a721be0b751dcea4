//! Which source is next, over the plans of everyone who asked for the blob.

use std::sync::Arc;

use super::FillPlan;
use super::error::FillError;
use super::flight::Flight;
use super::source::{Source, SourceFailure};

/// The plan in use; those of other origins wait in the flight.
pub(super) struct Plans {
    flight: Arc<Flight>,
    current: Option<FillPlan>,
}

impl Plans {
    pub(super) fn of(flight: &Arc<Flight>) -> Self {
        let flight = Arc::clone(flight);
        Self { flight, current: None }
    }

    /// Asks the plan, and when it has no more the plan of the next origin.
    ///
    /// # Errors
    /// What the last plan came to. From then on nobody can join the flight.
    pub(super) fn next(&mut self, mut failure: Option<&SourceFailure>) -> Result<Box<dyn Source>, FillError> {
        let mut error = FillError::NoSource;
        loop {
            if let Some(plan) = &mut self.current {
                if let Some(source) = plan.sources.next(failure) {
                    return Ok(source);
                }
                // The next plan is not told of failures that are not its own.
                error = failure.take().map_or(FillError::NoSource, FillError::from);
                self.flight.failure_of(&plan.origin, error.clone());
            }
            match self.flight.next_plan() {
                Some(plan) => self.current = Some(plan),
                None => return Err(error),
            }
        }
    }

    /// The origin whose plan is in use.
    pub(super) fn origin(self) -> String {
        self.current.map(|plan| plan.origin).unwrap_or_default()
    }
}

impl From<&SourceFailure> for FillError {
    fn from(failure: &SourceFailure) -> Self {
        Self::Source {
            label: failure.label.clone(),
            error: failure.error.clone(),
        }
    }
}
