//! Where a registry's API is.

use std::fmt;
use std::str::FromStr;

use http::Uri;
use oci::SourceHost;

use crate::origin::Origin;

/// Docker Hub's API is not at the name it goes by.
const DOCKER_HUB_API: &str = "registry-1.docker.io";

/// A `http://` or `https://` URL that a registry answers under.
///
/// `https://mirror.example/base` means `https://mirror.example/base/v2/<name>/…`; a path that holds `/v2` itself puts
/// what follows before the name: `https://harbor.example/v2/hub` means `https://harbor.example/v2/hub/<name>/…`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseUrl {
    origin: Origin,
    before_v2: String,
    name_prefix: String,
}

/// Why a text is no [`BaseUrl`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("url {text:?}: {reason}")]
pub struct BaseUrlError {
    text: String,
    reason: &'static str,
}

impl BaseUrl {
    /// Where `host` is when nobody says otherwise: at its own name by https.
    pub fn default_of(host: &SourceHost) -> Self {
        let name = if host.is_docker_hub() {
            DOCKER_HUB_API
        } else {
            host.host()
        };
        let authority = format!("https://{name}:{}", host.port().unwrap_or(443));
        authority.parse().expect("a source host is a valid authority")
    }

    pub(crate) fn origin(&self) -> &Origin {
        &self.origin
    }

    /// What stands between `/v2/` and the repository name, with its final slash; mostly nothing.
    pub(crate) fn name_prefix(&self) -> &str {
        &self.name_prefix
    }

    /// The URI of an endpoint's path (`/v2/…`) under this URL.
    pub(crate) fn uri(&self, endpoint_path: &str) -> Result<Uri, http::uri::InvalidUri> {
        let after_v2 = endpoint_path.strip_prefix("/v2/").unwrap_or_default();
        let prefix = if after_v2.is_empty() { "" } else { &self.name_prefix };
        format!("{}{}/v2/{prefix}{after_v2}", self.origin, self.before_v2).parse()
    }
}

impl FromStr for BaseUrl {
    type Err = BaseUrlError;

    fn from_str(text: &str) -> Result<Self, BaseUrlError> {
        let error = |reason| BaseUrlError {
            text: text.to_owned(),
            reason,
        };
        let uri: Uri = text.parse().map_err(|_| error("not a URL"))?;
        let origin = Origin::of(&uri).ok_or_else(|| error("must begin with http:// or https:// and name a host"))?;
        if uri
            .authority()
            .is_some_and(|authority| authority.as_str().contains('@'))
        {
            return Err(error("credentials belong in the credentials file"));
        }
        if uri.query().is_some() {
            return Err(error("must not have a query"));
        }
        let path = uri.path().trim_end_matches('/');
        let (before_v2, name_prefix) = match path.split_once("/v2/") {
            Some((before, prefix)) => (before, format!("{}/", prefix.trim_matches('/'))),
            None => (path.strip_suffix("/v2").unwrap_or(path), String::new()),
        };
        Ok(Self {
            origin,
            before_v2: before_v2.to_owned(),
            name_prefix,
        })
    }
}

impl fmt::Display for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}/v2/{}", self.origin, self.before_v2, self.name_prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_go_below_the_url() {
        let table = [
            (
                "https://a.example",
                "/v2/n/tags/list",
                "https://a.example:443/v2/n/tags/list",
            ),
            ("http://127.0.0.1:5000/", "/v2/", "http://127.0.0.1:5000/v2/"),
            (
                "http://[::1]:5000",
                "/v2/n/blobs/x?y=1",
                "http://[::1]:5000/v2/n/blobs/x?y=1",
            ),
            (
                "https://a.example/base",
                "/v2/n/blobs/x",
                "https://a.example:443/base/v2/n/blobs/x",
            ),
            (
                "https://a.example/base/v2",
                "/v2/n/blobs/x",
                "https://a.example:443/base/v2/n/blobs/x",
            ),
            (
                "https://a.example/v2/hub",
                "/v2/n/blobs/x",
                "https://a.example:443/v2/hub/n/blobs/x",
            ),
            ("https://a.example/v2/hub", "/v2/", "https://a.example:443/v2/"),
        ];
        for (base, path, expected) in table {
            let base: BaseUrl = base.parse().unwrap();
            assert_eq!(base.uri(path).unwrap().to_string(), expected);
        }
    }

    #[test]
    fn docker_hub_is_at_its_api_host() {
        let base = |host: &str| BaseUrl::default_of(&host.parse().unwrap()).to_string();
        assert_eq!(base("docker.io"), "https://registry-1.docker.io:443/v2/");
        assert_eq!(base("quay.io"), "https://quay.io:443/v2/");
        assert_eq!(base("[::1]:5000"), "https://[::1]:5000/v2/");
    }

    #[test]
    fn urls_that_cannot_work_are_refused_with_a_reason() {
        for url in [
            "quay.io",
            "ftp://quay.io",
            "https://user:pw@quay.io",
            "https://quay.io?x=1",
            "https://",
            "",
        ] {
            assert!(url.parse::<BaseUrl>().is_err(), "{url}");
        }
    }
}
