//! Changes pods: images of containers that wait for them, and finalizers of v1. Nothing else, ever.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ObjectReference, Pod};
use kube::Api;
use kube::api::{Patch, PatchParams};
use proto::pod::{ANNOTATION_RESTORED, ANNOTATION_REWRITE_IMAGES, Place};
use serde_json::{Map, Value, json};

use super::{ActionError, Executor, Outcome};
use crate::FIELD_MANAGER;
use crate::action::{Notice, Restoration};
use crate::metrics;
use crate::pod::PodKey;

impl Executor {
    pub(super) async fn restore(&self, restoration: &Restoration) -> Result<Outcome, ActionError> {
        let parameters = PatchParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PatchParams::default()
        };
        let patch = Patch::Strategic(restoring_patch(restoration));
        self.pods(&restoration.pod)
            .patch(&restoration.pod.name, &parameters, &patch)
            .await?;
        metrics::restored();
        tracing::info!(pod = %restoration.pod, reason = restoration.reason, "original images put back");
        self.tell_pod(restoration).await;
        Ok(Outcome::Done)
    }

    pub(super) async fn release_pod(
        &self,
        pod: &PodKey,
        version: &str,
        kept: &[String],
    ) -> Result<Outcome, ActionError> {
        let patch = json!({"metadata": {"resourceVersion": version, "finalizers": kept}});
        self.pods(pod)
            .patch(&pod.name, &PatchParams::default(), &Patch::Merge(patch))
            .await?;
        Ok(Outcome::Done)
    }

    async fn tell_pod(&self, restoration: &Restoration) {
        let reference = ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Pod".to_owned()),
            namespace: Some(restoration.pod.namespace.clone()),
            name: Some(restoration.pod.name.clone()),
            uid: Some(restoration.uid.clone()),
            ..ObjectReference::default()
        };
        let text = format!("pulling without the cache: {}", restoration.reason);
        let notice = Notice::warning("OriginalImageRestored", text);
        self.events.tell(&reference, "Restoring", &notice).await;
    }

    fn pods(&self, pod: &PodKey) -> Api<Pod> {
        Api::namespaced(self.client.clone(), &pod.namespace)
    }
}

/// Refused by the API server if the pod has changed since this was decided, so that a container which has begun to run
/// meanwhile is never touched.
pub(crate) fn restoring_patch(restoration: &Restoration) -> Value {
    let containers = |place: Place| -> Vec<Value> {
        let of_place = restoration.images.iter().filter(|image| image.place == place);
        of_place
            .map(|image| json!({"name": image.container, "image": image.image}))
            .collect()
    };
    let now = restoration
        .images
        .iter()
        .map(|image| (&image.container, &restoration.reason));
    let reasons: BTreeMap<&String, &String> = restoration.before.iter().chain(now).collect();
    let mut spec = Map::new();
    for (field, place) in [
        ("containers", Place::Container),
        ("initContainers", Place::InitContainer),
    ] {
        let containers = containers(place);
        if !containers.is_empty() {
            spec.insert(field.to_owned(), Value::Array(containers));
        }
    }
    json!({
        "metadata": {
            "uid": restoration.uid,
            "resourceVersion": restoration.version,
            "annotations": {
                ANNOTATION_REWRITE_IMAGES: "false",
                ANNOTATION_RESTORED: json!(reasons).to_string(),
            },
        },
        "spec": spec,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::action::RestoredImage;

    fn restoration(before: &[(&str, &str)]) -> Restoration {
        let owned = |(container, reason): &(&str, &str)| ((*container).to_owned(), (*reason).to_owned());
        Restoration {
            pod: PodKey {
                namespace: "n".to_owned(),
                name: "p".to_owned(),
            },
            uid: "u".to_owned(),
            version: "7".to_owned(),
            images: vec![RestoredImage {
                place: Place::Container,
                container: "app".to_owned(),
                image: "nginx".to_owned(),
            }],
            before: before.iter().map(owned).collect(),
            reason: "no grant".to_owned(),
        }
    }

    #[test]
    fn what_was_put_back_before_stays_noted() {
        let patch = restoring_patch(&restoration(&[("init", "no proxy"), ("app", "old")]));
        let noted = patch["metadata"]["annotations"][ANNOTATION_RESTORED].as_str().unwrap();
        let noted: Value = serde_json::from_str(noted).unwrap();
        assert_eq!(noted, json!({"init": "no proxy", "app": "no grant"}));
    }

    #[test]
    fn a_pod_that_changed_meanwhile_is_not_patched() {
        let patch = restoring_patch(&restoration(&[]));
        assert_eq!(patch["metadata"]["resourceVersion"], "7");
        assert_eq!(patch["metadata"]["uid"], "u");
        assert_eq!(
            patch["spec"],
            json!({"containers": [{"name": "app", "image": "nginx"}]})
        );
    }
}
