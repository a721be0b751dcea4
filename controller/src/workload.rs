//! What is remembered of an object that makes pods: the images of its template. It may have no pod at the moment, as one
//! scaled to nothing for the night, or a CronJob between its runs.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, StatefulSet};
use k8s_openapi::api::batch::v1::{CronJob, Job};
use kube::ResourceExt;
use kube::core::Object;
use kube::discovery::ApiResource;
use serde::Deserialize;

use crate::image::Image;
use crate::state::{Seen, Watched};

/// Kinds of objects with a template of pods. Those that Deployments and CronJobs make themselves are left out: their
/// templates are older copies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum WorkloadKind {
    CronJob,
    DaemonSet,
    Deployment,
    Job,
    StatefulSet,
}

impl WorkloadKind {
    /// All of them.
    pub(crate) const ALL: [Self; 5] = [
        Self::CronJob,
        Self::DaemonSet,
        Self::Deployment,
        Self::Job,
        Self::StatefulSet,
    ];

    /// Its name in the API.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::CronJob => "CronJob",
            Self::DaemonSet => "DaemonSet",
            Self::Deployment => "Deployment",
            Self::Job => "Job",
            Self::StatefulSet => "StatefulSet",
        }
    }

    /// Where the API has it.
    pub(crate) fn resource(self) -> ApiResource {
        match self {
            Self::CronJob => ApiResource::erase::<CronJob>(&()),
            Self::DaemonSet => ApiResource::erase::<DaemonSet>(&()),
            Self::Deployment => ApiResource::erase::<Deployment>(&()),
            Self::Job => ApiResource::erase::<Job>(&()),
            Self::StatefulSet => ApiResource::erase::<StatefulSet>(&()),
        }
    }
}

/// Where one is found.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct WorkloadKey {
    pub(crate) kind: WorkloadKind,
    pub(crate) namespace: String,
    pub(crate) name: String,
}

/// What is remembered of one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Template {
    /// Its images, with the names their user gave them.
    pub(crate) images: BTreeMap<Image, String>,
    pub(crate) pull_secrets: Vec<String>,
    /// Account whose pull secrets count where the template names none.
    pub(crate) service_account: String,
}

/// All of them, as the watches of their kinds tell of them.
#[derive(Debug, Default)]
pub(crate) struct Workloads {
    by_kind: BTreeMap<WorkloadKind, Watched<WorkloadKey, Template>>,
}

impl Workloads {
    pub(crate) fn apply(&mut self, kind: WorkloadKind, seen: Seen<WorkloadKey, Template>) {
        self.by_kind.entry(kind).or_default().apply(seen);
    }

    /// Whether those of every kind are known.
    pub(crate) fn are_synced(&self) -> bool {
        let is_synced = |kind| self.by_kind.get(kind).is_some_and(Watched::is_synced);
        WorkloadKind::ALL.iter().all(is_synced)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&WorkloadKey, &Template)> {
        self.by_kind.values().flat_map(Watched::iter)
    }
}

/// Any of the kinds, as it comes from the API server: what is not named here is never kept in memory.
pub(crate) type Workload = Object<Spec, Status>;

/// Of any of the kinds.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Spec {
    template: Option<PodTemplate>,
    job_template: Option<JobTemplate>,
}

#[derive(Debug, Clone, Deserialize)]
struct JobTemplate {
    spec: Option<Box<Spec>>,
}

