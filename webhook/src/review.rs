//! `AdmissionReview` on the wire: read into a question, answered with a patch.
//!
//! Source: `admission.k8s.io/v1`. The answer always allows: we change pods, we never refuse them.

use json_patch::Patch;
use serde::{Deserialize, Serialize};
use serde_json::error::Category;
use serde_json::value::RawValue;

use crate::pod::Pod;
use crate::rewrite::Occasion;

const API_VERSION: &str = "admission.k8s.io/v1";
const KIND: &str = "AdmissionReview";

/// A question of the API server.
#[derive(Debug)]
pub(crate) struct Review {
    /// Goes back with the answer.
    pub uid: String,
    /// The pod, unless it is about something that is not looked at.
    pub incoming: Option<Incoming>,
}

/// A pod on its way in.
#[derive(Debug)]
pub(crate) struct Incoming {
    /// Its namespace.
    pub namespace: String,
    /// As it came.
    pub pod: Pod,
    /// What is being done with it.
    pub occasion: Occasion,
    /// It is only tried out.
    pub dry_run: bool,
}

/// Why a body is no review.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReviewError {
    /// Not JSON, or fields are missing.
    #[error("read AdmissionReview")]
    Json(#[source] Misread),
    /// Another kind or version.
    #[error("{api_version} {kind} instead of {API_VERSION} {KIND}")]
    Kind {
        /// Its version.
        api_version: String,
        /// Its kind.
        kind: String,
    },
    /// It asks nothing.
    #[error("AdmissionReview without a request")]
    NoRequest,
}

/// Where JSON is not as it should be. Never what stands there: a pod's text may be a secret.
#[derive(Debug, thiserror::Error)]
#[error("{category:?} error at line {line} column {column}")]
pub(crate) struct Misread {
    category: Category,
    line: usize,
    column: usize,
}

