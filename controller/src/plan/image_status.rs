//! The status of a CachedImage: what the tier says of the image, who uses it, when it expires.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{Resource, ResourceExt};
use proto::v1::{ImagePhase, ImageState};

use super::condition::{Finding, condition};
use super::expiry::Expiry;
use super::{View, is_deleting};
use crate::action::{Action, Notice};
use crate::crd::{CachedImage, CachedImageStatus, PodName, UsedBy, WorkloadName};
use crate::image::Image;
use crate::usage::Use;

/// A status in which only times moved is written this often at most: every pull may move them.
const TIMES_INTERVAL: Duration = Duration::from_secs(10 * 60);

pub(super) fn plan(view: &View<'_>) -> Vec<Action> {
    let readable = view
        .objects
        .iter()
        .filter_map(|(image, object)| one(view, image, object));
    let unreadable = view
        .objects
        .unreadable
        .iter()
        .filter_map(|object| unreadable(view, object));
    readable.chain(unreadable).collect()
}

fn one(view: &View<'_>, image: &Image, object: &CachedImage) -> Option<Action> {
    let before = object.status.clone().unwrap_or_default();
    let mut after = before.clone();
    if view.state.pods.is_synced() {
        after.used_by = Some(used_by(view.usage.get(image)));
    }
    if let Some(expiry) = Expiry::of(view, image, object) {
        after.unused_since = expiry.unused_since.map(Time);
        after.expires_at = expiry.at.map(Time);
    }
    if view.state.tier.is_synced() {
        match view.state.tier.get(image) {
            Some(state) => told(state, &mut after),
            None => not_known(&mut after),
        }
        let findings = findings(image, view.state.tier.get(image), &after);
        after.conditions = conditions(findings, &before, object, view.now);
    }
    after.is_cached.get_or_insert(false);
    let heard = view.state.tier.is_synced();
    if heard || is_deleting(object) || after.phase.is_none() {
        after.phase = Some(phase(object, view.state.tier.get(image)).to_owned());
    }
    worth_writing(&before, &after).then(|| Action::ImageStatus {
        name: object.name_any(),
        uid: object.uid().unwrap_or_default(),
        notices: notices(image, &before, &after, view.state.tier.get(image)),
        status: Box::new(after),
    })
}

fn unreadable(view: &View<'_>, object: &CachedImage) -> Option<Action> {
    let before = object.status.clone().unwrap_or_default();
    let ready = Finding {
        kind: "Ready",
        holds: Some(false),
        reason: "InvalidImage",
        message: format!(
            "{:?} names no image; correct spec.sourceImage",
            object.spec.source_image
        ),
    };
    let after = CachedImageStatus {
        phase: Some("ErrImagePull".to_owned()),
        is_cached: Some(false),
        used_by: Some(UsedBy::default()),
        conditions: conditions(vec![ready], &before, object, view.now),
        ..CachedImageStatus::default()
    };
    (before != after).then(|| Action::ImageStatus {
        name: object.name_any(),
        uid: object.uid().unwrap_or_default(),
        status: Box::new(after),
        notices: Vec::new(),
    })
}

fn used_by(used: Option<&Use>) -> UsedBy {
    let Some(used) = used else { return UsedBy::default() };
    let pods = used.pods.iter().map(|pod| PodName {
        namespaced_name: pod.to_string(),
    });
    let workloads = used.workloads.iter().map(|workload| WorkloadName {
        kind: workload.kind.as_str().to_owned(),
        namespaced_name: format!("{}/{}", workload.namespace, workload.name),
    });
    UsedBy {
        pods: pods.collect(),
        workloads: workloads.collect(),
        count: i64::try_from(used.count).unwrap_or(i64::MAX),
    }
}

