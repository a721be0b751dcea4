//! What the controller counts; names are kube-image-keeper v1's where it had them.

use std::collections::BTreeMap;

use jiff::Timestamp;
use metrics::{counter, gauge};

use crate::action::Notice;
use crate::image::Image;
use crate::state::State;

const CERTIFICATE_END: &str = "kube_image_keeper_controller_certificate_not_after_timestamp";
const CACHED_IMAGES: &str = "kube_image_keeper_controller_cached_images";
const REPOSITORIES: &str = "kube_image_keeper_controller_repositories";
const ACTIONS_FAILED: &str = "kube_image_keeper_controller_actions_failed_total";
const CONTAINERS: &str = "kube_image_keeper_controller_containers_with_cached_image";
const CACHING_REQUEST: &str = "kube_image_keeper_controller_image_caching_request";
const PUT_IN_CACHE: &str = "kube_image_keeper_controller_image_put_in_cache_total";
const REMOVED_FROM_CACHE: &str = "kube_image_keeper_controller_image_removed_from_cache_total";
const UNTOLD: &str = "kube_image_keeper_controller_events_left_out_total";
const RESTORED: &str = "kube_image_keeper_controller_pods_restored_total";
const IS_LEADER: &str = "kube_image_keeper_controller_is_leader";
const UP: &str = "kube_image_keeper_controller_up";
const BUILD_INFO: &str = "kube_image_keeper_controller_build_info";

/// Says that the program runs, and which.
pub(crate) fn started() {
    gauge!(UP).set(1.0);
    gauge!(BUILD_INFO, "version" => env!("CARGO_PKG_VERSION")).set(1.0);
    gauge!(IS_LEADER).set(0.0);
    // A rate of something that never happened is 0, not absent.
    counter!(PUT_IN_CACHE).absolute(0);
    counter!(REMOVED_FROM_CACHE).absolute(0);
    counter!(RESTORED).absolute(0);
    counter!(ACTIONS_FAILED).absolute(0);
    counter!(UNTOLD).absolute(0);
}

/// Says whether this program leads.
pub(crate) fn leads(leads: bool) {
    gauge!(IS_LEADER).set(f64::from(u8::from(leads)));
}

/// Says when the certificate in a Secret ends, for an alert.
pub(crate) fn certificate_end(secret: &str, end: Option<Timestamp>) {
    // Seconds since 1970 are exact in a double for the next hundred million years.
    #[expect(clippy::cast_precision_loss)]
    let seconds = end.map_or(0.0, |end| end.as_second() as f64);
    gauge!(CERTIFICATE_END, "secret" => secret.to_owned()).set(seconds);
}

/// Counts news that were left out, as too many waited to be told.
pub(crate) fn untold() {
    counter!(UNTOLD).increment(1);
}

/// Counts an action that failed and is tried again.
pub(crate) fn action_failed() {
    counter!(ACTIONS_FAILED).increment(1);
}

/// Counts images that came into the cache or failed to, as the change of a status tells.
pub(crate) fn told(notices: &[Notice], source_image: &str) {
    let host = Image::parse(source_image)
        .map(|image| image.repository().host.to_string())
        .unwrap_or_default();
    for notice in notices {
        match notice.reason {
            "Cached" => {
                counter!(PUT_IN_CACHE).increment(1);
                counter!(CACHING_REQUEST, "successful" => "true", "upstream_registry" => host.clone()).increment(1);
            }
            "CacheFailed" => {
                counter!(CACHING_REQUEST, "successful" => "false", "upstream_registry" => host.clone()).increment(1);
            }
            _ => {}
        }
    }
}

/// Counts an image that expired.
pub(crate) fn removed() {
    counter!(REMOVED_FROM_CACHE).increment(1);
}

/// Counts a pod that got its original images back.
pub(crate) fn restored() {
    counter!(RESTORED).increment(1);
}

/// Phases a gauge is kept for, so that one which empties reads 0.
const PHASES: [&str; 5] = ["Synchronizing", "Pulling", "ErrImagePull", "Ready", "Terminating"];

