//! Credentials in the form of docker's `config.json`.
//!
//! `auths` keys are hosts, hosts with a repository prefix, or the URLs docker writes (`https://index.docker.io/v1/`);
//! the longest prefix wins. Credential helpers are programs on someone's machine and are not run: what they hold is
//! not found here, and such entries are skipped.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use oci::{Repository, SourceHost};
use serde::Deserialize;

/// Something to prove who we are with. `Debug` shows no secret.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum Credential {
    /// A user and a password.
    Basic {
        /// The user.
        username: String,
        /// The password.
        password: String,
    },
    /// An OAuth refresh token, exchanged at the token server.
    IdentityToken(String),
    /// A bearer token, sent to the registry as it is.
    RegistryToken(String),
}

/// Which credential belongs to which repositories.
#[derive(Clone, Debug, Default)]
pub struct Credentials {
    entries: Vec<Entry>,
}

#[derive(Clone, Debug)]
struct Entry {
    host: SourceHost,
    /// Leading components of the repository name; empty for the whole host.
    prefix: String,
    credential: Arc<Credential>,
}

/// Why a docker configuration gives no credentials.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// Not JSON of that shape.
    #[error("not a docker config.json")]
    Json(#[source] serde_json::Error),
    /// A key that names no registry.
    #[error("auths key {key:?} names no registry")]
    Key {
        /// The key.
        key: String,
    },
    /// `auth` is not base64 of `user:password`.
    #[error("auths entry {key:?} has an `auth` that is not base64 of user:password")]
    Auth {
        /// The key of the entry.
        key: String,
    },
}

#[derive(Deserialize)]
struct DockerConfig {
    #[serde(default)]
    auths: BTreeMap<String, DockerAuth>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct DockerAuth {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
    registrytoken: Option<String>,
}

impl Credentials {
    /// Reads a docker `config.json` (a Kubernetes `.dockerconfigjson` is the same).
    ///
    /// # Errors
    /// [`CredentialsError`], naming the key; never the secret.
    pub fn from_docker_config(json: &[u8]) -> Result<Self, CredentialsError> {
        let config: DockerConfig = serde_json::from_slice(json).map_err(CredentialsError::Json)?;
        let mut credentials = Self::default();
        for (key, auth) in config.auths {
            let (host, prefix) = parse_key(&key).ok_or_else(|| CredentialsError::Key { key: key.clone() })?;
            if let Some(credential) = auth.credential().map_err(|()| CredentialsError::Auth { key })? {
                credentials.add(host, &prefix, credential);
            }
        }
        Ok(credentials)
    }

    /// Adds a credential for the repositories of `host` below `prefix` (empty: all of them).
    pub fn add(&mut self, host: SourceHost, prefix: &str, credential: Credential) {
        let prefix = prefix.trim_matches('/').to_owned();
        self.entries.push(Entry {
            host,
            prefix,
            credential: Arc::new(credential),
        });
    }

    /// The credential with the longest prefix of this repository.
    pub(crate) fn find(&self, host: &SourceHost, name: &str) -> Option<&Arc<Credential>> {
        let matching = self
            .entries
            .iter()
            .filter(|entry| entry.host == *host && is_below(name, &entry.prefix));
        matching
            .max_by_key(|entry| entry.prefix.len())
            .map(|entry| &entry.credential)
    }

