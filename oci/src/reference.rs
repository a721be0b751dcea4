//! References to manifests and images.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::digest::{Digest, DigestError};
use crate::name::{NameError, RepositoryName, SourceHost, Tag};
use crate::repository::Repository;

/// The `<reference>` of a manifest path: a tag or a digest.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ManifestReference {
    /// A name that may move.
    Tag(Tag),
    /// The content itself.
    Digest(Digest),
}

/// An image as written in a pod: `nginx`, `quay.io/a/b:1`, `host:5000/a@sha256:…`.
///
/// Docker's rules apply: no host means `docker.io`, one component there means `library/`, neither tag nor digest means
/// `latest` (see [`ImageReference::manifest`]). Source: `distribution/reference`, `ParseNormalizedNamed`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ImageReference {
    /// Where the image lives.
    pub repository: Repository,
    /// The tag, if one is written.
    pub tag: Option<Tag>,
    /// The digest, if one is written; it decides even beside a tag.
    pub digest: Option<Digest>,
}

/// Why a string is not an image or manifest reference.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// Host, repository or tag is malformed.
    #[error("image reference {text:?}")]
    Name {
        /// What was parsed.
        text: String,
        /// The part that is wrong.
        source: NameError,
    },
    /// The digest is malformed.
    #[error("image reference {text:?}")]
    Digest {
        /// What was parsed.
        text: String,
        /// What is wrong with it.
        source: DigestError,
    },
    /// It is an image, and no path of the proxy means it.
    #[error("image reference {text:?} cannot be rewritten: {reason}")]
    NotRewritable {
        /// What was parsed.
        text: String,
        /// Why not.
        reason: &'static str,
    },
}

impl ManifestReference {
    /// The digest, where this is one.
    pub fn digest(&self) -> Option<&Digest> {
        match self {
            Self::Digest(digest) => Some(digest),
            Self::Tag(_) => None,
        }
    }

    /// The tag, where this is one.
    pub fn tag(&self) -> Option<&Tag> {
        match self {
            Self::Tag(tag) => Some(tag),
            Self::Digest(_) => None,
        }
    }
}

impl FromStr for ManifestReference {
    type Err = ReferenceError;

    /// A `:` makes it a digest: no tag holds one, so a malformed digest is never taken for a tag.
    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        if text.contains(':') {
            text.parse().map(Self::Digest).map_err(|source| ReferenceError::Digest {
                text: text.into(),
                source,
            })
        } else {
            text.parse().map(Self::Tag).map_err(|source| ReferenceError::Name {
                text: text.into(),
                source,
            })
        }
    }
}

impl fmt::Display for ManifestReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => tag.fmt(f),
            Self::Digest(digest) => digest.fmt(f),
        }
    }
}

impl ImageReference {
    /// The one way to write it that cache nodes, webhook and controller share: `host/name@digest`, else
    /// `host/name:tag`, with what Docker's rules fill in.
    pub fn canonical(&self) -> String {
        match self.manifest() {
            ManifestReference::Digest(digest) => format!("{}@{digest}", self.repository),
            ManifestReference::Tag(tag) => format!("{}:{tag}", self.repository),
        }
    }

    /// What a runtime asks the registry for: the digest, else the tag, else `latest`.
    pub fn manifest(&self) -> ManifestReference {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => ManifestReference::Digest(digest.clone()),
            (None, Some(tag)) => ManifestReference::Tag(tag.clone()),
            (None, None) => ManifestReference::Tag("latest".parse().expect("`latest` matches the tag grammar")),
        }
    }
}

fn split_host(name: &str) -> Result<(SourceHost, &str), NameError> {
    match name.split_once('/') {
        Some((first, rest)) if first.contains(['.', ':']) || first == "localhost" || has_upper(first) => {
            Ok((first.parse()?, rest))
        }
        _ => Ok((SourceHost::docker_hub(), name)),
    }
}

fn has_upper(text: &str) -> bool {
    text.bytes().any(|b| b.is_ascii_uppercase())
}