fn told(state: &ImageState, status: &mut CachedImageStatus) {
    status.is_cached = Some(is_cached(state));
    status.digest = hexadecimal(&state.digest);
    status.upstream_digest = hexadecimal(&state.source_digest);
    let both = status.digest.as_ref().zip(status.upstream_digest.as_ref());
    status.up_to_date = both.map(|(served, source)| served == source);
    status.available_upstream = (state.checked_at_ms > 0).then_some(!state.stale);
    status.last_sync = time(state.checked_at_ms);
    status.last_seen_upstream = time(state.seen_at_source_ms);
    status.last_successful_pull = time(state.completed_at_ms);
    status.copies = (state.copies_wanted > 0).then(|| format!("{}/{}", state.copies, state.copies_wanted));
}

/// The tier holds nothing of it: v1 went on saying that it did (defect 6).
fn not_known(status: &mut CachedImageStatus) {
    status.is_cached = Some(false);
    status.digest = None;
    status.up_to_date = None;
    status.copies = None;
}

fn is_cached(state: &ImageState) -> bool {
    matches!(state.phase(), ImagePhase::Complete | ImagePhase::Ready)
}

fn phase(object: &CachedImage, state: Option<&ImageState>) -> &'static str {
    if is_deleting(object) {
        return "Terminating";
    }
    match state.map(ImageState::phase) {
        None | Some(ImagePhase::Unspecified | ImagePhase::Known | ImagePhase::Complete) => "Synchronizing",
        Some(ImagePhase::Filling | ImagePhase::Lost) => "Pulling",
        Some(ImagePhase::Ready) => "Ready",
        Some(ImagePhase::Failed) => "ErrImagePull",
    }
}

fn findings(image: &Image, state: Option<&ImageState>, status: &CachedImageStatus) -> Vec<Finding> {
    let (ready, cached) = match state {
        None => (
            ("Synchronizing", format!("{image} is being told to the cache")),
            "NotCached",
        ),
        Some(state) => (
            ready_reason(state),
            if is_cached(state) { "Cached" } else { "NotCached" },
        ),
    };
    let finding = |kind, holds, reason, message| Finding {
        kind,
        holds,
        reason,
        message,
    };
    let is_ready = state.is_some_and(|state| state.phase() == ImagePhase::Ready);
    let is_cached = status.is_cached.unwrap_or_default();
    let served = status
        .digest
        .as_deref()
        .map_or(String::new(), |digest| format!("sha256:{digest} is served"));
    vec![
        finding("Ready", Some(is_ready), ready.0, ready.1),
        finding("Cached", Some(is_cached), cached, served),
        up_to_date(status, state),
    ]
}

fn ready_reason(state: &ImageState) -> (&'static str, String) {
    let copies = format!("{} of {} copies", state.copies, state.copies_wanted);
    match state.phase() {
        ImagePhase::Unspecified | ImagePhase::Known => ("Synchronizing", "waiting to be pulled".to_owned()),
        ImagePhase::Filling => ("Pulling", "being pulled".to_owned()),
        ImagePhase::Complete => ("Copying", copies),
        ImagePhase::Ready => ("Ready", copies),
        ImagePhase::Lost => ("Lost", "parts of it were lost and are pulled again".to_owned()),
        ImagePhase::Failed => ("ErrImagePull", one_line(&state.error)),
    }
}

fn up_to_date(status: &CachedImageStatus, state: Option<&ImageState>) -> Finding {
    let stale = state.is_some_and(|state| state.stale);
    let (holds, reason, message) = match (status.up_to_date, stale) {
        (_, true) => (
            None,
            "SourceUnavailable",
            one_line(state.map_or("", |state| &state.error)),
        ),
        (Some(true), false) => (Some(true), "UpToDate", String::new()),
        (Some(false), false) => (
            Some(false),
            "Outdated",
            "the source has another digest, which is being pulled".to_owned(),
        ),
        (None, false) => (None, "NotChecked", String::new()),
    };
    Finding {
        kind: "UpToDate",
        holds,
        reason,
        message,
    }
}

