//! The documents of an image layout: configuration, manifest, index. Image-spec 1.1.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::blobs::Blobs;
use super::layer::Layer;
use super::platform::Architecture;
use super::tree::NONROOT;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// Times would make every build another image.
const CREATED: &str = "1970-01-01T00:00:00Z";

/// One platform's image before its documents are written.
#[derive(Debug)]
pub(crate) struct Image<'a> {
    pub(crate) architecture: Architecture,
    /// From the lowest up.
    pub(crate) layers: &'a [Layer],
    /// Beside our own.
    pub(crate) labels: &'a BTreeMap<String, String>,
}

/// A written manifest, as an index lists it.
#[derive(Debug)]
pub(crate) struct Described(Value);

/// Writes configuration and manifest.
///
/// # Errors
/// If they cannot be written.
pub(crate) fn write_image(blobs: &mut Blobs, image: &Image<'_>) -> Result<Described> {
    let config = blobs.add_json(&config(image))?;
    let layers: Vec<Value> = image.layers.iter().map(layer_descriptor).collect();
    let manifest = blobs.add_json(&json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": config.digest,
            "size": config.size_bytes,
        },
        "layers": layers,
        "annotations": labels(image.labels),
    }))?;
    Ok(Described(json!({
        "mediaType": MANIFEST,
        "digest": manifest.digest,
        "size": manifest.size_bytes,
        "platform": { "architecture": image.architecture.name(), "os": "linux" },
    })))
}

/// Writes `index.json`, which gives the image its name: a manifest where there is one platform, else an index.
/// Returns the digest that the name has.
///
/// # Errors
/// If it cannot be written.
pub(crate) fn write_index(blobs: &mut Blobs, images: &[Described], tag: &str) -> Result<String> {
    let mut named = match images {
        [only] => only.0.clone(),
        several => {
            let manifests: Vec<&Value> = several.iter().map(|image| &image.0).collect();
            let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": manifests });
            let index = blobs.add_json(&index)?;
            json!({ "mediaType": INDEX, "digest": index.digest, "size": index.size_bytes })
        }
    };
    // The first is what skopeo finds it by, the second what containerd imports it as.
    named["annotations"] = json!({ "org.opencontainers.image.ref.name": tag, "io.containerd.image.name": tag });
    let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [named] });
    blobs.write_file("index.json", &serde_json::to_vec(&index).context("print JSON")?)?;
    Ok(named["digest"].as_str().unwrap_or_default().to_owned())
}

fn config(image: &Image<'_>) -> Value {
    let history = image
        .layers
        .iter()
        .map(|layer| json!({ "created": CREATED, "created_by": layer.name }));
    json!({
        "created": CREATED,
        "architecture": image.architecture.name(),
        "os": "linux",
        "config": {
            "User": format!("{NONROOT}:{NONROOT}"),
            "Env": ["PATH=/usr/bin"],
            "Cmd": ["kuik", "--help"],
            "WorkingDir": "/",
            "Labels": labels(image.labels),
        },
        "rootfs": {
            "type": "layers",
            "diff_ids": image.layers.iter().map(|layer| &layer.diff_id).collect::<Vec<_>>(),
        },
        "history": history.collect::<Vec<_>>(),
    })
}

fn labels(further: &BTreeMap<String, String>) -> Value {
    let mut labels = json!({
        "org.opencontainers.image.title": "kube-image-keeper",
        "org.opencontainers.image.description": "a highly available image cache for Kubernetes",
        "org.opencontainers.image.licenses": "Apache-2.0",
        "org.opencontainers.image.version": env!("CARGO_PKG_VERSION"),
    });
    for (key, value) in further {
        labels[key] = json!(value);
    }
    labels
}

fn layer_descriptor(layer: &Layer) -> Value {
    json!({
        "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
        "digest": layer.digest,
        "size": layer.size_bytes,
    })
}
