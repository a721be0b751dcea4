//! The image that every contender serves: incompressible layers, a config and a manifest.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use oci::Digest;
use serde_json::{Value, json};

/// The repository, at every contender.
pub(crate) const REPOSITORY: &str = "library/bench";

const CHUNK_BYTES: usize = 1024 * 1024;

/// What an image is made of.
#[derive(Clone, Debug)]
pub(crate) struct Image {
    pub(crate) manifest: Digest,
    pub(crate) layers: Vec<Layer>,
}

/// An incompressible blob.
#[derive(Clone, Debug)]
pub(crate) struct Layer {
    pub(crate) digest: Digest,
    pub(crate) size_bytes: u64,
}

/// Makes an image with layers of these sizes and copies it to the registry at `authority`.
pub(crate) fn push(tag: &str, layer_sizes: &[u64], authority: &str) -> Result<Image> {
    let layout = tempfile::tempdir().context("make a layout")?;
    let image = write_layout(layout.path(), layer_sizes)?;
    let output = Command::new("skopeo")
        .args(["copy", "--quiet", "--preserve-digests", "--dest-tls-verify=false"])
        .arg(format!("oci:{}", layout.path().display()))
        .arg(format!("docker://{authority}/{REPOSITORY}:{tag}"))
        .output()
        .context("start skopeo")?;
    if !output.status.success() {
        bail!("skopeo: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(image)
}

fn write_layout(layout: &Path, layer_sizes: &[u64]) -> Result<Image> {
    std::fs::create_dir_all(layout.join("blobs/sha256")).context("make a layout")?;
    std::fs::write(layout.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).context("write a layout")?;
    let mut layers = Vec::new();
    for (seed, size_bytes) in (0..).zip(layer_sizes) {
        layers.push(write_noise(layout, *size_bytes, seed)?);
    }
    let diff_ids: Vec<&str> = layers.iter().map(|layer| layer.digest.as_str()).collect();
    let config = json!({
        "architecture": "amd64", "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": diff_ids},
    });
    let config = write_blob(layout, "config", &config)?;
    let layer_descriptors: Vec<Value> = layers
        .iter()
        .map(|layer| descriptor("layer.v1.tar", &layer.digest, layer.size_bytes))
        .collect();
    let manifest = json!({
        "schemaVersion": 2, "mediaType": media_type("manifest.v1+json"), "config": config, "layers": layer_descriptors,
    });
    let manifest = write_blob(layout, "manifest", &manifest)?;
    let index = json!({"schemaVersion": 2, "manifests": [manifest]});
    std::fs::write(layout.join("index.json"), index.to_string()).context("write a layout")?;
    let digest = manifest["digest"].as_str().context("a descriptor has a digest")?;
    Ok(Image {
        manifest: digest.parse().context("parse a digest")?,
        layers,
    })
}

fn media_type(kind: &str) -> String {
    format!("application/vnd.oci.image.{kind}")
}

fn descriptor(kind: &str, digest: &Digest, size_bytes: u64) -> Value {
    json!({"mediaType": media_type(kind), "digest": digest.as_str(), "size": size_bytes})
}

/// Writes a document as a blob, and returns its descriptor.
fn write_blob(layout: &Path, kind: &str, document: &Value) -> Result<Value> {
    let bytes = document.to_string().into_bytes();
    let digest = Digest::sha256(&bytes);
    std::fs::write(layout.join("blobs/sha256").join(digest.encoded()), &bytes).context("write a blob")?;
    Ok(descriptor(&format!("{kind}.v1+json"), &digest, bytes.len() as u64))
}

/// The same noise for the same size and seed, in every run.
fn write_noise(layout: &Path, size_bytes: u64, seed: u64) -> Result<Layer> {
    let unnamed = layout.join("noise");
    let mut file = BufWriter::new(File::create(&unnamed).context("create a blob")?);
    let mut noise = fastrand::Rng::with_seed(seed ^ size_bytes);
    let mut buffer = vec![0; CHUNK_BYTES];
    let mut left = size_bytes;
    while left > 0 {
        let n = usize::try_from(left).unwrap_or(CHUNK_BYTES).min(CHUNK_BYTES);
        noise.fill(&mut buffer[..n]);
        file.write_all(&buffer[..n]).context("write a blob")?;
        left -= n as u64;
    }
    file.flush().context("write a blob")?;
    let output = Command::new("sha256sum")
        .arg(&unnamed)
        .output()
        .context("start sha256sum")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let encoded = text.split_whitespace().next().context("sha256sum says nothing")?;
    let digest: Digest = format!("sha256:{encoded}")
        .parse()
        .context("parse sha256sum's answer")?;
    std::fs::rename(unnamed, layout.join("blobs/sha256").join(encoded)).context("name a blob")?;
    Ok(Layer { digest, size_bytes })
}
