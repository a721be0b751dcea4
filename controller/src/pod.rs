//! What is remembered of a pod: a few hundred bytes, whatever its size.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, ContainerState, ContainerStatus, Pod, PodStatus};
use proto::pod::{ANNOTATION_RESTORED, Place, original_image_key};

use crate::crd::FINALIZER_POD_V1;
use crate::image::Image;

/// Where a pod is found.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct PodKey {
    /// Its namespace.
    pub(crate) namespace: String,
    /// Its name.
    pub(crate) name: String,
}

impl std::fmt::Display for PodKey {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}/{}", self.namespace, self.name)
    }
}

/// What is remembered of a pod.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct PodFacts {
    /// To be told from a later pod of the same name.
    pub(crate) uid: String,
    /// What a change to it must be decided from.
    pub(crate) version: String,
    /// Where it runs; empty before that is decided.
    pub(crate) node: String,
    /// Account whose pull secrets count where the pod names none.
    pub(crate) service_account: String,
    /// Pull secrets it names itself.
    pub(crate) pull_secrets: Vec<String>,
    /// Succeeded or failed: it will pull nothing more.
    pub(crate) finished: bool,
    /// Every container runs as far as it is known, and the pod says it is ready.
    pub(crate) ready: bool,
    /// Its images.
    pub(crate) images: Vec<PodImage>,
    /// By container, why originals were put back before.
    pub(crate) restored: BTreeMap<String, String>,
    /// Finalizers, where v1's is among them.
    pub(crate) finalizers: Vec<String>,
    /// Whether it is one of our proxies.
    pub(crate) is_proxy: bool,
}

/// One image of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PodImage {
    /// Where it stands.
    pub(crate) place: Place,
    /// Name of the container or volume.
    pub(crate) name: String,
    /// As the user wrote it.
    pub(crate) original: String,
    /// What that means, where it means anything that a tier can hold.
    pub(crate) image: Option<Image>,
    /// Whether the pod names it through the proxy.
    pub(crate) rewritten: bool,
    /// Whether it is being waited for.
    pub(crate) waiting: Waiting,
}

impl PodImage {
    pub(crate) fn new(place: Place, name: &str, original: String, rewritten: bool) -> Self {
        let image = Image::parse(&original).ok().filter(|image| !image.is_on_the_machine());
        Self {
            place,
            name: name.to_owned(),
            original,
            image,
            rewritten,
            waiting: Waiting::No,
        }
    }
}

/// What a container waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Waiting {
    /// It runs, ran, or waits for something else.
    No,
    /// It has not begun, and nothing is known to be wrong.
    Creating,
    /// Its image could not be pulled.
    PullFailed,
}

/// Which pods are our proxies.
#[derive(Debug, Clone)]
pub(crate) struct ProxyPods {
    /// Their namespace.
    pub(crate) namespace: String,
    /// Their label `app.kubernetes.io/instance` is not looked at: there is one set of proxies in that namespace.
    pub(crate) component: &'static str,
}

/// Label that says which part of kuik a pod is.
const LABEL_COMPONENT: &str = "app.kubernetes.io/component";

/// Reads off what is remembered of a pod; nothing of one that has no name or specification.
pub(crate) fn reduce(pod: &Pod, proxies: &ProxyPods) -> Option<(PodKey, PodFacts)> {
    let metadata = &pod.metadata;
    let key = PodKey {
        namespace: metadata.namespace.clone()?,
        name: metadata.name.clone()?,
    };
    let spec = pod.spec.as_ref()?;
    let status = pod.status.as_ref();
    let phase = status.and_then(|status| status.phase.as_deref()).unwrap_or_default();
    let labels = metadata.labels.as_ref();
    let component = labels
        .and_then(|labels| labels.get(LABEL_COMPONENT))
        .map(String::as_str);
    let finalizers = metadata.finalizers.clone().unwrap_or_default();
    let of_v1 = finalizers.iter().any(|finalizer| finalizer == FINALIZER_POD_V1);
    let facts = PodFacts {
        uid: metadata.uid.clone().unwrap_or_default(),
        version: metadata.resource_version.clone().unwrap_or_default(),
        node: spec.node_name.clone().unwrap_or_default(),
        service_account: spec.service_account_name.clone().unwrap_or_default(),
        pull_secrets: spec
            .image_pull_secrets
            .iter()
            .flatten()
            .map(|secret| secret.name.clone())
            .collect(),
        finished: matches!(phase, "Succeeded" | "Failed"),
        ready: is_ready(status) && metadata.deletion_timestamp.is_none(),
        images: images(pod),
        restored: restored(pod),
        finalizers: if of_v1 { finalizers } else { Vec::new() },
        is_proxy: key.namespace == proxies.namespace && component == Some(proxies.component),
    };
    Some((key, facts))
}

