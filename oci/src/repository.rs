//! A repository together with the registry it belongs to, and how request paths name one.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::name::{NameError, RepositoryName, SourceHost};

/// A repository of a source registry, printed as `docker.io/library/nginx`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Repository {
    /// The registry.
    pub host: SourceHost,
    /// The name within it.
    pub name: RepositoryName,
}

impl Repository {
    /// Puts a host and a name together; a one-component name of Docker Hub gets its `library/`.
    pub fn new(host: SourceHost, name: RepositoryName) -> Self {
        if host.is_docker_hub() && name.components().nth(1).is_none() {
            let official = format!("library/{name}");
            if let Ok(name) = official.parse() {
                return Self { host, name };
            }
        }
        Self { host, name }
    }

    /// Finds the repository that a `/v2/<name>/…` path means.
    ///
    /// With `ns` (containerd's mirror parameter) the whole path is the name. Without it the first component is the
    /// host if it holds a `.` or is `localhost`, or if it is written `host-port` and `known_host` says that
    /// `host:port` is configured (kuik v1 wrote ports so, since `:` cannot stand there); anything else is Docker Hub's.
    ///
    /// # Errors
    /// [`NameError`] if the first component looks like a host but is not one.
    pub fn from_path(
        name: &RepositoryName,
        ns: Option<&SourceHost>,
        known_host: impl Fn(&SourceHost) -> bool,
    ) -> Result<Self, NameError> {
        if let Some(ns) = ns {
            return Ok(Self::new(ns.clone(), name.clone()));
        }
        let Some((first, rest)) = name.as_str().split_once('/') else {
            return Ok(Self::new(SourceHost::docker_hub(), name.clone()));
        };
        if let Some(host) = Self::host_with_port(name).filter(known_host) {
            return Ok(Self::new(host, rest.parse()?));
        }
        if first.contains('.') || first == "localhost" {
            return Ok(Self::new(first.parse()?, rest.parse()?));
        }
        Ok(Self::new(SourceHost::docker_hub(), name.clone()))
    }

    /// The host with a port that a `/v2/<name>/…` path means, if there is such a host: `reg.io:5000` for
    /// `reg.io-5000/a/b`.
    pub fn host_with_port(name: &RepositoryName) -> Option<SourceHost> {
        let (first, _rest) = name.as_str().split_once('/')?;
        let (host, port) = first.rsplit_once('-')?;
        format!("{host}:{port}").parse().ok()
    }
}

impl FromStr for Repository {
    type Err = NameError;

    /// Reads what [`Display`](fmt::Display) printed: the host up to the first slash, whatever it looks like.
    fn from_str(text: &str) -> Result<Self, NameError> {
        let (host, name) = text.split_once('/').unwrap_or((text, ""));
        Ok(Self {
            host: host.parse()?,
            name: name.parse()?,
        })
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.host, self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from_path(name: &str, ns: Option<&str>) -> String {
        let known = |host: &SourceHost| host.as_str() == "registry.corp:5000" || host.as_str() == "localhost:5000";
        let ns = ns.map(|ns| ns.parse().unwrap());
        Repository::from_path(&name.parse().unwrap(), ns.as_ref(), known)
            .unwrap()
            .to_string()
    }

    #[test]
    fn paths_name_the_repository_a_reader_expects() {
        let table = [
            ("nginx", None, "docker.io/library/nginx"),
            ("grafana/grafana", None, "docker.io/grafana/grafana"),
            ("docker.io/nginx", None, "docker.io/library/nginx"),
            ("docker.io/library/nginx", None, "docker.io/library/nginx"),
            ("quay.io/a/b", None, "quay.io/a/b"),
            ("localhost/a", None, "localhost/a"),
            ("registry.corp-5000/a/b", None, "registry.corp:5000/a/b"),
            ("localhost-5000/a", None, "localhost:5000/a"),
            ("other.corp-5000/a", None, "other.corp-5000/a"),
            ("team-5000/a", None, "docker.io/team-5000/a"),
            ("library/nginx", Some("docker.io"), "docker.io/library/nginx"),
            ("quay.io/a", Some("mirror.example:443"), "mirror.example:443/quay.io/a"),
        ];
        for (path, ns, expected) in table {
            assert_eq!(from_path(path, ns), expected, "{path} {ns:?}");
        }
    }

    #[test]
    fn what_is_printed_reads_back_whatever_the_host_looks_like() {
        for text in [
            "docker.io/library/nginx",
            "registry/team/app",
            "localhost:5000/a",
            "[::1]:5000/a/b",
        ] {
            assert_eq!(text.parse::<Repository>().unwrap().to_string(), text);
        }
        for bad in ["", "docker.io", "docker.io/", "/a", "a b/c"] {
            assert!(bad.parse::<Repository>().is_err(), "{bad}");
        }
    }
}
