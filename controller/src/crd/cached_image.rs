//! CachedImage: one image that is kept in the cache.
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
    kind = "CachedImage",
    plural = "cachedimages",
    singular = "cachedimage",
    shortname = "ci",
    category = "kuik",
    status = "CachedImageStatus",
    derive = "Default",
    derive = "PartialEq",
    printcolumn(name = "Status", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Cached", type_ = "boolean", json_path = ".status.isCached"),
    printcolumn(name = "Retain", type_ = "boolean", json_path = ".spec.retain"),
    printcolumn(name = "Expires at", type_ = "string", json_path = ".status.expiresAt"),
    printcolumn(name = "Pods count", type_ = "integer", json_path = ".status.usedBy.count"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Image", type_ = "string", json_path = ".spec.sourceImage", priority = 1),
    printcolumn(name = "Up to date", type_ = "boolean", json_path = ".status.upToDate", priority = 1),
    printcolumn(name = "Copies", type_ = "string", json_path = ".status.copies", priority = 1)
)]
#[serde(rename_all = "camelCase")]
pub struct CachedImageSpec {
    /// The image, as a pod would name it.
    pub source_image: String,
    /// When to forget the image. Set by users alone; without it an image that no pod uses expires by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Time>,
    /// Never forget the image, used or not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retain: Option<bool>,
}

/// What is the case.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CachedImageStatus {
    /// Synchronizing, Pulling, ErrImagePull, Ready or Terminating.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<String>,
    /// Whether all of the image is in the cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub is_cached: Option<bool>,
    /// Who uses it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used_by: Option<UsedBy>,
    /// Digest that is served, hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// Digest that the source last named, hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream_digest: Option<String>,
    /// Whether the served digest is the source's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub up_to_date: Option<bool>,
    /// Whether the source had the image when it was last asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub available_upstream: Option<bool>,
    /// When the source was last asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_sync: Option<Time>,
    /// When all of the image was last complete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_successful_pull: Option<Time>,
    /// When the source was last seen to have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_seen_upstream: Option<Time>,
    /// When the image will be forgotten if nothing uses it until then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Time>,
    /// Since when nothing uses it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unused_since: Option<Time>,
    /// Copies that every part of the image has, of those wanted: `2/3`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copies: Option<String>,
    /// Ready, Cached and UpToDate.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// Who uses an image.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UsedBy {
    /// Some of them, in the order of their names.
    // Written when empty too: statuses are merged, and would keep the last ones.
    #[serde(default)]
    pub pods: Vec<PodName>,
    /// How many there are.
    #[serde(default)]
    pub count: i64,
    /// Some of what makes pods of it, whether it has any at the moment or not.
    #[serde(default)]
    pub workloads: Vec<WorkloadName>,
}

/// One Deployment, StatefulSet, DaemonSet, CronJob or Job.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadName {
    /// Such as `Deployment`.
    pub kind: String,
    /// `namespace/name`.
    pub namespaced_name: String,
}

/// One pod.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodName {
    /// `namespace/name`.
    pub namespaced_name: String,
}

pub(super) fn add_rules(definition: &mut CustomResourceDefinition) {
    super::add_rule(definition, "self.sourceImage.size() > 0", "sourceImage names no image");
    super::add_rule(
        definition,
        "!self.sourceImage.matches('^localhost:[0-9]+/')",
        "sourceImage is the image as it was before it was rewritten",
    );
}
