//! Images made on the spot: `image("library/nginx").platform("linux/arm64").layer("..").build()`.

mod layer;

use std::collections::BTreeMap;

use bytes::Bytes;
use oci::{Descriptor, Digest, MediaType, Platform, RawManifest, RepositoryName, Tag};
use serde_json::json;

use layer::Layer;
pub use layer::random_bytes;

const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const IN_TOTO: &str = "application/vnd.in-toto+json";

/// Starts an image of this repository, tagged `latest`.
pub fn image(repository: &str) -> ImageBuilder {
    ImageBuilder {
        repository: repository.parse().expect("a repository name"),
        tag: "latest".parse().expect("a tag"),
        platforms: Vec::new(),
        index: false,
        attested: false,
    }
}

/// An image in the making. Layers go to the platform named last, or to `linux/amd64` if none was.
#[derive(Debug, Clone)]
pub struct ImageBuilder {
    repository: RepositoryName,
    tag: Tag,
    platforms: Vec<(Platform, Vec<Layer>)>,
    index: bool,
    attested: bool,
}

impl ImageBuilder {
    /// Tags the image so.
    pub fn tag(mut self, tag: &str) -> Self {
        self.tag = tag.parse().expect("a tag");
        self
    }

    /// Goes on to another platform, `os/architecture[/variant]`. More than one makes an index.
    pub fn platform(mut self, platform: &str) -> Self {
        self.platforms.push((parse_platform(platform), Vec::new()));
        self
    }

    /// Adds a layer of exactly these bytes, which need not be an archive.
    pub fn layer(self, bytes: impl Into<Bytes>) -> Self {
        self.push(Layer::opaque(bytes.into()))
    }

    /// Adds a layer of so many incompressible bytes, the same for the same seed.
    pub fn random_layer(self, size_bytes: usize, seed: u64) -> Self {
        self.push(Layer::opaque(random_bytes(size_bytes, seed)))
    }

    /// Adds a layer that runtimes can unpack: a gzipped archive of these files.
    pub fn files(self, files: &[(&str, &[u8])]) -> Self {
        self.push(Layer::archive(files))
    }

    /// Makes an index even for one platform.
    pub fn index(mut self) -> Self {
        self.index = true;
        self
    }

    /// Adds an attestation child (`unknown/unknown`) per platform, as BuildKit does. Implies an index.
    pub fn attested(mut self) -> Self {
        self.attested = true;
        self
    }

    /// Makes the image. The same calls make the same digests.
    pub fn build(mut self) -> Image {
        if self.platforms.is_empty() {
            self.platforms.push((parse_platform("linux/amd64"), Vec::new()));
        }
        let mut image = Image {
            repository: self.repository,
            tag: self.tag,
            root: Digest::sha256(b""),
            children: Vec::new(),
            manifests: BTreeMap::new(),
            blobs: BTreeMap::new(),
        };
        let children: Vec<Descriptor> = self
            .platforms
            .iter()
            .map(|(platform, layers)| image.add_platform(platform, layers))
            .collect();
        let attestations: Vec<Descriptor> = if self.attested {
            children.iter().map(|child| image.add_attestation(child)).collect()
        } else {
            Vec::new()
        };
        image.root = match children.as_slice() {
            [only] if !self.index && !self.attested => only.digest.clone(),
            _ => image.add_index(&[children, attestations].concat()),
        };
        image
    }

    fn push(mut self, layer: Layer) -> Self {
        if self.platforms.is_empty() {
            self = self.platform("linux/amd64");
        }
        if let Some((_, layers)) = self.platforms.last_mut() {
            layers.push(layer);
        }
        self
    }
}

/// An image: manifests and the blobs they name.
#[derive(Debug, Clone)]
pub struct Image {
    repository: RepositoryName,
    tag: Tag,
    root: Digest,
    children: Vec<(Platform, Digest)>,
    manifests: BTreeMap<Digest, RawManifest>,
    blobs: BTreeMap<Digest, Bytes>,
}

impl Image {
    /// The repository it is for.
    pub fn repository(&self) -> &RepositoryName {
        &self.repository
    }

    /// The tag it is for.
    pub fn tag(&self) -> &Tag {
        &self.tag
    }

    /// Digest of the manifest or index the tag points to.
    pub fn root(&self) -> &Digest {
        &self.root
    }

    /// Digest of the manifest for one platform, `os/architecture[/variant]`.
    pub fn child(&self, platform: &str) -> &Digest {
        let platform = parse_platform(platform);
        let found = self.children.iter().find(|(has, _)| *has == platform);
        &found.expect("a platform of this image").1
    }

    /// The root, its children, and theirs, by digest.
    pub fn manifests(&self) -> &BTreeMap<Digest, RawManifest> {
        &self.manifests
    }

    /// Configs and layers by digest.
    pub fn blobs(&self) -> &BTreeMap<Digest, Bytes> {
        &self.blobs
    }

    /// The largest blob: the layer a test means when there is one that matters.
    pub fn largest_blob(&self) -> (&Digest, &Bytes) {
        self.blobs
            .iter()
            .max_by_key(|(_, bytes)| bytes.len())
            .expect("every image has a config")
    }

