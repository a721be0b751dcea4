//! Configuration of the webhook: raw TOML in, a checked [`Config`] out.
//!
//! A key that does not exist is refused by name and line. What may change while the program runs is not here but in
//! the policy file it names.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use daemon::tls::TlsFiles;
use serde::Deserialize;
use tonic::transport::Uri;

use crate::serving::CertificateFiles;

/// Where runtimes find the proxy on their node, as in kube-image-keeper v1.
pub(crate) const PROXY_PORT_DEFAULT: u16 = 7439;
/// Most cache nodes a configuration may list.
const NODES_MAX: usize = 99;

/// A checked configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where the API server asks; TLS.
    pub listen: SocketAddr,
    /// Health and metrics; plain.
    pub admin: SocketAddr,
    /// The release's namespace, whose pods are left alone.
    pub namespace: String,
    /// The port of the proxies on every node.
    pub proxy_port: u16,
    /// What is left alone; read again when it changes.
    pub policy_file: PathBuf,
    /// What the API server is shown; read again when it changes.
    pub serving: CertificateFiles,
    /// Who we are to the tier; read again when it changes.
    pub tls: Option<TlsFiles>,
    /// The cache nodes.
    pub nodes: Vec<NodeAddress>,
    /// The proxies.
    pub proxy: ProxyDaemonSet,
}

/// Where one cache node is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeAddress {
    /// Its place among the nodes.
    pub ordinal: u32,
    /// Its gRPC port.
    pub grpc: Uri,
}

/// The DaemonSet whose pods are the proxies.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProxyDaemonSet {
    /// Its namespace, whose pods are left alone as well.
    pub namespace: String,
    /// Its name.
    pub daemonset: String,
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
        reason: String,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawConfig {
    listen: SocketAddr,
    admin: SocketAddr,
    namespace: String,
    proxy_port: Option<u16>,
    policy_file: PathBuf,
    serving: CertificateFiles,
    tls: Option<TlsFiles>,
    nodes: Vec<RawNode>,
    proxy: ProxyDaemonSet,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawNode {
    ordinal: u32,
    grpc: String,
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

    /// Namespaces of kuik itself.
    pub fn own_namespaces(&self) -> Vec<String> {
        vec![self.namespace.clone(), self.proxy.namespace.clone()]
    }
}

impl RawConfig {
    fn check(self) -> Result<Config, ConfigError> {
        let nodes = self.nodes.iter().map(RawNode::check).collect::<Result<Vec<_>, _>>()?;
        check_nodes(&nodes, self.tls.is_some())?;
        let proxy_port = self.proxy_port.unwrap_or(PROXY_PORT_DEFAULT);
        if proxy_port == 0 {
            return Err(value("proxy_port", "must be at least 1"));
        }
        Ok(Config {
            listen: self.listen,
            admin: self.admin,
            namespace: self.namespace,
            proxy_port,
            policy_file: self.policy_file,
            serving: self.serving,
            tls: self.tls,
            nodes,
            proxy: self.proxy,
        })
    }
}

impl RawNode {
    fn check(&self) -> Result<NodeAddress, ConfigError> {
        let wrong = || value("nodes.grpc", format!("{:?} is not http(s)://host:port", self.grpc));
        let grpc: Uri = self.grpc.parse().map_err(|_no_uri| wrong())?;
        let scheme = matches!(grpc.scheme_str(), Some("http" | "https"));
        if !scheme || grpc.port_u16().is_none() {
            return Err(wrong());
        }
        Ok(NodeAddress {
            ordinal: self.ordinal,
            grpc,
        })
    }
}

fn check_nodes(nodes: &[NodeAddress], tls: bool) -> Result<(), ConfigError> {
    if nodes.is_empty() || nodes.len() > NODES_MAX {
        return Err(value(
            "nodes",
            format!("{} listed, 1 to {NODES_MAX} make sense", nodes.len()),
        ));
    }
    let ordinals: BTreeSet<_> = nodes.iter().map(|node| node.ordinal).collect();
    if ordinals.len() != nodes.len() {
        return Err(value("nodes", "an ordinal is listed twice"));
    }
    let https = |node: &&NodeAddress| node.grpc.scheme_str() == Some("https");
    match nodes.iter().find(https).filter(|_node| !tls) {
        Some(node) => Err(value(
            "tls",
            format!("is missing, and node {} is reached by https", node.ordinal),
        )),
        None => Ok(()),
    }
}

fn value(key: &'static str, reason: impl Into<String>) -> ConfigError {
    ConfigError::Value {
        key,
        reason: reason.into(),
    }
}

fn parse_error(path: &Path, text: &str, error: &toml::de::Error) -> ConfigError {
    ConfigError::Parse {
        path: path.to_owned(),
        line: line_of(text, error),
        reason: error.message().replace('\n', " "),
    }
}

/// The line a TOML error is about, from 1.
pub(crate) fn line_of(text: &str, error: &toml::de::Error) -> usize {
    let start = error.span().map_or(0, |span| span.start);
    text.get(..start).unwrap_or_default().matches('\n').count() + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"listen = "0.0.0.0:9443"
admin = "0.0.0.0:8080"
namespace = "kuik"
policy_file = "/etc/kuik/config/policy.toml"
serving = { cert = "/etc/kuik/tls/tls.crt", key = "/etc/kuik/tls/tls.key" }
tls = { ca = "/etc/kuik/tls/ca.crt", cert = "/etc/kuik/tls/tls.crt", key = "/etc/kuik/tls/tls.key" }
nodes = [ { ordinal = 0, grpc = "https://kuik-registry-0.kuik-registry-peers.kuik.svc:5001" } ]
proxy = { namespace = "kuik-proxy", daemonset = "kuik-proxy" }
"#;

    fn load(text: &str) -> Result<Config, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        Config::load(file.path()).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_not_written_has_its_default() {
        let config = load(GOOD).unwrap();
        assert_eq!(config.proxy_port, PROXY_PORT_DEFAULT);
        assert_eq!(config.own_namespaces(), ["kuik", "kuik-proxy"]);
        assert_eq!(config.nodes[0].grpc.port_u16(), Some(5001));
    }

    #[test]
    fn a_key_that_does_not_exist_is_named_with_its_line() {
        let error = load(&format!("{GOOD}port = 1\n")).unwrap_err();
        assert!(error.contains("port") && error.contains("line 9"), "{error}");
    }

    #[test]
    fn impossible_values_are_refused_by_key() {
        let table = [
            (GOOD.replace("tls = {", "#"), "key tls"),
            (GOOD.replace(":5001", ""), "nodes.grpc"),
            (GOOD.replace("https://", "ftp://"), "nodes.grpc"),
            (GOOD.replace("ordinal = 0, grpc", "ordinal = 0, grcp"), "grcp"),
            (format!("proxy_port = 0\n{GOOD}"), "proxy_port"),
        ];
        for (text, named) in table {
            let error = load(&text).unwrap_err();
            assert!(error.contains(named), "{text}: {error}");
        }
    }
}