impl From<serde_json::Error> for Misread {
    fn from(error: serde_json::Error) -> Self {
        Self {
            category: error.classify(),
            line: error.line(),
            column: error.column(),
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawReview<'body> {
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    kind: String,
    #[serde(borrow)]
    request: Option<RawRequest<'body>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawRequest<'body> {
    uid: String,
    resource: RawResource,
    #[serde(default)]
    sub_resource: Option<String>,
    #[serde(default)]
    namespace: Option<String>,
    operation: String,
    #[serde(borrow, default)]
    object: Option<&'body RawValue>,
    #[serde(borrow, default)]
    old_object: Option<&'body RawValue>,
    #[serde(default)]
    dry_run: Option<bool>,
}

#[derive(Deserialize)]
struct RawResource {
    #[serde(default)]
    group: String,
    version: String,
    resource: String,
}

impl Review {
    /// Reads a request body. A pod that cannot be read is not looked at: the API server will say what is wrong with it.
    ///
    /// # Errors
    /// [`ReviewError`].
    pub(crate) fn parse(body: &[u8]) -> Result<Self, ReviewError> {
        let review: RawReview<'_> = serde_json::from_slice(body).map_err(|error| ReviewError::Json(error.into()))?;
        if review.api_version != API_VERSION || review.kind != KIND {
            return Err(ReviewError::Kind {
                api_version: review.api_version,
                kind: review.kind,
            });
        }
        let request = review.request.ok_or(ReviewError::NoRequest)?;
        Ok(Self {
            incoming: request.incoming(),
            uid: request.uid,
        })
    }
}

impl RawRequest<'_> {
    fn incoming(&self) -> Option<Incoming> {
        let resource = &self.resource;
        if !resource.group.is_empty() || resource.version != "v1" || resource.resource != "pods" {
            return None;
        }
        let old = || pod(self.old_object).map(Box::new);
        let sub_resource = self.sub_resource.as_deref().unwrap_or_default();
        let occasion = match (self.operation.as_str(), sub_resource) {
            ("CREATE", "") => Occasion::Create,
            ("UPDATE", "") => Occasion::Update { old: old()? },
            ("UPDATE", "ephemeralcontainers") => Occasion::Ephemeral { old: old()? },
            _ => return None,
        };
        Some(Incoming {
            namespace: self.namespace.clone().unwrap_or_default(),
            pod: pod(self.object)?,
            occasion,
            dry_run: self.dry_run.unwrap_or(false),
        })
    }
}

fn pod(object: Option<&RawValue>) -> Option<Pod> {
    let pod = serde_json::from_str(object?.get()).map_err(Misread::from);
    pod.inspect_err(|error| tracing::debug!(%error, "pod cannot be read"))
        .ok()
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RawAnswer<'answer> {
    api_version: &'static str,
    kind: &'static str,
    response: RawResponse<'answer>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RawResponse<'answer> {
    uid: &'answer str,
    allowed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch_type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch: Option<String>,
}

/// The answer's body: allowed, with the patch if it changes anything.
///
/// # Panics
/// Never: it is made of strings.
pub(crate) fn answer(uid: &str, patch: &Patch) -> Vec<u8> {
    use base64::Engine as _;
    let changes = !patch.0.is_empty();
    let encoded = || {
        let json = serde_json::to_vec(patch).expect("a patch is JSON");
        base64::engine::general_purpose::STANDARD.encode(json)
    };
    let answer = RawAnswer {
        api_version: API_VERSION,
        kind: KIND,
        response: RawResponse {
            uid,
            allowed: true,
            patch_type: changes.then_some("JSONPatch"),
            patch: changes.then(encoded),
        },
    };
    serde_json::to_vec(&answer).expect("an answer is JSON")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn review(change: impl FnOnce(&mut Value)) -> Result<Review, ReviewError> {
        let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": []}});
        let mut review = json!({
            "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
            "request": {
                "uid": "u-1", "namespace": "default", "operation": "CREATE",
                "resource": {"group": "", "version": "v1", "resource": "pods"},
                "object": pod, "oldObject": null, "dryRun": true,
            },
        });
        change(&mut review);
        Review::parse(review.to_string().as_bytes())
    }

    #[test]
    fn pods_are_read_by_occasion() {
        let created = review(|_| {}).unwrap().incoming.unwrap();
        assert!(matches!(created.occasion, Occasion::Create) && created.dry_run);
        let of = |operation: &str, sub_resource: &str| {
            review(|review| {
                review["request"]["operation"] = json!(operation);
                review["request"]["subResource"] = json!(sub_resource);
                review["request"]["oldObject"] = review["request"]["object"].clone();
            })
            .unwrap()
            .incoming
            .map(|incoming| incoming.occasion)
        };
        assert!(matches!(of("UPDATE", ""), Some(Occasion::Update { .. })));
        assert!(matches!(
            of("UPDATE", "ephemeralcontainers"),
            Some(Occasion::Ephemeral { .. })
        ));
        assert!(of("UPDATE", "status").is_none() && of("DELETE", "").is_none());
    }

    #[test]
    fn what_is_no_pod_or_cannot_be_read_is_not_looked_at() {
        let deployment = review(|review| review["request"]["resource"]["resource"] = json!("deployments"));
        assert!(deployment.unwrap().incoming.is_none());
        let broken = review(|review| review["request"]["object"]["spec"]["containers"] = json!("none"));
        assert_eq!(broken.unwrap().uid, "u-1");
    }

    #[test]
    fn what_is_no_review_is_refused() {
        assert!(matches!(Review::parse(b"{"), Err(ReviewError::Json(_))));
        assert!(matches!(
            review(|review| review["kind"] = json!("Pod")),
            Err(ReviewError::Kind { .. })
        ));
        assert!(matches!(
            review(|review| review["request"] = json!(null)),
            Err(ReviewError::NoRequest)
        ));
    }

    #[test]
    fn answers_allow_and_name_a_patch_only_if_there_is_one() {
        let empty: Value = serde_json::from_slice(&answer("u", &Patch::default())).unwrap();
        let expected = json!({
            "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
            "response": {"uid": "u", "allowed": true},
        });
        assert_eq!(empty, expected);
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(json!(null)),
            any::<bool>().prop_map(|value| json!(value)),
            "[a-z:/@.]{0,9}".prop_map(|value| json!(value)),
        ];
        leaf.prop_recursive(3, 12, 3, |inner| {
            let key = prop::sample::select(vec![
                "name",
                "image",
                "reference",
                "containers",
                "annotations",
                "labels",
            ]);
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..3).prop_map(|list| json!(list)),
                prop::collection::btree_map(key, inner, 0..3).prop_map(|map| json!(map)),
            ]
        })
    }

    proptest! {
        #[test]
        fn whatever_stands_in_a_pod_the_review_is_answered(metadata in any_json(), spec in any_json(), list in any_json()) {
            let mut spec = spec;
            if let Some(spec) = spec.as_object_mut() {
                spec.insert("containers".into(), list);
            }
            let pod = json!({"metadata": metadata, "spec": spec});
            let read = review(|review| review["request"]["object"] = pod).unwrap();
            prop_assert_eq!(read.uid, "u-1");
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(Review::parse(&bytes).is_err());
        }
    }
}