    fn add_platform(&mut self, platform: &Platform, layers: &[Layer]) -> Descriptor {
        let diff_ids: Vec<&Digest> = layers.iter().map(|layer| &layer.diff_id).collect();
        let config = json!({
            "architecture": platform.architecture,
            "os": platform.os,
            "variant": platform.variant,
            "config": {},
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
        });
        let config = self.add_blob(CONFIG, to_bytes(&config));
        let layers = layers
            .iter()
            .map(|layer| self.add_blob(layer.media_type, layer.bytes.clone()))
            .collect();
        let manifest = self.add_image_manifest(&config, layers);
        self.children.push((platform.clone(), manifest.digest.clone()));
        Descriptor {
            platform: Some(platform.clone()),
            ..manifest
        }
    }

    fn add_attestation(&mut self, child: &Descriptor) -> Descriptor {
        let subject = json!({ "name": "_", "digest": { "sha256": child.digest.encoded() } });
        let statement = json!({ "_type": "https://in-toto.io/Statement/v0.1", "subject": [subject] });
        let layer = self.add_blob(IN_TOTO, to_bytes(&statement));
        let config = json!({
            "architecture": "unknown",
            "os": "unknown",
            "config": {},
            "rootfs": { "type": "layers", "diff_ids": [layer.digest.clone()] },
        });
        let config = self.add_blob(CONFIG, to_bytes(&config));
        let manifest = self.add_image_manifest(&config, vec![layer]);
        let annotations = BTreeMap::from([
            ("vnd.docker.reference.digest".to_owned(), child.digest.to_string()),
            (
                "vnd.docker.reference.type".to_owned(),
                "attestation-manifest".to_owned(),
            ),
        ]);
        Descriptor {
            platform: Some(parse_platform("unknown/unknown")),
            annotations,
            ..manifest
        }
    }

    fn add_image_manifest(&mut self, config: &Descriptor, layers: Vec<Descriptor>) -> Descriptor {
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MediaType::OCI_MANIFEST,
            "config": config,
            "layers": layers,
        });
        self.add_manifest(MediaType::OCI_MANIFEST, to_bytes(&manifest))
    }

    fn add_index(&mut self, children: &[Descriptor]) -> Digest {
        let index = json!({ "schemaVersion": 2, "mediaType": MediaType::OCI_INDEX, "manifests": children });
        self.add_manifest(MediaType::OCI_INDEX, to_bytes(&index)).digest
    }

    fn add_manifest(&mut self, media_type: &str, bytes: Bytes) -> Descriptor {
        let descriptor = describe(media_type, &bytes);
        let manifest = RawManifest::new(bytes, descriptor.media_type.clone()).expect("a manifest of some kilobytes");
        self.manifests.insert(descriptor.digest.clone(), manifest);
        descriptor
    }

    fn add_blob(&mut self, media_type: &str, bytes: Bytes) -> Descriptor {
        let descriptor = describe(media_type, &bytes);
        self.blobs.insert(descriptor.digest.clone(), bytes);
        descriptor
    }
}

fn describe(media_type: &str, bytes: &Bytes) -> Descriptor {
    Descriptor {
        media_type: media_type.parse().expect("a media type"),
        digest: Digest::sha256(bytes),
        size: bytes.len() as u64,
        platform: None,
        urls: Vec::new(),
        annotations: BTreeMap::new(),
        artifact_type: None,
    }
}

fn to_bytes(value: &serde_json::Value) -> Bytes {
    serde_json::to_vec(value).expect("JSON values serialise").into()
}

fn parse_platform(text: &str) -> Platform {
    let mut parts = text.split('/').map(str::to_owned);
    let mut part = || parts.next();
    match (part(), part(), part(), part()) {
        (Some(os), Some(architecture), variant, None) => Platform {
            architecture,
            os,
            variant,
        },
        _ => panic!("{text:?} is not os/architecture[/variant]"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use oci::Manifest;

    #[test]
    fn one_platform_is_a_manifest_and_several_are_an_index() {
        let one = image("a").layer("x").build();
        assert_eq!(one.root(), one.child("linux/amd64"));
        let two = image("a")
            .platform("linux/amd64")
            .layer("x")
            .platform("linux/arm64/v8")
            .layer("y")
            .build();
        let Manifest::Index(index) = two.manifests()[two.root()].parse().unwrap() else {
            panic!("an index")
        };
        let children: Vec<_> = index.manifests.iter().map(|child| &child.digest).collect();
        assert_eq!(children, [two.child("linux/amd64"), two.child("linux/arm64/v8")]);
    }

    #[test]
    fn everything_a_manifest_names_is_part_of_the_image() {
        let image = image("a")
            .platform("linux/amd64")
            .layer("x")
            .platform("linux/arm64")
            .layer("y")
            .attested()
            .build();
        assert_eq!((image.manifests().len(), image.blobs().len()), (5, 8));
        for manifest in image.manifests().values() {
            let parsed = manifest.parse().unwrap();
            for blob in parsed.blobs() {
                assert_eq!(image.blobs()[&blob.digest].len() as u64, blob.size);
            }
            for child in parsed.children() {
                assert_eq!(image.manifests()[&child.digest].bytes().len() as u64, child.size);
            }
        }
    }

    #[test]
    fn the_same_calls_make_the_same_digests() {
        let make = || {
            image("a")
                .files(&[("etc/motd", b"hello")])
                .random_layer(10_000, 7)
                .build()
        };
        assert_eq!(make().root(), make().root());
    }
}
