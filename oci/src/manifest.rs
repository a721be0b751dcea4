//! Manifests: the exact bytes a digest covers, and what they refer to.

use bytes::Bytes;
use serde::Deserialize;

use crate::descriptor::{Descriptor, null_as_default};
use crate::digest::Digest;
use crate::media_type::MediaType;
use crate::verifier::{DigestMismatch, UnsupportedAlgorithm};

/// Largest manifest accepted, in bytes. Source: distribution-spec "Pushing Manifests" (at least 4 MiB).
pub const MANIFEST_SIZE_BYTES_MAX: usize = 4 << 20;
/// Most descriptors one manifest may hold; bounds the work a hostile manifest can cause.
const DESCRIPTORS_MAX: usize = 20_000;

/// A manifest as it was received: never re-encoded, since its digest covers the bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawManifest {
    bytes: Bytes,
    media_type: MediaType,
    digest: Digest,
}

/// What a manifest says.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(
    clippy::large_enum_variant,
    reason = "parsed one at a time and never kept in a collection"
)]
pub enum Manifest {
    /// One image or artifact.
    Image(ImageManifest),
    /// A list of manifests.
    Index(ImageIndex),
}

/// The parts of an image manifest that a registry looks at. Source: image-spec `manifest.md`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageManifest {
    /// The image configuration.
    pub config: Descriptor,
    /// The layers, bottom first.
    #[serde(default, deserialize_with = "null_as_default")]
    pub layers: Vec<Descriptor>,
    /// The manifest this one is about.
    #[serde(default)]
    pub subject: Option<Descriptor>,
    /// What the artifact is.
    #[serde(default)]
    pub artifact_type: Option<String>,
}

/// The parts of an image index that a registry looks at. Source: image-spec `image-index.md`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageIndex {
    /// The entries. Mostly manifests; BuildKit's caches list layers here.
    #[serde(default, deserialize_with = "null_as_default")]
    pub manifests: Vec<Descriptor>,
    /// The manifest this index is about.
    #[serde(default)]
    pub subject: Option<Descriptor>,
}

