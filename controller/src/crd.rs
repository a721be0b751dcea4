//! The objects people see: CachedImage and Repository, group `kuik.enix.io`, and their definitions as YAML.
//!
//! Kinds, short names, fields and printed columns are kube-image-keeper v1's. What is new is optional, stands in the
//! status, and is printed in wide output alone.

mod cached_image;
mod repository;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;

pub use cached_image::{CachedImage, CachedImageSpec, CachedImageStatus, PodName, UsedBy, WorkloadName};
pub use repository::{Repository, RepositorySpec, RepositoryStatus};

/// Label of a CachedImage: name of its Repository, hashed where too long for a label.
pub const LABEL_REPOSITORY: &str = "kuik.enix.io/repository";
/// Annotation of a CachedImage that asks for a check at the source now: `"true"`. Taken off when it was heard.
pub const ANNOTATION_FORCE_UPDATE: &str = "cachedimage.kuik.enix.io/forceUpdate";
/// Finalizer that v1 left on CachedImages.
pub const FINALIZER_CACHED_IMAGE_V1: &str = "cachedimage.kuik.enix.io/finalizer";
/// Finalizer that v1 left on Repositories.
pub const FINALIZER_REPOSITORY_V1: &str = "repository.kuik.enix.io/finalizer";
/// Finalizer that v1.0 to v1.2 left on pods.
pub const FINALIZER_POD_V1: &str = "pod.kuik.enix.io/finalizer";

/// The definitions, with or without validation rules.
///
/// Rules are CEL, which API servers before 1.25 refuse.
pub fn definitions(rules: bool) -> [CustomResourceDefinition; 2] {
    let mut definitions = [CachedImage::crd(), Repository::crd()];
    if rules {
        cached_image::add_rules(&mut definitions[0]);
        repository::add_rules(&mut definitions[1]);
    }
    definitions
}

/// The definitions as YAML documents.
///
/// # Errors
/// Never in practice: the definitions are plain data.
pub fn print(rules: bool) -> Result<String, serde_yaml_ng::Error> {
    let documents = definitions(rules)
        .iter()
        .map(serde_yaml_ng::to_string)
        .collect::<Result<Vec<_>, _>>()?;
    Ok(documents.iter().map(|document| format!("---\n{document}")).collect())
}

/// Adds a CEL rule to the schema of `spec`.
fn add_rule(definition: &mut CustomResourceDefinition, rule: &str, message: &str) {
    use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::ValidationRule;
    let schemas = definition
        .spec
        .versions
        .iter_mut()
        .filter_map(|version| version.schema.as_mut());
    let schemas = schemas.filter_map(|schema| schema.open_api_v3_schema.as_mut());
    for schema in schemas {
        let spec = schema
            .properties
            .as_mut()
            .and_then(|properties| properties.get_mut("spec"));
        if let Some(spec) = spec {
            spec.x_kubernetes_validations
                .get_or_insert_default()
                .push(ValidationRule {
                    rule: rule.to_owned(),
                    message: Some(message.to_owned()),
                    ..ValidationRule::default()
                });
        }
    }
}

#[cfg(test)]
mod tests;
