//! Original images, put back where a pod cannot pull through the proxy; and v1's finalizer, taken off pods.

use std::time::Duration;

use proto::v1::ImagePhase;

use super::View;
use crate::action::{Action, Restoration, RestoredImage};
use crate::grant::{GrantKey, GrantResult};
use crate::pod::{PodFacts, PodImage, PodKey, Waiting};

/// A proxy that is just starting or being replaced is waited for; the kubelet tries again by itself after ten seconds.
const PROXY_AWAY: Duration = Duration::from_secs(10);
/// A pod whose containers are being made, and which says nothing else, gets more time.
const PROXY_AWAY_SILENT: Duration = Duration::from_secs(60);
/// A place is told within a second; the kubelet tries again by itself after ten.
const UNPLACED: Duration = Duration::from_secs(10);
/// Pods changed in one go: where all proxies are gone at once, the API server is not to be flooded.
const RESTORED_AT_ONCE_MAX: usize = 20;

pub(super) fn plan(view: &View<'_>) -> Vec<Action> {
    let pods = || view.state.pods.iter();
    let held = pods()
        .filter(|(_, pod)| !pod.finalizers.is_empty())
        .map(|(key, pod)| release(key, pod));
    let mut actions: Vec<Action> = held.take(RESTORED_AT_ONCE_MAX).collect();
    if view.policy.restore && view.state.pods.is_synced() {
        let restored = pods().filter_map(|(key, pod)| restoration(view, key, pod));
        actions.extend(restored.take(RESTORED_AT_ONCE_MAX).map(Action::Restore));
    }
    actions
}

fn release(key: &PodKey, pod: &PodFacts) -> Action {
    Action::ReleasePod {
        pod: key.clone(),
        version: pod.version.clone(),
        kept: pod
            .finalizers
            .iter()
            .filter(|one| *one != crate::crd::FINALIZER_POD_V1)
            .cloned()
            .collect(),
    }
}

fn restoration(view: &View<'_>, key: &PodKey, pod: &PodFacts) -> Option<Restoration> {
    if pod.finished || pod.node.is_empty() {
        return None;
    }
    let waiting = pod.images.iter().filter(|image| image.rewritten);
    let found = waiting.filter_map(|image| Some((RestoredImage::of(image)?, reason(view, key, pod, image)?)));
    let (images, reasons): (Vec<RestoredImage>, Vec<String>) = found.unzip();
    Some(Restoration {
        pod: key.clone(),
        uid: pod.uid.clone(),
        version: pod.version.clone(),
        images,
        before: pod.restored.clone(),
        reason: reasons.into_iter().next()?,
    })
}

/// Why a container that waits for its image should have the original one.
fn reason(view: &View<'_>, key: &PodKey, pod: &PodFacts, image: &PodImage) -> Option<String> {
    let patience = match image.waiting {
        Waiting::No => return None,
        Waiting::PullFailed => PROXY_AWAY,
        Waiting::Creating => PROXY_AWAY_SILENT,
    };
    let away = view.state.proxies.without_since(&pod.node);
    if away.is_some_and(|since| view.now.duration_since(since).unsigned_abs() >= patience) {
        return Some(format!("no proxy is ready on node {}", pod.node));
    }
    if image.waiting != Waiting::PullFailed {
        return None;
    }
    if let Some(error) = failure(view, image) {
        return Some(format!("the cache cannot fetch {}: {error}", image.original));
    }
    if is_refused(view, key, image) {
        let namespace = &key.namespace;
        let original = &image.original;
        return Some(format!(
            "namespace {namespace} has no grant for the private image {original}"
        ));
    }
    is_unplaced(view, key, pod, image).then(|| {
        format!(
            "the cache cannot be told that node {} runs the private image {}",
            pod.node, image.original
        )
    })
}

/// Why the tier has nothing of an image, where it has tried. The direct pull may do better, and can do no worse.
fn failure<'view>(view: &'view View<'_>, image: &PodImage) -> Option<&'view str> {
    let state = view.state.tier.get(image.image.as_ref()?)?;
    (state.phase() == ImagePhase::Failed && state.digest.is_empty()).then_some(state.error.as_str())
}

fn is_refused(view: &View<'_>, key: &PodKey, image: &PodImage) -> bool {
    let Some(image) = &image.image else { return false };
    let private = view.state.tier.get(image).is_some_and(|state| state.private);
    let grant = view
        .state
        .grants
        .get(&GrantKey::new(&key.namespace, image.repository()));
    let asked_in_vain = grant.is_some_and(|grant| matches!(grant.result, GrantResult::NoSecret | GrantResult::Refused));
    private && asked_in_vain
}

/// Whether the node is refused what the namespace was granted, because the tier takes no places.
fn is_unplaced(view: &View<'_>, key: &PodKey, pod: &PodFacts, image: &PodImage) -> bool {
    let Some(image) = &image.image else { return false };
    let grant = GrantKey::new(&key.namespace, image.repository());
    let waits = view.state.placing.waits_since();
    view.state.grants.is_granted(&grant)
        && !view.state.told.is_placed(&pod.node, &grant.repository)
        && waits.is_some_and(|since| view.now.duration_since(since).unsigned_abs() >= UNPLACED)
}
