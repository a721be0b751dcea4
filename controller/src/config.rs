//! Configuration of the controller: raw TOML in, a checked [`Config`] out.
//!
//! Every default stands here once. A key that does not exist is refused by name and line.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use daemon::tls::TlsFiles;
use serde::Deserialize;

const ADMIN: &str = "0.0.0.0:8080";
/// Port of the proxy on every node, as in kube-image-keeper v1.
const PROXY_PORT: u16 = 7439;
const CLUSTER_DOMAIN: &str = "cluster.local";
/// Days an image that nothing uses is kept, as in kube-image-keeper v1.
const EXPIRY_DELAY_DAYS: u64 = 30;
/// Changes to objects under way at once, as in kube-image-keeper v1.
const RECONCILES_MAX: usize = 3;
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// A checked configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// Health and metrics, plain.
    pub admin: SocketAddr,
    /// What everything is called, and where it is.
    pub install: Install,
    /// Port of the proxy on every node.
    pub proxy_port: u16,
    /// The cache nodes' gRPC addresses.
    pub nodes: Vec<NodeAddress>,
    /// How long an image that nothing uses is kept.
    pub expiry_delay: Duration,
    /// Platforms to fill images for.
    pub architectures: Architectures,
    /// Changes under way at once.
    pub reconciles_max: usize,
    /// Who makes the certificates.
    pub certificates: Certificates,
    /// Namespaces whose pods get no CachedImages.
    pub ignored_namespaces: BTreeSet<String>,
    /// Whether pods that cannot pull get their original images back.
    pub restore: bool,
}

/// Names of one install.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Install {
    /// Namespace of the release.
    pub namespace: String,
    /// Namespace of the proxies.
    pub proxy_namespace: String,
    /// First part of every object's name.
    pub fullname: String,
    /// DNS domain of the cluster.
    pub cluster_domain: String,
}

impl Install {
    /// The name of a part: `fullname-suffix`.
    pub fn name(&self, suffix: &str) -> String {
        format!("{}-{suffix}", self.fullname)
    }
}

/// Where one cache node is reached.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeAddress {
    /// Its place among the nodes.
    pub ordinal: u32,
    /// URL of its gRPC port.
    pub grpc: String,
}

/// Platforms to fill images for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Architectures {
    /// Those of the cluster's nodes.
    Auto,
    /// These, such as `amd64` or `linux/arm64/v8`.
    Listed(Vec<String>),
}

/// Who makes the certificates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Certificates {
    /// This program.
    Own,
    /// Someone else; ours is in these files.
    Provided(TlsFiles),
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("read configuration {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Not TOML, a key that does not exist, or a value of the wrong kind.
    #[error("configuration {} line {line}: {reason}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where.
        line: usize,
        /// What is wrong there; names the key.
        reason: String,
    },
    /// A value that cannot be.
    #[error("configuration key {key}: {reason}")]
    Value {
        /// The key, dotted.
        key: &'static str,
        /// What is wrong with it.
        reason: &'static str,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawConfig {
    admin: Option<SocketAddr>,
    namespace: String,
    fullname: String,
    cluster_domain: Option<String>,
    proxy_namespace: Option<String>,
    proxy_port: Option<u16>,
    #[serde(default)]
    nodes: Vec<NodeAddress>,
    expiry_delay_days: Option<u64>,
    architectures: Option<Vec<String>>,
    max_concurrent_reconciles: Option<usize>,
    #[serde(default)]
    ignored_namespaces: BTreeSet<String>,
    #[serde(default)]
    certificates: RawCertificates,
    #[serde(default)]
    restore: RawRestore,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCertificates {
    #[serde(default)]
    mode: Mode,
    tls: Option<TlsFiles>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Mode {
    #[default]
    #[serde(rename = "self")]
    Own,
    Provided,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRestore {
    enabled: bool,
}

impl Default for RawRestore {
    fn default() -> Self {
        Self { enabled: true }
    }
}

impl Config {
    /// Reads and checks a configuration file.
    ///
    /// # Errors
    /// [`ConfigError`], which names file, line and key.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
            path: path.to_owned(),
            source,
        })?;
        let raw: RawConfig = toml::from_str(&text).map_err(|error| parse_error(path, &text, &error))?;
        raw.check()
    }
}

impl RawConfig {
    fn check(self) -> Result<Config, ConfigError> {
        let admin = ADMIN.parse().expect("the default is an address");
        let certificates = self.certificates.check()?;
        check_nodes(&self.nodes)?;
        if self.namespace.is_empty() || self.fullname.is_empty() {
            return Err(value("fullname", "fullname and namespace name the install"));
        }
        Ok(Config {
            admin: self.admin.unwrap_or(admin),
            install: Install {
                proxy_namespace: self.proxy_namespace.unwrap_or_else(|| self.namespace.clone()),
                namespace: self.namespace,
                fullname: self.fullname,
                cluster_domain: self.cluster_domain.unwrap_or_else(|| CLUSTER_DOMAIN.to_owned()),
            },
            proxy_port: self.proxy_port.unwrap_or(PROXY_PORT),
            nodes: self.nodes,
            expiry_delay: days(self.expiry_delay_days.unwrap_or(EXPIRY_DELAY_DAYS))?,
            architectures: architectures(self.architectures)?,
            reconciles_max: self.max_concurrent_reconciles.unwrap_or(RECONCILES_MAX).max(1),
            certificates,
            ignored_namespaces: self.ignored_namespaces,
            restore: self.restore.enabled,
        })
    }
}

