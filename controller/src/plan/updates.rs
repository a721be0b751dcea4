//! Checks at the source that a Repository asks for by `updateInterval`.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;
use kube::Resource;
use regex::RegexSet;

use super::{View, is_deleting};
use crate::action::Action;
use crate::crd::Repository;

/// More often would be a burden on sources for nothing: a pull asks by itself.
const INTERVAL_MIN: Duration = Duration::from_secs(30);

pub(super) fn plan(view: &View<'_>) -> Vec<Action> {
    if !view.state.images.is_synced() {
        return Vec::new();
    }
    let due = view
        .state
        .repositories
        .iter()
        .filter(|(_, object)| !is_deleting(*object) && is_due(object, view.now));
    due.map(|(name, object)| Action::Update {
        name: name.clone(),
        images: images(view, object),
    })
    .collect()
}

fn is_due(object: &Repository, now: Timestamp) -> bool {
    let Some(interval) = object.spec.update_interval.as_deref().and_then(parse_duration) else {
        return false;
    };
    let last = object
        .status
        .as_ref()
        .and_then(|status| status.last_update.as_ref())
        .map(|last| last.0);
    let created = object.meta().creation_timestamp.as_ref().map(|created| created.0);
    let since = last.or(created).unwrap_or(now);
    now >= since && now.duration_since(since).unsigned_abs() >= interval.max(INTERVAL_MIN)
}

/// Its images of which the name, as it is written, matches one of the filters; all without filters.
fn images(view: &View<'_>, object: &Repository) -> Vec<String> {
    let filters = &object.spec.update_filters;
    let Ok(set) = RegexSet::new(filters) else {
        return Vec::new();
    };
    let of_it = view
        .objects
        .iter()
        .filter(|(image, _)| image.repository().to_string() == object.spec.name);
    let matching = of_it.filter(|(_, image)| filters.is_empty() || set.is_match(&image.spec.source_image));
    let once: BTreeSet<String> = matching.map(|(image, _)| image.to_string()).collect();
    once.into_iter().collect()
}

/// Go's way to write a duration: `1h30m`, `1.5h`, `90s`. Nothing for one that is not positive or malformed.
pub(crate) fn parse_duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let number_ends = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(number_ends);
        let unit_ends = tail
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_ends);
        let seconds = match unit {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" => 1e-6,
            "ns" => 1e-9,
            _ => return None,
        };
        let part = number.parse::<f64>().ok()? * seconds;
        total = total.checked_add(Duration::try_from_secs_f64(part).ok()?)?;
        rest = tail;
    }
    (!total.is_zero()).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_as_in_go() {
        let table = [
            ("1h", Some(3600)),
            ("1h30m", Some(5400)),
            ("1h0m0s", Some(3600)),
            ("1.5h", Some(5400)),
            ("90s", Some(90)),
            ("0s", None),
            ("", None),
            ("-1h", None),
            ("1d", None),
            ("1", None),
            ("h", None),
        ];
        for (text, expected) in table {
            assert_eq!(parse_duration(text), expected.map(Duration::from_secs), "{text}");
        }
    }
}
