//! Media types of manifests and blobs.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Longest media type accepted: RFC 6838 allows 127 bytes each side of the slash.
const MEDIA_TYPE_BYTES_MAX: usize = 255;

/// A media type without parameters, such as `application/vnd.oci.image.index.v1+json`.
///
/// Invariants: `type/subtype` of RFC 6838 characters, at most 255 bytes. Unknown types are kept as they are: a cache
/// serves what it was given. Parameters (`; charset=utf-8`) are dropped when parsing, as containerd drops them.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MediaType(Box<str>);

/// Why a string is not a [`MediaType`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid media type {0:?}: not type/subtype")]
pub struct MediaTypeError(String);

impl MediaType {
    /// OCI image index.
    pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
    /// OCI image manifest.
    pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    /// Docker manifest list.
    pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
    /// Docker image manifest, schema 2.
    pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
    /// What a blob is served as.
    pub const OCTET_STREAM: &str = "application/octet-stream";
    /// Every manifest type a client here understands, in the order to ask for them.
    pub const MANIFESTS: [&str; 4] = [
        Self::OCI_INDEX,
        Self::OCI_MANIFEST,
        Self::DOCKER_LIST,
        Self::DOCKER_MANIFEST,
    ];

    /// The type, `application/…`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// True for an OCI index and a Docker manifest list.
    pub fn is_index(&self) -> bool {
        matches!(self.as_str(), Self::OCI_INDEX | Self::DOCKER_LIST)
    }

    /// True for an OCI or Docker manifest of one image.
    pub fn is_manifest(&self) -> bool {
        matches!(self.as_str(), Self::OCI_MANIFEST | Self::DOCKER_MANIFEST)
    }
}

impl FromStr for MediaType {
    type Err = MediaTypeError;

    fn from_str(text: &str) -> Result<Self, MediaTypeError> {
        let bare = text.split(';').next().unwrap_or_default().trim();
        let part = |p: &str| {
            !p.is_empty()
                && p.bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&b))
        };
        match bare.split_once('/') {
            Some((kind, subtype)) if part(kind) && part(subtype) && bare.len() <= MEDIA_TYPE_BYTES_MAX => {
                Ok(Self(bare.into()))
            }
            _ => Err(MediaTypeError(text.chars().take(80).collect())),
        }
    }
}

impl fmt::Display for MediaType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for MediaType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for MediaType {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for MediaType {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn parameters_are_dropped_and_unknown_types_kept() {
        let parsed: MediaType = "application/vnd.example.model+zstd; charset=utf-8".parse().unwrap();
        assert_eq!(parsed.as_str(), "application/vnd.example.model+zstd");
    }

    #[test]
    fn what_is_not_a_type_is_refused() {
        for bad in ["", "json", "/", "a/", "/b", "a b/c", "a/b/c", "text/html\r\nx: y"] {
            assert!(bad.parse::<MediaType>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn kinds_are_told_apart() {
        assert!(MediaType::OCI_INDEX.parse::<MediaType>().unwrap().is_index());
        assert!(MediaType::DOCKER_MANIFEST.parse::<MediaType>().unwrap().is_manifest());
        let blob: MediaType = MediaType::OCTET_STREAM.parse().unwrap();
        assert!(!blob.is_index() && !blob.is_manifest());
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics_and_parsed_text_is_stable(text in "\\PC{0,80}") {
            if let Ok(parsed) = text.parse::<MediaType>() {
                prop_assert_eq!(parsed.as_str().parse::<MediaType>().unwrap(), parsed);
            }
        }
    }
}