fn conditions(
    findings: Vec<Finding>,
    before: &CachedImageStatus,
    object: &CachedImage,
    now: Timestamp,
) -> Vec<Condition> {
    let generation = object.meta().generation;
    let made = findings
        .into_iter()
        .map(|finding| condition(finding, &before.conditions, generation, now));
    made.collect()
}

fn notices(
    image: &Image,
    before: &CachedImageStatus,
    after: &CachedImageStatus,
    state: Option<&ImageState>,
) -> Vec<Notice> {
    let mut notices = Vec::new();
    let phase = after.phase.as_deref().filter(|_| before.phase != after.phase);
    let error = state.map(|state| one_line(&state.error)).unwrap_or_default();
    match phase {
        Some("Pulling") => notices.push(Notice::normal("Caching", format!("pulling {image} into the cache"))),
        Some("ErrImagePull") => notices.push(Notice::warning(
            "CacheFailed",
            format!("{image} cannot be pulled: {error}"),
        )),
        _ => {}
    }
    if after.is_cached == Some(true) && before.is_cached != Some(true) {
        notices.push(Notice::normal("Cached", format!("{image} is in the cache")));
    }
    if after.is_cached == Some(false) && before.is_cached == Some(true) {
        notices.push(Notice::warning(
            "Lost",
            format!("{image} is no longer in the cache and is pulled again"),
        ));
    }
    if let Some(expires) = after.expires_at.as_ref().filter(|_| before.expires_at.is_none()) {
        let text = format!("nothing uses {image}; it is kept until {}", expires.0);
        notices.push(Notice::normal("Expiring", text));
    }
    notices.extend(serving(image, before, after, &error));
    notices
}

/// Says which digest is served for a tag, when that or its being stale changes.
fn serving(image: &Image, before: &CachedImageStatus, after: &CachedImageStatus, error: &str) -> Option<Notice> {
    let digest = after.digest.as_ref()?;
    let stale = after.available_upstream == Some(false);
    let was_stale = before.available_upstream == Some(false);
    if before.digest == after.digest && stale == was_stale {
        return None;
    }
    Some(if stale {
        let why = if error.is_empty() {
            "its source cannot be asked"
        } else {
            error
        };
        Notice::warning(
            "ServingStale",
            format!("{image} serves sha256:{digest}, which may be stale: {why}"),
        )
    } else {
        Notice::normal("Serving", format!("{image} serves sha256:{digest}"))
    })
}

fn worth_writing(before: &CachedImageStatus, after: &CachedImageStatus) -> bool {
    let without_times = |status: &CachedImageStatus| CachedImageStatus {
        last_sync: None,
        last_seen_upstream: None,
        ..status.clone()
    };
    if without_times(before) != without_times(after) {
        return true;
    }
    let moved = |before: &Option<Time>, after: &Option<Time>| match (before, after) {
        (Some(before), Some(after)) => after.0.duration_since(before.0).unsigned_abs() >= TIMES_INTERVAL,
        (before, after) => before.is_some() != after.is_some(),
    };
    moved(&before.last_sync, &after.last_sync) || moved(&before.last_seen_upstream, &after.last_seen_upstream)
}

fn hexadecimal(digest: &str) -> Option<String> {
    let hexadecimal = digest.split_once(':').map_or(digest, |(_, hexadecimal)| hexadecimal);
    (!hexadecimal.is_empty()).then(|| hexadecimal.to_owned())
}

/// Whole seconds, as Kubernetes keeps times.
fn time(milliseconds: u64) -> Option<Time> {
    let seconds = i64::try_from(milliseconds / 1000).ok().filter(|seconds| *seconds > 0)?;
    Timestamp::from_second(seconds).ok().map(Time)
}

/// Longest message from a source that is passed on.
fn one_line(text: &str) -> String {
    const CHARS_MAX: usize = 300;
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(CHARS_MAX)
        .collect()
}