#[derive(Debug, Clone, Deserialize)]
struct PodTemplate {
    spec: Option<PodSpec>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PodSpec {
    containers: Option<Vec<Container>>,
    init_containers: Option<Vec<Container>>,
    volumes: Option<Vec<Volume>>,
    image_pull_secrets: Option<Vec<Named>>,
    service_account_name: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
struct Container {
    image: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
struct Volume {
    image: Option<VolumeImage>,
}

#[derive(Debug, Clone, Deserialize)]
struct VolumeImage {
    reference: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
struct Named {
    name: Option<String>,
}

/// Of a Job.
#[derive(Debug, Clone, Default, Deserialize)]
pub(crate) struct Status {
    conditions: Option<Vec<JobCondition>>,
}

#[derive(Debug, Clone, Deserialize)]
struct JobCondition {
    #[serde(rename = "type")]
    kind: Option<String>,
    status: Option<String>,
}

/// Where it is found, and what is remembered of it: nothing of one that will make no more pods, or that another one makes.
pub(crate) fn reduce(kind: WorkloadKind, workload: Workload) -> (WorkloadKey, Option<Template>) {
    let key = WorkloadKey {
        kind,
        namespace: workload.namespace().unwrap_or_default(),
        name: workload.name_any(),
    };
    let owners = workload.owner_references();
    let of_cron_job = kind == WorkloadKind::Job && owners.iter().any(|owner| owner.kind == "CronJob");
    if of_cron_job || has_ended(kind, workload.status.as_ref()) {
        return (key, None);
    }
    let template = match workload.spec.job_template {
        Some(job) => job.spec.and_then(|spec| spec.template),
        None => workload.spec.template,
    };
    (key, template.and_then(|template| template.spec).map(remembered))
}

fn has_ended(kind: WorkloadKind, status: Option<&Status>) -> bool {
    let mut conditions = status
        .and_then(|status| status.conditions.as_ref())
        .into_iter()
        .flatten();
    kind == WorkloadKind::Job
        && conditions.any(|one| {
            matches!(one.kind.as_deref(), Some("Complete" | "Failed")) && one.status.as_deref() == Some("True")
        })
}

fn remembered(spec: PodSpec) -> Template {
    let containers = spec.init_containers.into_iter().chain(spec.containers).flatten();
    let volumes = spec.volumes.into_iter().flatten().filter_map(|volume| volume.image);
    let written = containers
        .filter_map(|container| container.image)
        .chain(volumes.filter_map(|image| image.reference));
    let named = written.filter_map(|written| {
        let image = Image::parse(&written).ok().filter(|image| !image.is_on_the_machine())?;
        Some((image, written))
    });
    Template {
        images: named.collect(),
        pull_secrets: spec
            .image_pull_secrets
            .into_iter()
            .flatten()
            .filter_map(|secret| secret.name)
            .collect(),
        service_account: spec
            .service_account_name
            .filter(|name| !name.is_empty())
            .unwrap_or_else(|| "default".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(kind: WorkloadKind, mut object: Value) -> Option<Template> {
        object["metadata"]["name"] = json!("w");
        object["metadata"]["namespace"] = json!("n");
        let workload: Workload = serde_json::from_value(object).unwrap();
        let (key, template) = reduce(kind, workload);
        assert_eq!((key.namespace.as_str(), key.name.as_str()), ("n", "w"));
        template
    }

    fn pod(image: &str) -> Value {
        json!({"spec": {"containers": [{"name": "c", "image": image}]}})
    }

    fn images(template: &Template) -> Vec<&str> {
        template.images.values().map(String::as_str).collect()
    }

    #[test]
    fn images_of_every_kind_of_template_are_read() {
        for kind in WorkloadKind::ALL {
            let spec = match kind {
                WorkloadKind::CronJob => json!({"jobTemplate": {"spec": {"template": pod("nginx")}}}),
                _ => json!({"replicas": 0, "template": pod("nginx")}),
            };
            let template = read(kind, json!({"spec": spec})).unwrap();
            assert_eq!(images(&template), ["nginx"], "{kind:?}");
            assert_eq!(template.service_account, "default");
        }
    }

    #[test]
    fn all_places_of_images_and_the_secrets_for_them_are_read() {
        let spec = json!({
            "containers": [{"name": "a", "image": "quay.io/a:1"}, {"name": "b"}],
            "initContainers": [{"name": "i", "image": "b:2"}, {"name": "x", "image": "localhost:5000/x"}],
            "volumes": [{"name": "v", "image": {"reference": "c:3"}}, {"name": "e", "emptyDir": {}}],
            "imagePullSecrets": [{"name": "s"}, {}],
            "serviceAccountName": "sa",
        });
        let template = read(WorkloadKind::Deployment, json!({"spec": {"template": {"spec": spec}}})).unwrap();
        assert_eq!(images(&template), ["b:2", "c:3", "quay.io/a:1"]);
        assert_eq!(template.pull_secrets, ["s"]);
        assert_eq!(template.service_account, "sa");
    }

    #[test]
    fn what_will_make_no_more_pods_is_not_remembered() {
        let spec = json!({"template": pod("nginx")});
        let condition = |kind: &str, status: &str| {
            let status = json!({"conditions": [{"type": kind, "status": status}]});
            read(WorkloadKind::Job, json!({"spec": spec, "status": status}))
        };
        assert!(condition("Complete", "True").is_none() && condition("Failed", "True").is_none());
        assert!(condition("Suspended", "True").is_some() && condition("Complete", "False").is_some());
        let owner = json!([{"apiVersion": "batch/v1", "kind": "CronJob", "name": "c", "uid": "u"}]);
        let made = json!({"metadata": {"ownerReferences": owner}, "spec": spec});
        assert_eq!(read(WorkloadKind::Job, made), None);
    }

    #[test]
    fn whatever_is_missing_breaks_no_watch() {
        for spec in [
            json!({}),
            json!({"template": {}}),
            json!({"template": {"spec": {"containers": null}}}),
        ] {
            let template = read(WorkloadKind::Deployment, json!({"spec": spec, "status": {}}));
            assert!(template.is_none_or(|template| template.images.is_empty()));
        }
    }
}