impl RawCertificates {
    fn check(self) -> Result<Certificates, ConfigError> {
        match (self.mode, self.tls) {
            (Mode::Own, None) => Ok(Certificates::Own),
            (Mode::Provided, Some(files)) => Ok(Certificates::Provided(files)),
            (Mode::Own, Some(_)) => Err(value("certificates.tls", "is for mode \"provided\"")),
            (Mode::Provided, None) => Err(value("certificates.tls", "is missing")),
        }
    }
}

fn days(days: u64) -> Result<Duration, ConfigError> {
    /// A century: a time that far ahead can still be written down.
    const DAYS_MAX: u64 = 36_500;
    if days > DAYS_MAX {
        return Err(value("expiry_delay_days", "is more than a century"));
    }
    Ok(DAY * u32::try_from(days).unwrap_or(u32::MAX))
}

fn architectures(listed: Option<Vec<String>>) -> Result<Architectures, ConfigError> {
    match listed {
        None => Ok(Architectures::Auto),
        Some(listed) if listed.is_empty() || listed == ["auto"] => Ok(Architectures::Auto),
        Some(listed) if listed.iter().any(|name| name == "auto" || name.is_empty()) => {
            Err(value("architectures", "is either [\"auto\"] or a list of platforms"))
        }
        Some(listed) => Ok(Architectures::Listed(listed)),
    }
}

fn check_nodes(nodes: &[NodeAddress]) -> Result<(), ConfigError> {
    let ordinals: BTreeSet<_> = nodes.iter().map(|node| node.ordinal).collect();
    if ordinals.len() != nodes.len() {
        return Err(value("nodes", "an ordinal is listed twice"));
    }
    let known = |node: &NodeAddress| node.grpc.starts_with("https://") || node.grpc.starts_with("http://");
    if !nodes.iter().all(known) {
        return Err(value("nodes.grpc", "is no http:// or https:// address"));
    }
    Ok(())
}

fn value(key: &'static str, reason: &'static str) -> ConfigError {
    ConfigError::Value { key, reason }
}

fn parse_error(path: &Path, text: &str, error: &toml::de::Error) -> ConfigError {
    let start = error.span().map_or(0, |span| span.start);
    let before = text.get(..start).unwrap_or_default();
    ConfigError::Parse {
        path: path.to_owned(),
        line: before.matches('\n').count() + 1,
        reason: error.message().replace('\n', " "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: &str = "namespace = \"kuik\"\nfullname = \"f\"\n";

    fn load(text: &str) -> Result<Config, String> {
        let raw: RawConfig = toml::from_str(text).map_err(|error| error.to_string())?;
        raw.check().map_err(|error| error.to_string())
    }

    #[test]
    fn defaults_are_those_of_v1() {
        let config = load(NAMES).unwrap();
        assert_eq!(config.expiry_delay, DAY * 30);
        assert_eq!((config.proxy_port, config.reconciles_max), (7439, 3));
        assert_eq!(config.install.proxy_namespace, "kuik");
        assert_eq!(config.architectures, Architectures::Auto);
        assert_eq!(config.certificates, Certificates::Own);
        assert!(config.restore);
    }

    #[test]
    fn all_keys_are_understood() {
        let text = format!(
            "{NAMES}admin = \"127.0.0.1:1\"\ncluster_domain = \"c\"\nproxy_namespace = \"p\"\nproxy_port = 1\n\
             nodes = [ {{ ordinal = 0, grpc = \"https://a:5001\" }} ]\nexpiry_delay_days = 1\n\
             architectures = [\"arm64\"]\nmax_concurrent_reconciles = 9\nignored_namespaces = [\"x\"]\n\
             [certificates]\nmode = \"provided\"\ntls = {{ ca = \"a\", cert = \"b\", key = \"c\" }}\n\
             [restore]\nenabled = false\n"
        );
        let config = load(&text).unwrap();
        assert_eq!(config.architectures, Architectures::Listed(vec!["arm64".to_owned()]));
        assert!(matches!(config.certificates, Certificates::Provided(_)));
        assert!(!config.restore && config.ignored_namespaces.contains("x"));
    }

    #[test]
    fn impossible_values_are_refused_by_key() {
        let table = [
            ("expiry_delay_days = 40000", "expiry_delay_days"),
            ("architectures = [\"auto\", \"arm64\"]", "architectures"),
            ("nodes = [ { ordinal = 0, grpc = \"a\" } ]", "nodes.grpc"),
            ("[certificates]\nmode = \"provided\"", "certificates.tls"),
            ("port = 1", "port"),
        ];
        for (text, named) in table {
            let error = load(&format!("{NAMES}{text}\n")).unwrap_err();
            assert!(error.contains(named), "{text}: {error}");
        }
    }
}
