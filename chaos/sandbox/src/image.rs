//! What an image is made of, read from a registry and verified.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use oci::Digest;
use serde_json::Value;

use crate::http;

/// The digests of an image: of what its reference names first, and of everything below that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageDigests {
    pub top: String,
    pub all: BTreeSet<String>,
}

/// Reads an image (`library/app:1`) and every blob below it from the registry at `base_url`, as a careful client would.
///
/// # Errors
/// If anything is missing or does not hash to its digest.
pub fn digests(base_url: &str, image: &str) -> Result<ImageDigests> {
    let (repository, reference) = image.rsplit_once(':').context("an image has a tag")?;
    let manifest = http::get_bytes(&format!("{base_url}/v2/{repository}/manifests/{reference}"))?;
    let top = Digest::sha256(&manifest).to_string();
    let mut all = BTreeSet::from([top.clone()]);
    walk(base_url, repository, &manifest, &mut all)?;
    Ok(ImageDigests { top, all })
}

fn walk(base_url: &str, repository: &str, manifest: &[u8], all: &mut BTreeSet<String>) -> Result<()> {
    let manifest: Value = serde_json::from_slice(manifest).context("parse a manifest")?;
    for child in array(&manifest["manifests"]) {
        let digest = digest_of(child)?;
        let bytes = verified(base_url, repository, "manifests", digest)?;
        if all.insert(digest.to_owned()) {
            walk(base_url, repository, &bytes, all)?;
        }
    }
    let config = manifest.get("config").into_iter();
    for blob in config.chain(array(&manifest["layers"])) {
        let digest = digest_of(blob)?;
        if all.insert(digest.to_owned()) {
            verified(base_url, repository, "blobs", digest)?;
        }
    }
    Ok(())
}

/// Reads one manifest by its digest, and the blobs it names, from the registry at `base_url`.
///
/// # Errors
/// If anything is missing or does not hash to its digest.
pub fn fetch_manifest_and_blobs(base_url: &str, repository: &str, digest: &str) -> Result<()> {
    let bytes = verified(base_url, repository, "manifests", digest)?;
    let manifest: Value = serde_json::from_slice(&bytes).context("parse a manifest")?;
    for blob in manifest.get("config").into_iter().chain(array(&manifest["layers"])) {
        verified(base_url, repository, "blobs", digest_of(blob)?)?;
    }
    Ok(())
}

/// The largest layer of any platform of an image, and its size in bytes.
///
/// # Errors
/// If a manifest cannot be read.
pub fn largest_blob(base_url: &str, image: &str) -> Result<(String, u64)> {
    let (repository, reference) = image.rsplit_once(':').context("an image has a tag")?;
    let index = manifest(base_url, repository, reference)?;
    let mut largest = None;
    for child in array(&index["manifests"]) {
        let image = manifest(base_url, repository, digest_of(child)?)?;
        for layer in array(&image["layers"]) {
            let size = layer["size"].as_u64().context("a layer has a size")?;
            let candidate = (digest_of(layer)?.to_owned(), size);
            if largest.as_ref().is_none_or(|(_, known)| size > *known) {
                largest = Some(candidate);
            }
        }
    }
    largest.context("an index has layers")
}

fn manifest(base_url: &str, repository: &str, reference: &str) -> Result<Value> {
    let bytes = http::get_bytes(&format!("{base_url}/v2/{repository}/manifests/{reference}"))?;
    serde_json::from_slice(&bytes).context("parse a manifest")
}

fn verified(base_url: &str, repository: &str, kind: &str, digest: &str) -> Result<Vec<u8>> {
    let bytes = http::get_bytes(&format!("{base_url}/v2/{repository}/{kind}/{digest}"))?;
    let found = Digest::sha256(&bytes).to_string();
    ensure!(found == digest, "{digest} has bytes of {found}");
    Ok(bytes)
}

fn array(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn digest_of(descriptor: &Value) -> Result<&str> {
    descriptor["digest"].as_str().context("a descriptor has a digest")
}