/// Why bytes are not a usable manifest.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// Over [`MANIFEST_SIZE_BYTES_MAX`].
    #[error("manifest of {size_bytes} bytes is over the limit of {MANIFEST_SIZE_BYTES_MAX}")]
    TooLarge {
        /// Its size.
        size_bytes: usize,
    },
    /// Not JSON of the shape its media type promises.
    #[error("manifest of type {media_type} is malformed")]
    Malformed {
        /// What it was served as.
        media_type: MediaType,
        /// Where it went wrong.
        source: serde_json::Error,
    },
    /// Names more content than is accepted.
    #[error("manifest names {count} descriptors, more than {DESCRIPTORS_MAX}")]
    TooManyDescriptors {
        /// How many.
        count: usize,
    },
    /// The bytes are not what was asked for.
    #[error("manifest is not the one asked for")]
    Mismatch(#[source] DigestMismatch),
    /// It was asked for by a digest that cannot be checked.
    #[error("manifest cannot be verified")]
    Unverifiable(#[source] UnsupportedAlgorithm),
}

impl RawManifest {
    /// Wraps bytes whose digest is not known beforehand; it becomes their SHA-256.
    ///
    /// # Errors
    /// [`ManifestError::TooLarge`].
    pub fn new(bytes: Bytes, media_type: MediaType) -> Result<Self, ManifestError> {
        check_size(&bytes)?;
        let digest = Digest::sha256(&bytes);
        Ok(Self {
            bytes,
            media_type,
            digest,
        })
    }

    /// Wraps bytes that were asked for by `digest`, after checking that they are its.
    ///
    /// # Errors
    /// [`ManifestError::TooLarge`], [`ManifestError::Mismatch`], [`ManifestError::Unverifiable`].
    pub fn verified(bytes: Bytes, media_type: MediaType, digest: &Digest) -> Result<Self, ManifestError> {
        check_size(&bytes)?;
        let mut verifier = digest.verifier().map_err(ManifestError::Unverifiable)?;
        verifier.update(&bytes);
        verifier.finish().map_err(ManifestError::Mismatch)?;
        Ok(Self {
            bytes,
            media_type,
            digest: digest.clone(),
        })
    }

    /// The exact bytes.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// What it was served as.
    pub fn media_type(&self) -> &MediaType {
        &self.media_type
    }

    /// The digest the bytes were checked against.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// Reads what the manifest refers to.
    ///
    /// The media type decides; for an unknown one the `manifests` field does, so that artifacts of any type work.
    ///
    /// # Errors
    /// [`ManifestError::Malformed`] and [`ManifestError::TooManyDescriptors`].
    pub fn parse(&self) -> Result<Manifest, ManifestError> {
        let malformed = |source| ManifestError::Malformed {
            media_type: self.media_type.clone(),
            source,
        };
        let manifest = if self.media_type.is_index() || (!self.media_type.is_manifest() && self.lists_manifests()) {
            Manifest::Index(serde_json::from_slice(&self.bytes).map_err(malformed)?)
        } else {
            Manifest::Image(serde_json::from_slice(&self.bytes).map_err(malformed)?)
        };
        let count = manifest.blobs().count() + manifest.children().len();
        if count > DESCRIPTORS_MAX {
            return Err(ManifestError::TooManyDescriptors { count });
        }
        Ok(manifest)
    }

    fn lists_manifests(&self) -> bool {
        #[derive(Deserialize)]
        struct Probe {
            manifests: Option<serde::de::IgnoredAny>,
        }
        serde_json::from_slice::<Probe>(&self.bytes).is_ok_and(|probe| probe.manifests.is_some())
    }
}

impl Manifest {
    /// The blobs it needs: config, then layers. None for an index.
    pub fn blobs(&self) -> impl Iterator<Item = &Descriptor> {
        let (config, layers) = match self {
            Self::Image(image) => (Some(&image.config), image.layers.as_slice()),
            Self::Index(_) => (None, [].as_slice()),
        };
        config.into_iter().chain(layers)
    }

    /// The entries of an index. None for an image.
    pub fn children(&self) -> &[Descriptor] {
        match self {
            Self::Image(_) => &[],
            Self::Index(index) => &index.manifests,
        }
    }

    /// The manifest this one is about.
    pub fn subject(&self) -> Option<&Descriptor> {
        match self {
            Self::Image(image) => image.subject.as_ref(),
            Self::Index(index) => index.subject.as_ref(),
        }
    }
}

fn check_size(bytes: &Bytes) -> Result<(), ManifestError> {
    if bytes.len() > MANIFEST_SIZE_BYTES_MAX {
        return Err(ManifestError::TooLarge {
            size_bytes: bytes.len(),
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn raw(json: &str, media_type: &str) -> RawManifest {
        RawManifest::new(Bytes::copy_from_slice(json.as_bytes()), media_type.parse().unwrap()).unwrap()
    }

    fn descriptor(content: &str) -> String {
        format!(
            r#"{{"mediaType":"application/octet-stream","digest":"{}","size":{}}}"#,
            Digest::sha256(content.as_bytes()),
            content.len()
        )
    }

    #[test]
    fn odd_spacing_and_unknown_fields_keep_their_bytes() {
        let json = format!(" {{ \"config\" : {},\n\"x\":[1 ,2] }}\n", descriptor("c"));
        let manifest = raw(&json, MediaType::OCI_MANIFEST);
        assert_eq!(manifest.bytes(), json.as_bytes());
        assert_eq!(manifest.digest(), &Digest::sha256(json.as_bytes()));
        assert_eq!(manifest.parse().unwrap().blobs().count(), 1);
    }

    #[test]
    fn an_image_names_config_then_layers() {
        let json = format!(
            r#"{{"config":{},"layers":[{},{}]}}"#,
            descriptor("c"),
            descriptor("1"),
            descriptor("2")
        );
        let manifest = raw(&json, MediaType::OCI_MANIFEST).parse().unwrap();
        let sizes: Vec<_> = manifest.blobs().map(|d| d.digest.clone()).collect();
        assert_eq!(
            sizes,
            [Digest::sha256(b"c"), Digest::sha256(b"1"), Digest::sha256(b"2")]
        );
    }

    #[test]
    fn an_index_may_list_layers_and_platforms() {
        let json = format!(
            r#"{{"manifests":[{},{{"mediaType":"{}","digest":"{}","size":1,"platform":{{"architecture":"arm","os":"linux","variant":"v7"}}}}]}}"#,
            descriptor("layer"),
            MediaType::OCI_MANIFEST,
            Digest::sha256(b"m")
        );
        let manifest = raw(&json, MediaType::OCI_INDEX).parse().unwrap();
        assert_eq!(manifest.children().len(), 2);
        assert_eq!(
            manifest.children()[1].platform.as_ref().unwrap().variant.as_deref(),
            Some("v7")
        );
    }

    #[test]
    fn null_lists_are_empty_ones() {
        let json = format!(r#"{{"config":{},"layers":null}}"#, descriptor("c"));
        assert_eq!(raw(&json, MediaType::OCI_MANIFEST).parse().unwrap().blobs().count(), 1);
        assert!(
            raw(r#"{"manifests":null}"#, MediaType::OCI_INDEX)
                .parse()
                .unwrap()
                .children()
                .is_empty()
        );
    }

    #[test]
    fn an_unknown_type_is_told_by_its_fields() {
        let unknown = "application/vnd.example+json";
        assert!(matches!(
            raw(r#"{"manifests":[]}"#, unknown).parse().unwrap(),
            Manifest::Index(_)
        ));
        let image = format!(r#"{{"config":{}}}"#, descriptor("c"));
        assert!(matches!(raw(&image, unknown).parse().unwrap(), Manifest::Image(_)));
    }

    #[test]
    fn foreign_layers_may_be_absent() {
        let json = format!(
            r#"{{"config":{},"layers":[{{"mediaType":"application/vnd.docker.image.rootfs.foreign.diff.tar.gzip","digest":"{}","size":1,"urls":["https://a.example/x"]}}]}}"#,
            descriptor("c"),
            Digest::sha256(b"f")
        );
        let manifest = raw(&json, MediaType::DOCKER_MANIFEST).parse().unwrap();
        assert_eq!(manifest.blobs().filter(|d| d.may_be_absent()).count(), 1);
    }

    #[test]
    fn wrong_bytes_and_oversize_are_refused() {
        let media_type: MediaType = MediaType::OCI_MANIFEST.parse().unwrap();
        let wrong = RawManifest::verified(Bytes::from_static(b"{}"), media_type.clone(), &Digest::sha256(b"x"));
        assert!(matches!(wrong, Err(ManifestError::Mismatch(_))));
        let huge = RawManifest::new(Bytes::from(vec![b' '; MANIFEST_SIZE_BYTES_MAX + 1]), media_type);
        assert!(matches!(huge, Err(ManifestError::TooLarge { .. })));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            for kind in MediaType::MANIFESTS {
                let _ = RawManifest::new(bytes.clone().into(), kind.parse().unwrap()).unwrap().parse();
            }
        }
    }
}
