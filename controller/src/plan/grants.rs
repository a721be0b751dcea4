//! Which namespaces may use which repositories: asked of the tier for every namespace whose pods name pull secrets.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;

use super::{ObjectsByImage, Policy, View};
use crate::action::{Action, SecretName};
use crate::grant::{Grant, GrantKey, GrantResult, KEPT_FOR};
use crate::image::Image;
use crate::pod::{PodFacts, Waiting};
use crate::state::{State, TierView};
use crate::usage::images;

/// A secret may change without a word; it is never watched.
const AGAIN_AFTER: Duration = Duration::from_secs(60 * 60);
/// After a source or the tier did not answer, and where a pod fails to pull: someone may just have corrected the secret.
const RETRY_AFTER: Duration = Duration::from_secs(60);
/// After a refusal that no pod suffers from.
const REFUSED_AGAIN_AFTER: Duration = Duration::from_secs(10 * 60);
/// Secrets tried for one namespace and repository.
const SECRETS_MAX: usize = 16;
/// Images tried for one namespace and repository. Each may cost the source as many questions as there are secrets.
const IMAGES_MAX: usize = 3;

/// What the pods and templates of one namespace say about one repository.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Demand {
    /// Images of the repository, of which one is enough to try with.
    images: BTreeMap<Image, Wanted>,
    secrets: BTreeSet<SecretName>,
    accounts: BTreeSet<String>,
    fails: bool,
}

/// How pods want one image.
#[derive(Debug, Default, PartialEq, Eq)]
struct Wanted {
    n_pods: usize,
    /// One of them cannot pull it.
    fails: bool,
}

pub(super) fn plan(view: &View<'_>) -> Vec<Action> {
    if !view.state.pods.is_synced() || !view.state.repositories.is_synced() {
        return Vec::new();
    }
    let grants = &view.state.grants;
    if !grants.is_listed() {
        let doubts = grants.doubts();
        return vec![Action::ListGrants { doubts }];
    }
    let due = view
        .demands
        .iter()
        .filter(|(key, demand)| is_due(grants.get(key), demand, view.now));
    let asked = due.map(|(key, demand)| Action::Grant {
        key: key.clone(),
        images: demand.images_to_try(&view.state.tier),
        secrets: demand.secrets.iter().take(SECRETS_MAX).cloned().collect(),
        accounts: demand.accounts.iter().take(SECRETS_MAX).cloned().collect(),
    });
    asked.chain(ended(view)).collect()
}

/// Whether it has been asked about all grants, so that a whole list of placements can be true.
pub(super) fn all_settled(view: &View<'_>) -> bool {
    view.demands.keys().all(|key| is_settled(view, key))
}

/// Whether it has been asked about this grant, or there is nothing to ask with.
pub(super) fn is_settled(view: &View<'_>, key: &GrantKey) -> bool {
    let asked = view.state.grants.get(key).is_some();
    asked || view.demands.get(key).is_none_or(Demand::names_nothing)
}

/// By namespace and repository, what pods and Repositories say.
pub(super) type Demands = BTreeMap<GrantKey, Demand>;

impl Demand {
    fn want(&mut self, image: &Image, fails: bool) {
        let wanted = match self.images.get_mut(image) {
            Some(wanted) => wanted,
            None => self.images.entry(image.clone()).or_default(),
        };
        wanted.n_pods += 1;
        wanted.fails |= fails;
    }

    /// The likeliest first: images that the source is known to have, then those that no pod fails to pull, then those that
    /// more pods want. A tag that one pod misspells so decides for no other.
    fn images_to_try(&self, tier: &TierView) -> Vec<String> {
        let mut images: Vec<(&Image, &Wanted)> = self.images.iter().collect();
        images.sort_by_cached_key(|(image, wanted)| {
            let state = tier.get(image);
            let known = state.is_some_and(|state| !state.digest.is_empty() || state.seen_at_source_ms > 0);
            (!known, wanted.fails, Reverse(wanted.n_pods))
        });
        images
            .iter()
            .take(IMAGES_MAX)
            .map(|(image, _)| image.to_string())
            .collect()
    }

    fn names_nothing(&self) -> bool {
        self.secrets.is_empty() && self.accounts.is_empty()
    }
}