    /// True if a credential is known for this repository.
    pub fn covers(&self, repository: &Repository) -> bool {
        self.find(&repository.host, repository.name.as_str()).is_some()
    }
}

impl DockerAuth {
    fn credential(self) -> Result<Option<Credential>, ()> {
        let some = |text: Option<String>| text.filter(|text| !text.is_empty());
        if let Some(token) = some(self.identitytoken) {
            return Ok(Some(Credential::IdentityToken(token)));
        }
        if let Some(token) = some(self.registrytoken) {
            return Ok(Some(Credential::RegistryToken(token)));
        }
        if let Some(auth) = some(self.auth) {
            return decode_auth(&auth).map(Some);
        }
        Ok(some(self.username).map(|username| {
            let password = self.password.unwrap_or_default();
            Credential::Basic { username, password }
        }))
    }
}

fn decode_auth(auth: &str) -> Result<Credential, ()> {
    let trimmed = auth.trim();
    let bytes = STANDARD
        .decode(trimmed)
        .or_else(|_| STANDARD_NO_PAD.decode(trimmed))
        .map_err(|_| ())?;
    let text = String::from_utf8(bytes).map_err(|_| ())?;
    let (username, password) = text.split_once(':').ok_or(())?;
    let password = password.trim_end_matches('\0').to_owned();
    Ok(Credential::Basic {
        username: username.to_owned(),
        password,
    })
}

fn parse_key(key: &str) -> Option<(SourceHost, String)> {
    let bare = key
        .strip_prefix("https://")
        .or_else(|| key.strip_prefix("http://"))
        .unwrap_or(key);
    let (host, path) = bare.split_once('/').unwrap_or((bare, ""));
    let path = path.trim_matches('/');
    let prefix = match path.split_once('/') {
        Some(("v1" | "v2", rest)) => rest,
        None if matches!(path, "v1" | "v2") => "",
        _ => path,
    };
    Some((host.parse().ok()?, prefix.to_owned()))
}

fn is_below(name: &str, prefix: &str) -> bool {
    prefix.is_empty()
        || name
            .strip_prefix(prefix)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Basic { username, .. } => write!(f, "Basic({username})"),
            Self::IdentityToken(_) => f.write_str("IdentityToken"),
            Self::RegistryToken(_) => f.write_str("RegistryToken"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(json: &str, host: &str, name: &str) -> Option<Credential> {
        let credentials = Credentials::from_docker_config(json.as_bytes()).unwrap();
        credentials
            .find(&host.parse().unwrap(), name)
            .map(|credential| Credential::clone(credential))
    }

    fn basic(username: &str, password: &str) -> Option<Credential> {
        Some(Credential::Basic {
            username: username.into(),
            password: password.into(),
        })
    }

    #[test]
    fn the_longest_prefix_wins_on_component_borders() {
        let json = r#"{"auths": {
            "quay.io": {"username": "all", "password": "1"},
            "quay.io/org": {"username": "org", "password": "2"},
            "quay.io/org/team": {"username": "team", "password": "3"}}}"#;
        assert_eq!(found(json, "quay.io", "other/app"), basic("all", "1"));
        assert_eq!(found(json, "quay.io", "organic/app"), basic("all", "1"));
        assert_eq!(found(json, "quay.io", "org/app"), basic("org", "2"));
        assert_eq!(found(json, "quay.io", "org/team"), basic("team", "3"));
        assert_eq!(found(json, "ghcr.io", "org/team"), None);
    }

    #[test]
    fn docker_writes_hub_and_auth_in_its_own_way() {
        // "user:pa:ss"
        let json = r#"{"auths": {"https://index.docker.io/v1/": {"auth": "dXNlcjpwYTpzcw=="}}, "credsStore": "x"}"#;
        assert_eq!(found(json, "docker.io", "library/nginx"), basic("user", "pa:ss"));
    }

    #[test]
    fn tokens_win_over_the_placeholder_user() {
        let json = r#"{"auths": {"r.example:5000": {"auth": "PHRva2VuPjo=", "identitytoken": "t"}}}"#;
        assert_eq!(
            found(json, "r.example:5000", "a"),
            Some(Credential::IdentityToken("t".into()))
        );
    }

    #[test]
    fn entries_left_to_a_helper_are_skipped() {
        assert_eq!(
            found(
                r#"{"auths": {"quay.io": {}}, "credHelpers": {"quay.io": "x"}}"#,
                "quay.io",
                "a"
            ),
            None
        );
    }

    #[test]
    fn broken_entries_are_named_without_their_secret() {
        let error = Credentials::from_docker_config(br#"{"auths": {"quay.io": {"auth": "c2VjcmV0"}}}"#).unwrap_err();
        assert!(
            error.to_string().contains("quay.io") && !error.to_string().contains("c2VjcmV0"),
            "{error}"
        );
        assert!(Credentials::from_docker_config(br#"{"auths": {"not a host": {}}}"#).is_err());
        assert!(Credentials::from_docker_config(b"nonsense").is_err());
        assert!(!format!("{:?}", basic("u", "hidden")).contains("hidden"));
    }
}
