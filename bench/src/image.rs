//! The image that every contender serves: one incompressible blob, a config and a manifest.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use oci::Digest;

/// The repository, at every contender.
pub(crate) const REPOSITORY: &str = "library/bench";

const CHUNK_BYTES: usize = 1024 * 1024;

/// Where an image's parts are found.
#[derive(Clone, Debug)]
pub(crate) struct Image {
    pub(crate) manifest: Digest,
    pub(crate) blob: Digest,
    pub(crate) blob_size_bytes: u64,
}

/// Makes the image and copies it to the registry at `authority`.
pub(crate) fn push(blob_size_bytes: u64, authority: &str) -> Result<Image> {
    let layout = tempfile::tempdir().context("make a layout")?;
    let image = write_layout(layout.path(), blob_size_bytes)?;
    let output = Command::new("skopeo")
        .args(["copy", "--quiet", "--preserve-digests", "--dest-tls-verify=false"])
        .arg(format!("oci:{}", layout.path().display()))
        .arg(format!("docker://{authority}/{REPOSITORY}:1"))
        .output()
        .context("start skopeo")?;
    if !output.status.success() {
        bail!("skopeo: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(image)
}

fn write_layout(layout: &Path, blob_size_bytes: u64) -> Result<Image> {
    std::fs::create_dir_all(layout.join("blobs/sha256")).context("make a layout")?;
    std::fs::write(layout.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).context("write a layout")?;
    let blob = write_noise(layout, blob_size_bytes)?;
    let config = format!(
        r#"{{"architecture":"amd64","os":"linux","config":{{}},"rootfs":{{"type":"layers","diff_ids":["{blob}"]}}}}"#
    );
    let config_digest = write_blob(layout, config.as_bytes())?;
    let oci = "application/vnd.oci.image";
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"{oci}.manifest.v1+json","config":{{"mediaType":"{oci}.config.v1+json","digest":"{config_digest}","size":{}}},"layers":[{{"mediaType":"{oci}.layer.v1.tar","digest":"{blob}","size":{blob_size_bytes}}}]}}"#,
        config.len()
    );
    let manifest_digest = write_blob(layout, manifest.as_bytes())?;
    let index = format!(
        r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"{oci}.manifest.v1+json","digest":"{manifest_digest}","size":{}}}]}}"#,
        manifest.len()
    );
    std::fs::write(layout.join("index.json"), index).context("write a layout")?;
    Ok(Image {
        manifest: manifest_digest,
        blob,
        blob_size_bytes,
    })
}

fn write_blob(layout: &Path, bytes: &[u8]) -> Result<Digest> {
    let digest = Digest::sha256(bytes);
    std::fs::write(layout.join("blobs/sha256").join(digest.encoded()), bytes).context("write a blob")?;
    Ok(digest)
}

/// The same noise for the same size, in every run.
fn write_noise(layout: &Path, size_bytes: u64) -> Result<Digest> {
    let unnamed = layout.join("noise");
    let mut file = BufWriter::new(File::create(&unnamed).context("create a blob")?);
    let mut noise = fastrand::Rng::with_seed(7);
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
    Ok(digest)
}
