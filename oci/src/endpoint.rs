//! The `/v2` routes, parsed once for every server and client here. Source: distribution-spec "Endpoints".

use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};

use crate::digest::{Digest, DigestError};
use crate::name::{NameError, RepositoryName, SourceHost, Tag};
use crate::reference::{ManifestReference, ReferenceError};

/// Longest path or query looked at, in bytes.
const TARGET_BYTES_MAX: usize = 4096;
/// What a query value must escape.
const QUERY: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'<')
    .add(b'>')
    .add(b'&')
    .add(b'+')
    .add(b'%')
    .add(b'=');

/// What a `/v2` request is about. The method is the server's business.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// `/v2/` (end-1).
    Base,
    /// `/v2/<name>/blobs/<digest>` (end-2, end-10).
    Blob {
        /// The repository as the path has it.
        name: RepositoryName,
        /// The blob.
        digest: Digest,
    },
    /// `/v2/<name>/manifests/<reference>` (end-3, end-7, end-9).
    Manifest {
        /// The repository as the path has it.
        name: RepositoryName,
        /// Tag or digest.
        reference: ManifestReference,
    },
    /// `/v2/<name>/blobs/uploads/` (end-4, end-11).
    Uploads {
        /// The repository as the path has it.
        name: RepositoryName,
    },
    /// `/v2/<name>/blobs/uploads/<session>` (end-5, end-6, end-13).
    Upload {
        /// The repository as the path has it.
        name: RepositoryName,
        /// The session as the server named it.
        session: String,
    },
    /// `/v2/<name>/tags/list?n=&last=` (end-8).
    TagsList {
        /// The repository as the path has it.
        name: RepositoryName,
        /// Most tags wanted.
        n: Option<u64>,
        /// The tag to start after.
        last: Option<Tag>,
    },
    /// `/v2/<name>/referrers/<digest>?artifactType=` (end-12).
    Referrers {
        /// The repository as the path has it.
        name: RepositoryName,
        /// The subject.
        digest: Digest,
        /// Only referrers of this type.
        artifact_type: Option<String>,
    },
}