fn is_ready(status: Option<&PodStatus>) -> bool {
    let conditions = status.and_then(|status| status.conditions.as_ref());
    conditions.is_some_and(|all| all.iter().any(|one| one.type_ == "Ready" && one.status == "True"))
}

/// What the annotation says; nothing where someone wrote something else there.
fn restored(pod: &Pod) -> BTreeMap<String, String> {
    let annotations = pod.metadata.annotations.as_ref();
    let noted = annotations.and_then(|all| all.get(ANNOTATION_RESTORED));
    noted
        .and_then(|noted| serde_json::from_str(noted).ok())
        .unwrap_or_default()
}

fn images(pod: &Pod) -> Vec<PodImage> {
    let Some(spec) = &pod.spec else { return Vec::new() };
    let status = pod.status.as_ref();
    let statuses = |of: fn(&PodStatus) -> &Option<Vec<ContainerStatus>>| {
        status.and_then(|status| of(status).as_deref()).unwrap_or_default()
    };
    let init = spec.init_containers.iter().flatten();
    let init_statuses = statuses(|status| &status.init_container_statuses);
    let main_statuses = statuses(|status| &status.container_statuses);
    let mut images: Vec<PodImage> = Vec::new();
    images.extend(init.filter_map(|one| container(pod, Place::InitContainer, one, init_statuses)));
    images.extend(
        spec.containers
            .iter()
            .filter_map(|one| container(pod, Place::Container, one, main_statuses)),
    );
    for ephemeral in spec.ephemeral_containers.iter().flatten() {
        let written = ephemeral.image.as_deref();
        images.extend(written.map(|written| image(pod, Place::EphemeralContainer, &ephemeral.name, written)));
    }
    for volume in spec.volumes.iter().flatten() {
        let written = volume.image.as_ref().and_then(|image| image.reference.as_deref());
        images.extend(written.map(|written| image(pod, Place::Volume, &volume.name, written)));
    }
    images
}

/// A pod of which no container has begun says nothing about them yet.
fn nothing_began(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    phase.is_none_or(|phase| phase == "Pending")
}

fn container(pod: &Pod, place: Place, container: &Container, statuses: &[ContainerStatus]) -> Option<PodImage> {
    let status = statuses.iter().find(|status| status.name == container.name);
    let state = status.and_then(|status| status.state.as_ref());
    let image = image(pod, place, &container.name, container.image.as_deref()?);
    let waiting = match status {
        None if nothing_began(pod) => Waiting::Creating,
        status => waiting(state, status.is_some_and(|status| status.image_id.is_empty())),
    };
    Some(PodImage { waiting, ..image })
}

fn waiting(state: Option<&ContainerState>, never_ran: bool) -> Waiting {
    let waiting = state.and_then(|state| state.waiting.as_ref());
    match waiting.and_then(|waiting| waiting.reason.as_deref()) {
        Some("ErrImagePull" | "ImagePullBackOff" | "RegistryUnavailable") => Waiting::PullFailed,
        Some("ContainerCreating" | "PodInitializing") if never_ran => Waiting::Creating,
        _ => Waiting::No,
    }
}

fn image(pod: &Pod, place: Place, name: &str, written: &str) -> PodImage {
    let annotations = pod.metadata.annotations.as_ref();
    let noted = annotations.and_then(|all| all.get(&original_image_key(place, name)));
    let stripped = oci::rewritten::strip(written);
    let original = match (stripped, noted) {
        (Some(_), Some(noted)) => oci::rewritten::strip(noted).unwrap_or(noted).to_owned(),
        (Some(stripped), None) => {
            let likeliest = oci::rewritten::originals(stripped).into_iter().next();
            likeliest.unwrap_or_else(|| stripped.to_owned())
        }
        (None, _) => written.to_owned(),
    };
    PodImage::new(place, name, original, stripped.is_some())
}

#[cfg(test)]
mod tests;
