//! Makes the sample images: an index over two architectures, the same bytes at every start.

use std::io::{self, Write};

use bytes::Bytes;
use flate2::{Compression, GzBuilder};
use oci::{Digest, MediaType};
use serde_json::{Value, json};

use super::executable::{Machine, hello};

const CONFIG_TYPE: &str = "application/vnd.oci.image.config.v1+json";
const LAYER_TYPE: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
/// Large enough to be seen on its way, small enough for any disk.
const DATA_BYTES: usize = 4 * 1024 * 1024;

/// Something with a digest.
#[derive(Clone, Debug)]
pub(crate) struct Content {
    pub(crate) digest: Digest,
    pub(crate) bytes: Bytes,
}

/// A manifest or an index.
#[derive(Clone, Debug)]
pub(crate) struct Document {
    pub(crate) media_type: &'static str,
    pub(crate) content: Content,
}

/// An image for all machines.
#[derive(Clone, Debug)]
pub(crate) struct SampleImage {
    /// The index first, then a manifest per machine.
    pub(crate) documents: Vec<Document>,
    pub(crate) blobs: Vec<Content>,
}

struct Layer {
    content: Content,
    /// Digest of the tar file, before it was compressed.
    diff_id: Digest,
}

/// One layer: a program that says hello.
pub(crate) fn hello_image() -> io::Result<SampleImage> {
    image(&[])
}

/// The same, and a layer of some megabytes that do not compress.
pub(crate) fn files_image() -> io::Result<SampleImage> {
    image(&[layer("data.bin", 0o644, &noise(DATA_BYTES))?])
}

fn image(further: &[Layer]) -> io::Result<SampleImage> {
    let mut manifests = Vec::new();
    let mut blobs: Vec<Content> = further.iter().map(|layer| layer.content.clone()).collect();
    for machine in Machine::ALL {
        let message = format!("hello from a kuik sample image for {}\n", machine.architecture());
        let program = layer("hello", 0o755, &hello(machine, &message))?;
        let layers: Vec<&Layer> = [&program].into_iter().chain(further).collect();
        let config = content(&config(machine, &layers));
        manifests.push((machine, manifest(&config, &layers)));
        blobs.extend([config, program.content]);
    }
    let index = index(&manifests);
    let manifests = manifests.into_iter().map(|(_machine, manifest)| manifest);
    let documents = [index].into_iter().chain(manifests).collect();
    Ok(SampleImage { documents, blobs })
}

fn layer(path: &str, mode: u32, file: &[u8]) -> io::Result<Layer> {
    let mut header = tar::Header::new_ustar();
    header.set_path(path)?;
    header.set_size(file.len() as u64);
    header.set_mode(mode);
    header.set_cksum();
    let mut archive = tar::Builder::new(Vec::new());
    archive.append(&header, file)?;
    let archive = archive.into_inner()?;
    let mut gzip = GzBuilder::new().mtime(0).write(Vec::new(), Compression::fast());
    gzip.write_all(&archive)?;
    Ok(Layer {
        diff_id: Digest::sha256(&archive),
        content: Content::new(gzip.finish()?),
    })
}

fn config(machine: Machine, layers: &[&Layer]) -> Value {
    let diff_ids: Vec<_> = layers.iter().map(|layer| layer.diff_id.as_str()).collect();
    json!({
        "architecture": machine.architecture(),
        "os": "linux",
        "created": "1970-01-01T00:00:00Z",
        "config": {"Cmd": ["/hello"]},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    })
}

fn manifest(config: &Content, layers: &[&Layer]) -> Document {
    let layers: Vec<_> = layers
        .iter()
        .map(|layer| descriptor(LAYER_TYPE, &layer.content))
        .collect();
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MediaType::OCI_MANIFEST,
        "config": descriptor(CONFIG_TYPE, config),
        "layers": layers,
    });
    Document {
        media_type: MediaType::OCI_MANIFEST,
        content: content(&manifest),
    }
}

fn index(manifests: &[(Machine, Document)]) -> Document {
    let manifests = manifests.iter().map(|(machine, manifest)| {
        let mut descriptor = descriptor(manifest.media_type, &manifest.content);
        descriptor["platform"] = json!({"os": "linux", "architecture": machine.architecture()});
        descriptor
    });
    let index = json!({
        "schemaVersion": 2,
        "mediaType": MediaType::OCI_INDEX,
        "manifests": manifests.collect::<Vec<_>>(),
    });
    Document {
        media_type: MediaType::OCI_INDEX,
        content: content(&index),
    }
}

fn descriptor(media_type: &str, content: &Content) -> Value {
    json!({"mediaType": media_type, "digest": content.digest.as_str(), "size": content.bytes.len()})
}

fn content(document: &Value) -> Content {
    Content::new(document.to_string().into_bytes())
}

impl Content {
    fn new(bytes: Vec<u8>) -> Self {
        Self {
            digest: Digest::sha256(&bytes),
            bytes: bytes.into(),
        }
    }
}

/// Bytes without a pattern, the same each time (xorshift).
fn noise(length: usize) -> Vec<u8> {
    let mut state: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut bytes = Vec::with_capacity(length);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

#[cfg(test)]
mod tests {
    use oci::{Manifest, RawManifest};

    use super::*;

    fn parse(document: &Document) -> Manifest {
        let media_type = document.media_type.parse().unwrap();
        let raw = RawManifest::new(document.content.bytes.clone(), media_type);
        raw.unwrap().parse().unwrap()
    }

    #[test]
    fn every_reference_is_held() {
        for image in [hello_image().unwrap(), files_image().unwrap()] {
            let index = parse(&image.documents[0]);
            assert_eq!(index.children().len(), Machine::ALL.len());
            for child in index.children() {
                let document = image
                    .documents
                    .iter()
                    .find(|document| document.content.digest == child.digest);
                for blob in parse(document.unwrap()).blobs() {
                    let held = image
                        .blobs
                        .iter()
                        .find(|content| content.digest == blob.digest)
                        .unwrap();
                    assert_eq!(held.bytes.len() as u64, blob.size);
                }
            }
        }
    }

    #[test]
    fn images_are_the_same_at_every_start() {
        let digests = |image: SampleImage| image.documents[0].content.digest.clone();
        assert_eq!(digests(hello_image().unwrap()), digests(hello_image().unwrap()));
        assert_ne!(digests(hello_image().unwrap()), digests(files_image().unwrap()));
    }
}
