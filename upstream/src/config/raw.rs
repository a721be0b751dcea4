//! The configuration as written by a person.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use oci::SourceHost;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde::{Deserialize, Serialize};

use crate::config::{
    BaseUrl, ClientIdentity, ConfigError, Credentials, HostRule, Patience, ProxyRules, UpstreamConfig,
};

/// The `upstream` section of a configuration file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawUpstreamConfig {
    /// By source host as image references write it (`docker.io`, `registry.corp:5000`).
    pub hosts: BTreeMap<String, RawHostRule>,
    /// A docker `config.json`.
    pub credentials_file: Option<PathBuf>,
    /// Takes no notice of `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY`.
    pub ignore_proxy_environment: bool,
    /// See [`crate::CONNECT_TIMEOUT`].
    pub connect_timeout_ms: Option<u64>,
    /// See [`crate::HEADER_TIMEOUT`].
    pub header_timeout_ms: Option<u64>,
    /// See [`crate::NO_PROGRESS_TIMEOUT`].
    pub no_progress_timeout_ms: Option<u64>,
    /// What we call ourselves.
    pub user_agent: Option<String>,
}

/// What is special about one source host, as written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawHostRule {
    /// Where its API is; by default at its own name by https.
    pub url: Option<String>,
    /// Takes any certificate.
    pub insecure: bool,
    /// PEM files of certificate authorities beside the system's.
    pub ca_files: Vec<PathBuf>,
    /// PEM file of a client certificate chain.
    pub client_certificate: Option<PathBuf>,
    /// PEM file of its key.
    pub client_key: Option<PathBuf>,
    /// Hosts outside its domain whose token server may see its credentials.
    pub realms: Vec<String>,
}

impl RawUpstreamConfig {
    /// Checks everything, and reads the files named (blocking).
    ///
    /// # Errors
    /// [`ConfigError`], naming key and host.
    pub fn load(&self) -> Result<UpstreamConfig, ConfigError> {
        let defaults = UpstreamConfig::default();
        let proxies = if self.ignore_proxy_environment {
            ProxyRules::default()
        } else {
            ProxyRules::from_environment().map_err(ConfigError::Proxy)?
        };
        Ok(UpstreamConfig {
            hosts: self
                .hosts
                .iter()
                .map(|(key, rule)| load_host(key, rule))
                .collect::<Result<_, _>>()?,
            credentials: self.load_credentials()?,
            proxies,
            connect_timeout: duration("connect_timeout_ms", self.connect_timeout_ms, defaults.connect_timeout)?,
            patience: Patience {
                headers: duration("header_timeout_ms", self.header_timeout_ms, defaults.patience.headers)?,
                no_progress: duration(
                    "no_progress_timeout_ms",
                    self.no_progress_timeout_ms,
                    defaults.patience.no_progress,
                )?,
                retry: defaults.patience.retry,
            },
            user_agent: user_agent(self.user_agent.clone().unwrap_or(defaults.user_agent))?,
        })
    }

    fn load_credentials(&self) -> Result<Credentials, ConfigError> {
        let Some(path) = &self.credentials_file else {
            return Ok(Credentials::default());
        };
        let json = read("credentials_file", path)?;
        Credentials::from_docker_config(&json).map_err(|source| ConfigError::Credentials {
            path: path.clone(),
            source,
        })
    }
}

fn load_host(key: &str, rule: &RawHostRule) -> Result<(SourceHost, HostRule), ConfigError> {
    let host: SourceHost = key.parse().map_err(|source| ConfigError::Host {
        key: key.to_owned(),
        source,
    })?;
    let url = match &rule.url {
        Some(url) => url.parse().map_err(|source| ConfigError::Url {
            host: key.to_owned(),
            source,
        })?,
        None => BaseUrl::default_of(&host),
    };
    let mut extra_roots = Vec::new();
    for path in &rule.ca_files {
        extra_roots.extend(certificates(&format!("hosts.{key:?}.ca_files"), path)?);
    }
    let identity = load_identity(key, rule)?;
    Ok((
        host,
        HostRule {
            url,
            insecure: rule.insecure,
            extra_roots,
            identity,
            realms: rule.realms.clone(),
        },
    ))
}

fn load_identity(host: &str, rule: &RawHostRule) -> Result<Option<Arc<ClientIdentity>>, ConfigError> {
    let (certificate, key) = match (&rule.client_certificate, &rule.client_key) {
        (None, None) => return Ok(None),
        (Some(certificate), Some(key)) => (certificate, key),
        _ => {
            let reason = "needs both client_certificate and client_key";
            return Err(ConfigError::Value {
                key: format!("hosts.{host:?}"),
                reason,
            });
        }
    };
    let chain = certificates(&format!("hosts.{host:?}.client_certificate"), certificate)?;
    let key_name = format!("hosts.{host:?}.client_key");
    let pem = read(&key_name, key)?;
    let key = PrivateKeyDer::from_pem_slice(&pem).map_err(|error| ConfigError::Certificate {
        key: key_name,
        path: key.clone(),
        reason: format!("holds no private key ({error})"),
    })?;
    Ok(Some(Arc::new(ClientIdentity { chain, key })))
}