/// Why a path and query are not an [`Endpoint`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// No route has this shape.
    #[error("no such endpoint {0:?}")]
    Unknown(String),
    /// The repository name or the `ns` host is malformed.
    #[error("in the request path or its ns parameter")]
    Name(#[source] NameError),
    /// The digest is malformed.
    #[error("in the request path")]
    Digest(#[source] DigestError),
    /// The tag or digest after `/manifests/` is malformed.
    #[error("in the request path")]
    Reference(#[source] ReferenceError),
    /// A query parameter is malformed.
    #[error("query parameter {name:?} has an unusable value")]
    Query {
        /// Which one.
        name: &'static str,
    },
}

impl Endpoint {
    /// Parses a request target, and containerd's `ns` parameter beside it.
    ///
    /// The name is found from the right, so that repositories may be called `a/manifests/b` or `blobs/uploads`.
    ///
    /// # Errors
    /// [`EndpointError`], by the part that is wrong.
    pub fn parse(path: &str, query: Option<&str>) -> Result<(Self, Option<SourceHost>), EndpointError> {
        let unknown = || EndpointError::Unknown(path.chars().take(120).collect());
        if path.len() > TARGET_BYTES_MAX || query.is_some_and(|q| q.len() > TARGET_BYTES_MAX) {
            return Err(unknown());
        }
        let ns = match query_value(query, "ns") {
            Some(ns) => Some(ns.parse().map_err(EndpointError::Name)?),
            None => None,
        };
        let path = percent_decode_str(path).decode_utf8().map_err(|_| unknown())?;
        let rest = path.strip_prefix("/v2").ok_or_else(unknown)?;
        if matches!(rest, "" | "/") {
            return Ok((Self::Base, ns));
        }
        let rest = rest.strip_prefix('/').ok_or_else(unknown)?;
        let endpoint = parse_named(rest, query)?.ok_or_else(unknown)?;
        Ok((endpoint, ns))
    }

    /// The repository as the path has it; nothing for [`Endpoint::Base`].
    pub fn name(&self) -> Option<&RepositoryName> {
        match self {
            Self::Base => None,
            Self::Blob { name, .. }
            | Self::Manifest { name, .. }
            | Self::Uploads { name }
            | Self::Upload { name, .. }
            | Self::TagsList { name, .. }
            | Self::Referrers { name, .. } => Some(name),
        }
    }

    /// The request target: path and query.
    pub fn path(&self) -> String {
        match self {
            Self::Base => "/v2/".into(),
            Self::Blob { name, digest } => format!("/v2/{name}/blobs/{digest}"),
            Self::Manifest { name, reference } => format!("/v2/{name}/manifests/{reference}"),
            Self::Uploads { name } => format!("/v2/{name}/blobs/uploads/"),
            Self::Upload { name, session } => format!("/v2/{name}/blobs/uploads/{session}"),
            Self::TagsList { name, n, last } => {
                let n = n.map(|n| format!("n={n}"));
                let last = last.as_ref().map(|last| format!("last={last}"));
                with_query(format!("/v2/{name}/tags/list"), [n, last])
            }
            Self::Referrers {
                name,
                digest,
                artifact_type,
            } => {
                let filter = artifact_type
                    .as_ref()
                    .map(|kind| format!("artifactType={}", utf8_percent_encode(kind, QUERY)));
                with_query(format!("/v2/{name}/referrers/{digest}"), [filter, None])
            }
        }
    }
}

fn with_query(path: String, parameters: [Option<String>; 2]) -> String {
    let query: Vec<_> = parameters.into_iter().flatten().collect();
    if query.is_empty() {
        path
    } else {
        format!("{path}?{}", query.join("&"))
    }
}

fn parse_named(rest: &str, query: Option<&str>) -> Result<Option<Endpoint>, EndpointError> {
    let name = |text: &str| text.parse::<RepositoryName>().map_err(EndpointError::Name);
    if let Some(text) = rest.strip_suffix("/tags/list") {
        return Ok(Some(tags_list(name(text)?, query)?));
    }
    if let Some(text) = rest
        .strip_suffix("/blobs/uploads/")
        .or_else(|| rest.strip_suffix("/blobs/uploads"))
    {
        return Ok(Some(Endpoint::Uploads { name: name(text)? }));
    }
    let Some((before, last)) = rest.rsplit_once('/') else {
        return Ok(None);
    };
    if let Some(text) = before.strip_suffix("/blobs/uploads") {
        return Ok(Some(Endpoint::Upload {
            name: name(text)?,
            session: last.to_owned(),
        }));
    }
    if let Some(text) = before.strip_suffix("/manifests") {
        let name = name(text)?;
        let reference = last.parse().map_err(EndpointError::Reference)?;
        return Ok(Some(Endpoint::Manifest { name, reference }));
    }
    if let Some(text) = before.strip_suffix("/blobs") {
        let name = name(text)?;
        return Ok(Some(Endpoint::Blob {
            name,
            digest: last.parse().map_err(EndpointError::Digest)?,
        }));
    }
    if let Some(text) = before.strip_suffix("/referrers") {
        let name = name(text)?;
        let digest = last.parse().map_err(EndpointError::Digest)?;
        return Ok(Some(Endpoint::Referrers {
            name,
            digest,
            artifact_type: query_value(query, "artifactType"),
        }));
    }
    Ok(None)
}

fn tags_list(name: RepositoryName, query: Option<&str>) -> Result<Endpoint, EndpointError> {
    let n = match query_value(query, "n") {
        Some(n) => Some(n.parse().map_err(|_| EndpointError::Query { name: "n" })?),
        None => None,
    };
    let last = match query_value(query, "last").filter(|last| !last.is_empty()) {
        Some(last) => Some(last.parse().map_err(|_| EndpointError::Query { name: "last" })?),
        None => None,
    };
    Ok(Endpoint::TagsList { name, n, last })
}

fn query_value(query: Option<&str>, name: &str) -> Option<String> {
    let (_, value) = query?
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .find(|(key, _)| *key == name)?;
    Some(percent_decode_str(value).decode_utf8_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(target: &str) -> Result<(Endpoint, Option<SourceHost>), EndpointError> {
        match target.split_once('?') {
            Some((path, query)) => Endpoint::parse(path, Some(query)),
            None => Endpoint::parse(target, None),
        }
    }

    fn name(text: &str) -> RepositoryName {
        text.parse().unwrap()
    }

    #[test]
    fn both_forms_of_the_base_are_known() {
        assert_eq!(parse("/v2/").unwrap().0, Endpoint::Base);
        assert_eq!(parse("/v2").unwrap().0, Endpoint::Base);
    }

    #[test]
    fn repositories_may_be_called_like_routes() {
        let reference: ManifestReference = "latest".parse().unwrap();
        for repository in [
            "a/manifests/b",
            "blobs/uploads",
            "x/tags/list",
            "a/referrers/b",
            "manifests/x",
        ] {
            let expected = Endpoint::Manifest {
                name: name(repository),
                reference: reference.clone(),
            };
            assert_eq!(
                parse(&format!("/v2/{repository}/manifests/latest")).unwrap().0,
                expected
            );
        }
        let digest = Digest::sha256(b"x");
        let expected = Endpoint::Blob {
            name: name("blobs/uploads"),
            digest: digest.clone(),
        };
        assert_eq!(parse(&format!("/v2/blobs/uploads/blobs/{digest}")).unwrap().0, expected);
    }

    #[test]
    fn digests_may_be_percent_encoded() {
        let digest = Digest::sha256(b"x");
        let encoded = digest.as_str().replace(':', "%3A");
        assert_eq!(
            parse(&format!("/v2/a/blobs/{encoded}")).unwrap().0,
            Endpoint::Blob {
                name: name("a"),
                digest
            }
        );
    }

    #[test]
    fn the_namespace_of_a_mirror_is_read() {
        let host = |target: &str| parse(target).unwrap().1.unwrap().to_string();
        assert_eq!(host("/v2/library/nginx/manifests/1?ns=docker.io"), "docker.io");
        assert_eq!(host("/v2/a/manifests/1?ns=quay.io:443"), "quay.io:443");
        assert_eq!(host("/v2/a/manifests/1?ns=quay.io%3A443"), "quay.io:443");
        assert!(matches!(
            parse("/v2/a/manifests/1?ns=a%20b"),
            Err(EndpointError::Name(_))
        ));
        assert!(matches!(parse("/v2/a/manifests/1?ns="), Err(EndpointError::Name(_))));
    }

    #[test]
    fn tag_lists_and_referrers_carry_their_parameters() {
        let tags = parse("/v2/a/tags/list?n=10&last=b").unwrap().0;
        assert_eq!(
            tags,
            Endpoint::TagsList {
                name: name("a"),
                n: Some(10),
                last: Some("b".parse().unwrap())
            }
        );
        assert!(matches!(
            parse("/v2/a/tags/list?n=x"),
            Err(EndpointError::Query { name: "n" })
        ));
        let digest = Digest::sha256(b"x");
        let referrers = parse(&format!("/v2/a/referrers/{digest}?artifactType=a%2Fb%2Bc"))
            .unwrap()
            .0;
        assert_eq!(
            referrers,
            Endpoint::Referrers {
                name: name("a"),
                digest,
                artifact_type: Some("a/b+c".into())
            }
        );
    }

    #[test]
    fn each_wrong_part_is_named() {
        assert!(matches!(parse("/v2/a/blobs/sha256:bad"), Err(EndpointError::Digest(_))));
        assert!(matches!(
            parse("/v2/a/manifests/sha256:bad"),
            Err(EndpointError::Reference(_))
        ));
        assert!(matches!(parse("/v2/A/manifests/x"), Err(EndpointError::Name(_))));
        for unknown in ["/", "/v1/", "/v2x", "/v2/a", "/v2/a/b", "/v2/_catalog"] {
            assert!(matches!(parse(unknown), Err(EndpointError::Unknown(_))), "{unknown}");
        }
    }

    #[test]
    fn uploads_are_told_from_blobs() {
        assert_eq!(
            parse("/v2/a/blobs/uploads/").unwrap().0,
            Endpoint::Uploads { name: name("a") }
        );
        let session = Endpoint::Upload {
            name: name("a"),
            session: "s-1".into(),
        };
        assert_eq!(parse("/v2/a/blobs/uploads/s-1").unwrap().0, session);
    }

    proptest! {
        #[test]
        fn printed_endpoints_parse_back(
            repository in "[a-z]{1,4}(/(manifests|blobs|uploads|tags|list|referrers|[a-z]{1,4})){0,5}",
            kind in 0..5u8, tag in "[a-z0-9_]{1,8}", artifact_type in "\\PC{1,10}",
        ) {
            let (name, digest) = (name(&repository), Digest::sha256(tag.as_bytes()));
            let endpoint = match kind {
                0 => Endpoint::Blob { name, digest },
                1 => Endpoint::Manifest { name, reference: tag.parse().unwrap() },
                2 => Endpoint::TagsList { name, n: Some(7), last: Some(tag.parse().unwrap()) },
                3 => Endpoint::Referrers { name, digest, artifact_type: Some(artifact_type) },
                _ => Endpoint::Upload { name, session: tag },
            };
            prop_assert_eq!(parse(&endpoint.path()).unwrap().0, endpoint);
        }

        #[test]
        fn arbitrary_targets_never_panic(path in "(/v2)?/\\PC{0,80}", query in "\\PC{0,40}") {
            let _ = Endpoint::parse(&path, Some(&query));
        }
    }
}