impl FromStr for ImageReference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let in_name = |source| ReferenceError::Name {
            text: text.into(),
            source,
        };
        let (named, digest) = match text.split_once('@') {
            Some((named, digest)) => {
                let digest = digest.parse().map_err(|source| ReferenceError::Digest {
                    text: text.into(),
                    source,
                })?;
                (named, Some(digest))
            }
            None => (text, None),
        };
        let after_slash = named.rfind('/').map_or(0, |slash| slash + 1);
        let (name, tag) = match named[after_slash..].rfind(':') {
            Some(colon) => (&named[..after_slash + colon], Some(&named[after_slash + colon + 1..])),
            None => (named, None),
        };
        let tag = tag.map(str::parse).transpose().map_err(in_name)?;
        let (host, name) = split_host(name).map_err(in_name)?;
        let name: RepositoryName = name.parse().map_err(in_name)?;
        Ok(Self {
            repository: Repository::new(host, name),
            tag,
            digest,
        })
    }
}

impl TryFrom<String> for ImageReference {
    type Error = ReferenceError;

    fn try_from(text: String) -> Result<Self, ReferenceError> {
        text.parse()
    }
}

impl From<ImageReference> for String {
    fn from(reference: ImageReference) -> Self {
        reference.to_string()
    }
}

impl fmt::Display for ImageReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.repository.fmt(f)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn docker_hub_rules_fill_in_what_is_not_written() {
        let digest = Digest::sha256(b"x");
        let table = [
            ("nginx".to_owned(), "docker.io/library/nginx".to_owned()),
            ("nginx:1.27".into(), "docker.io/library/nginx:1.27".into()),
            ("grafana/grafana".into(), "docker.io/grafana/grafana".into()),
            ("localhost/a".into(), "localhost/a".into()),
            ("localhost:5000/a:b".into(), "localhost:5000/a:b".into()),
            ("[::1]:5000/a:b".into(), "[::1]:5000/a:b".into()),
            ("index.docker.io/nginx".into(), "docker.io/library/nginx".into()),
            (format!("quay.io/a/b:1@{digest}"), format!("quay.io/a/b:1@{digest}")),
        ];
        for (text, expected) in table {
            assert_eq!(text.parse::<ImageReference>().unwrap().to_string(), expected, "{text}");
        }
    }

    #[test]
    fn what_is_pulled_is_the_digest_then_the_tag_then_latest() {
        let digest = Digest::sha256(b"x");
        let manifest = |text: &str| text.parse::<ImageReference>().unwrap().manifest().to_string();
        assert_eq!(manifest(&format!("a:1@{digest}")), digest.to_string());
        assert_eq!(manifest("a:1"), "1");
        assert_eq!(manifest("a"), "latest");
    }

    #[test]
    fn canonical_references_say_host_name_and_what_is_pulled() {
        let digest = Digest::sha256(b"x");
        let canonical = |text: &str| text.parse::<ImageReference>().unwrap().canonical();
        assert_eq!(canonical("nginx"), "docker.io/library/nginx:latest");
        assert_eq!(canonical("reg.io:5000/a:1"), "reg.io:5000/a:1");
        assert_eq!(
            canonical(&format!("quay.io/a:1@{digest}")),
            format!("quay.io/a@{digest}")
        );
    }

    #[test]
    fn a_malformed_digest_is_not_a_tag() {
        assert!(matches!(
            "sha256:bad".parse::<ManifestReference>(),
            Err(ReferenceError::Digest { .. })
        ));
    }

    #[test]
    fn malformed_images_are_refused() {
        for bad in [
            "",
            ":",
            "a:",
            "a@",
            "a@sha256:0",
            "A/b/C",
            "a b",
            "http://a/b",
            "a//b",
            "quay.io/",
        ] {
            assert!(bad.parse::<ImageReference>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn printing_parses_back(text in "([a-z]{1,5}(\\.[a-z]{1,3}|:[1-9][0-9]{0,3})/)?[a-z]{1,6}(/[a-z]{1,6}){0,3}(:[a-zA-Z0-9_]{1,9})?") {
            let parsed: ImageReference = text.parse().unwrap();
            prop_assert_eq!(parsed.to_string().parse::<ImageReference>().unwrap(), parsed);
        }

        #[test]
        fn arbitrary_text_never_panics(text in "\\PC{0,80}") {
            let _ = text.parse::<ImageReference>();
            let _ = text.parse::<ManifestReference>();
        }
    }
}