/// Says how many objects there are, by what they say of themselves.
pub(crate) fn state(state: &State) {
    let mut images: BTreeMap<(&str, bool, bool), u32> = BTreeMap::new();
    for (_, object) in state.images.iter() {
        let Some(status) = &object.status else { continue };
        let phase = known_phase(status.phase.as_deref());
        let key = (phase, status.is_cached.unwrap_or_default(), status.expires_at.is_some());
        *images.entry(key).or_default() += 1;
    }
    for phase in PHASES {
        for (cached, expiring) in [(false, false), (false, true), (true, false), (true, true)] {
            let count = images.get(&(phase, cached, expiring)).copied().unwrap_or(0);
            let labels = [
                ("status", phase.to_owned()),
                ("cached", cached.to_string()),
                ("expiring", expiring.to_string()),
            ];
            gauge!(CACHED_IMAGES, &labels).set(count);
        }
    }
    containers(state);
    let mut repositories: BTreeMap<&str, u32> = BTreeMap::new();
    for (_, object) in state.repositories.iter() {
        let phase = object.status.as_ref().and_then(|status| status.phase.as_deref());
        *repositories.entry(known_phase(phase)).or_default() += 1;
    }
    for phase in PHASES {
        gauge!(REPOSITORIES, "status" => phase).set(repositories.get(phase).copied().unwrap_or(0));
    }
}

/// Containers by what the object for their image says; those without an object have none.
fn containers(state: &State) {
    let mut known: BTreeMap<Image, (&str, bool)> = BTreeMap::new();
    for (_, object) in state.images.iter() {
        if let (Ok(image), Some(status)) = (Image::parse(&object.spec.source_image), &object.status) {
            known.insert(
                image,
                (
                    known_phase(status.phase.as_deref()),
                    status.is_cached.unwrap_or_default(),
                ),
            );
        }
    }
    let mut counts: BTreeMap<(&str, bool), u32> = BTreeMap::new();
    let living = state.pods.iter().filter(|(_, pod)| !pod.finished);
    for image in living
        .flat_map(|(_, pod)| &pod.images)
        .filter_map(|named| named.image.as_ref())
    {
        if let Some(key) = known.get(image) {
            *counts.entry(*key).or_default() += 1;
        }
    }
    for phase in PHASES {
        for cached in [false, true] {
            let count = counts.get(&(phase, cached)).copied().unwrap_or(0);
            gauge!(CONTAINERS, "status" => phase, "cached" => cached.to_string()).set(count);
        }
    }
}

fn known_phase(phase: Option<&str>) -> &'static str {
    PHASES
        .into_iter()
        .find(|known| Some(*known) == phase)
        .unwrap_or("Synchronizing")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of the line of a metric, the names of its labels.
    fn labels(text: &str, name: &str) -> Option<Vec<String>> {
        let line = text
            .lines()
            .find(|line| line.starts_with(&format!("{name} ")) || line.starts_with(&format!("{name}{{")))?;
        let inside = line.split_once('{').and_then(|(_, rest)| rest.split_once('}'));
        let pairs = inside.map(|(inside, _)| inside.split(',')).into_iter().flatten();
        Some(
            pairs
                .filter_map(|pair| Some(pair.split_once('=')?.0.to_owned()))
                .collect(),
        )
    }

    #[test]
    fn dashboards_of_v1_find_their_metrics() {
        let metrics = daemon::telemetry::Metrics::install().unwrap();
        started();
        leads(true);
        state(&State::default());
        told(
            &[Notice::normal("Cached", ""), Notice::warning("CacheFailed", "")],
            "nginx",
        );
        removed();
        let text = metrics.render();
        // Names and labels of v1's docs/metrics.md; the labels of the build are fewer, as nothing here is made of Go.
        let v1: [(&str, &[&str]); 9] = [
            ("build_info", &["version"]),
            ("up", &[]),
            ("is_leader", &[]),
            ("cached_images", &["status", "cached", "expiring"]),
            ("containers_with_cached_image", &["status", "cached"]),
            ("repositories", &["status"]),
            ("image_caching_request", &["successful", "upstream_registry"]),
            ("image_put_in_cache_total", &[]),
            ("image_removed_from_cache_total", &[]),
        ];
        for (name, expected) in v1 {
            let found = labels(&text, &format!("kube_image_keeper_controller_{name}"));
            let found = found.unwrap_or_else(|| panic!("no {name} in {text}"));
            assert_eq!(found, expected, "{name}");
        }
        for told in ["true", "false"] {
            let line = format!("{CACHING_REQUEST}{{successful=\"{told}\",upstream_registry=\"docker.io\"}} 1");
            assert!(text.contains(&line), "{line}: {text}");
        }
    }
}