pub(super) fn demands(state: &State, policy: &Policy, objects: &ObjectsByImage<'_>) -> Demands {
    let mut demands = Demands::new();
    for (pod_key, pod) in state.pods.iter() {
        if pod.finished || policy.ignored_namespaces.contains(&pod_key.namespace) {
            continue;
        }
        let fails = pod.images.iter().any(|image| image.waiting == Waiting::PullFailed);
        for image in images(pod).into_keys() {
            let demand = demands
                .entry(GrantKey::new(&pod_key.namespace, image.repository()))
                .or_default();
            demand.want(image, fails_to_pull(pod, image));
            demand.fails |= fails;
            let named = pod
                .pull_secrets
                .iter()
                .map(|name| SecretName::new(&pod_key.namespace, name));
            demand.secrets.extend(named);
            if pod.pull_secrets.is_empty() && !pod.service_account.is_empty() {
                demand.accounts.insert(pod.service_account.clone());
            }
        }
    }
    add_templates(state, policy, &mut demands);
    add_configured(state, objects, &mut demands);
    demands
}

fn fails_to_pull(pod: &PodFacts, image: &Image) -> bool {
    let mut named = pod.images.iter().filter(|named| named.image.as_ref() == Some(image));
    named.any(|named| named.waiting == Waiting::PullFailed)
}

/// Who has no pod at the moment keeps its grant: its pods may be back while the source is away.
fn add_templates(state: &State, policy: &Policy, demands: &mut Demands) {
    let heeded = |namespace: &String| !policy.ignored_namespaces.contains(namespace);
    for (key, template) in state.workloads.iter().filter(|(key, _)| heeded(&key.namespace)) {
        for image in template.images.keys() {
            let demand = demands
                .entry(GrantKey::new(&key.namespace, image.repository()))
                .or_default();
            demand.want(image, false);
            let secrets = template.pull_secrets.iter();
            demand
                .secrets
                .extend(secrets.map(|name| SecretName::new(&key.namespace, name)));
            if template.pull_secrets.is_empty() {
                demand.accounts.insert(template.service_account.clone());
            }
        }
    }
}

/// Secrets that a Repository names count for the namespace they lie in, and no other: v1 wrote there what the last pod
/// happened to use, and so let every namespace pull it.
fn add_configured(state: &State, objects: &ObjectsByImage<'_>, demands: &mut Demands) {
    let mut configured: BTreeMap<&str, (&str, &[String])> = BTreeMap::new();
    for (_, object) in state.repositories.iter() {
        if let Some(namespace) = object.spec.pull_secrets_namespace.as_deref() {
            configured.insert(object.spec.name.as_str(), (namespace, &object.spec.pull_secret_names));
        }
    }
    for image in objects.by_image.keys() {
        let Some((namespace, secrets)) = configured.get(image.repository().to_string().as_str()) else {
            continue;
        };
        let demand = demands.entry(GrantKey::new(namespace, image.repository())).or_default();
        demand.want(image, false);
        demand
            .secrets
            .extend(secrets.iter().map(|name| SecretName::new(namespace, name)));
    }
}

fn is_due(grant: Option<&Grant>, demand: &Demand, now: Timestamp) -> bool {
    let Some(grant) = grant else {
        return !demand.names_nothing();
    };
    let is_new = |secret| grant.tried.as_ref().is_some_and(|tried| !tried.contains(secret));
    if demand.secrets.iter().any(is_new) {
        return true;
    }
    let wait = match grant.result {
        GrantResult::Unreachable => RETRY_AFTER,
        _ if demand.fails => RETRY_AFTER,
        GrantResult::Refused | GrantResult::Standing => REFUSED_AGAIN_AFTER,
        GrantResult::Granted | GrantResult::Public | GrantResult::NoSecret | GrantResult::Unread => AGAIN_AFTER,
    };
    is_past(grant.at, wait, now)
}

/// Grants that no pod has used for long, once it is known what may make pods, and those whose secrets the source has
/// refused, or that are gone, for as long.
fn ended(view: &View<'_>) -> Vec<Action> {
    let now = view.now;
    let is_known = view.state.workloads.are_synced();
    let ended = view.state.grants.iter().filter(|(key, grant)| {
        let unused = is_known && !view.demands.contains_key(*key) && is_past(grant.used_at, KEPT_FOR, now);
        let refused = grant.result == GrantResult::Standing && is_past(grant.worked_at, KEPT_FOR, now);
        grant.is_held() && (unused || refused)
    });
    ended.map(|(key, _)| Action::Revoke { key: key.clone() }).collect()
}

fn is_past(since: Timestamp, wait: Duration, now: Timestamp) -> bool {
    now.duration_since(since).unsigned_abs() >= wait
}
