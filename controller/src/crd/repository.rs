//! Repository: what the cached images of one repository have in common.
// The lint takes the parts of the printed columns for attributes written twice.
#![allow(clippy::duplicated_attributes)]

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a user asks for.
#[derive(CustomResource, Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "kuik.enix.io",
    version = "v1alpha1",
    kind = "Repository",
    plural = "repositories",
    singular = "repository",
    shortname = "repo",
    category = "kuik",
    status = "RepositoryStatus",
    derive = "Default",
    derive = "PartialEq",
    printcolumn(name = "Status", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Images", type_ = "string", json_path = ".status.images"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct RepositorySpec {
    /// Host and name, such as `docker.io/library/nginx`.
    pub name: String,
    /// Secrets with credentials for the repository, beside those of the pods that use it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pull_secret_names: Vec<String>,
    /// Namespace of those secrets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pull_secrets_namespace: Option<String>,
    /// How often the source is asked whether an image moved, such as `1h`. Without it, when someone pulls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub update_interval: Option<String>,
    /// Regular expressions of the images that `updateInterval` is for; all of them when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub update_filters: Vec<String>,
}

/// What is the case.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RepositoryStatus {
    /// How many CachedImages it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub images: Option<i64>,
    /// Ready, Pulling, ErrImagePull or Terminating.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<String>,
    /// When the source was last asked because of `updateInterval`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_update: Option<Time>,
    /// Ready.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

pub(super) fn add_rules(definition: &mut CustomResourceDefinition) {
    super::add_rule(
        definition,
        "self.name.contains('/')",
        "name is host and name, such as docker.io/library/nginx",
    );
}