fn certificates(key: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
    let pem = read(key, path)?;
    let bad = |reason: String| ConfigError::Certificate {
        key: key.to_owned(),
        path: path.to_owned(),
        reason,
    };
    let found: Vec<_> = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<_, _>>()
        .map_err(|e| bad(format!("is not PEM ({e})")))?;
    if found.is_empty() {
        Err(bad("holds no certificate".to_owned()))
    } else {
        Ok(found)
    }
}

fn read(key: &str, path: &Path) -> Result<Vec<u8>, ConfigError> {
    fs::read(path).map_err(|source| ConfigError::Read {
        key: key.to_owned(),
        path: path.to_owned(),
        source,
    })
}

fn duration(key: &str, written_ms: Option<u64>, default: Duration) -> Result<Duration, ConfigError> {
    match written_ms {
        None => Ok(default),
        Some(ms @ 1..=3_600_000) => Ok(Duration::from_millis(ms)),
        Some(_) => Err(ConfigError::Value {
            key: key.to_owned(),
            reason: "must be from 1 to 3600000",
        }),
    }
}

fn user_agent(text: String) -> Result<String, ConfigError> {
    match http::HeaderValue::from_str(&text) {
        Ok(_) => Ok(text),
        Err(_) => Err(ConfigError::Value {
            key: "user_agent".to_owned(),
            reason: "must be printable ASCII",
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(json: &str) -> Result<UpstreamConfig, String> {
        let raw: RawUpstreamConfig = serde_json::from_str(json).map_err(|error| error.to_string())?;
        raw.load().map_err(|error| error.to_string())
    }

    #[test]
    fn defaults_and_hosts_are_filled_in() {
        let json = r#"{"ignore_proxy_environment": true, "header_timeout_ms": 1500,
            "hosts": {"docker.io": {"url": "http://127.0.0.1:5000"}, "registry.corp:5000": {"insecure": true}}}"#;
        let config = load(json).unwrap();
        assert_eq!(config.patience.headers, Duration::from_millis(1500));
        assert_eq!(config.connect_timeout, crate::CONNECT_TIMEOUT);
        let hub = config.rule(&SourceHost::docker_hub()).unwrap();
        assert_eq!(hub.url.to_string(), "http://127.0.0.1:5000/v2/");
        let corp = config.rule(&"registry.corp:5000".parse().unwrap()).unwrap();
        assert_eq!(
            (corp.insecure, corp.url.to_string()),
            (true, "https://registry.corp:5000/v2/".to_owned())
        );
        assert!(config.knows(&"docker.io:443".parse().unwrap()) && !config.knows(&"quay.io".parse().unwrap()));
    }

    #[test]
    fn files_are_read_once_and_checked() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, content: &str| {
            let path = directory.path().join(name);
            fs::write(&path, content).unwrap();
            path
        };
        let signed = rcgen::generate_simple_self_signed(vec!["quay.io".to_owned()]).unwrap();
        let certificate = write("certificate.pem", &signed.cert.pem());
        let key = write("key.pem", &signed.signing_key.serialize_pem());
        let auths = write(
            "config.json",
            r#"{"auths": {"quay.io": {"username": "u", "password": "p"}}}"#,
        );
        let rule = RawHostRule {
            ca_files: vec![certificate.clone()],
            client_certificate: Some(certificate.clone()),
            client_key: Some(key),
            ..RawHostRule::default()
        };
        let mut raw = RawUpstreamConfig {
            hosts: BTreeMap::from([("quay.io".to_owned(), rule)]),
            credentials_file: Some(auths),
            ignore_proxy_environment: true,
            ..RawUpstreamConfig::default()
        };
        let config = raw.load().unwrap();
        let quay: SourceHost = "quay.io".parse().unwrap();
        let rule = config.rule(&quay).unwrap();
        assert_eq!(
            (rule.extra_roots.len(), rule.identity.as_ref().unwrap().chain.len()),
            (1, 1)
        );
        assert!(config.credentials.find(&quay, "a").is_some());
        raw.credentials_file = Some(certificate);
        let error = raw.load().unwrap_err().to_string();
        assert!(
            error.contains("credentials_file") && error.contains("certificate.pem"),
            "{error}"
        );
    }

    #[test]
    fn mistakes_are_named_with_key_and_host() {
        let table = [
            (r#"{"host": {}}"#, "host"),
            (r#"{"hosts": {"quay.io": {"insecur": true}}}"#, "insecur"),
            (r#"{"hosts": {"quay io": {}}}"#, "quay io"),
            (r#"{"hosts": {"quay.io": {"url": "quay.io"}}}"#, "quay.io"),
            (
                r#"{"hosts": {"quay.io": {"ca_files": ["/nonexistent.pem"]}}}"#,
                "ca_files",
            ),
            (r#"{"hosts": {"quay.io": {"client_key": "/k"}}}"#, "client_certificate"),
            (r#"{"credentials_file": "/nonexistent.json"}"#, "credentials_file"),
            (r#"{"connect_timeout_ms": 0}"#, "connect_timeout_ms"),
            (r#"{"user_agent": "a\nb"}"#, "user_agent"),
        ];
        for (json, named) in table {
            let error = load(json).unwrap_err();
            assert!(error.contains(named), "{json}: {error}");
        }
    }
}
