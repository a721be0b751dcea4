//! Conditions: when their state changed is remembered, and nothing else changes that time.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// What a condition says now.
pub(super) struct Finding {
    pub(super) kind: &'static str,
    /// Absent where it cannot be told.
    pub(super) holds: Option<bool>,
    pub(super) reason: &'static str,
    pub(super) message: String,
}

/// The condition for a finding, given those that were reported before.
pub(super) fn condition(finding: Finding, before: &[Condition], generation: Option<i64>, now: Timestamp) -> Condition {
    let status = match finding.holds {
        Some(true) => "True",
        Some(false) => "False",
        None => "Unknown",
    };
    let same = before
        .iter()
        .find(|one| one.type_ == finding.kind && one.status == status);
    let since = same.map_or(Time(now), |same| same.last_transition_time.clone());
    Condition {
        type_: finding.kind.to_owned(),
        status: status.to_owned(),
        reason: finding.reason.to_owned(),
        message: finding.message,
        last_transition_time: since,
        observed_generation: generation,
    }
}
