//! Configuration of the proxy: raw TOML in, a checked [`Config`] out.
//!
//! Every default stands here once. A key that does not exist is refused by name and line.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use daemon::tls::TlsFiles;
use http::HeaderValue;
use serde::Deserialize;
use upstream::{NodeUrl, RawUpstreamConfig, UpstreamConfig};

/// Environment variable that names the Kubernetes node this machine is.
pub const NODE_NAME_ENV: &str = "KUIK_NODE_NAME";
/// Where container runtimes look for the proxy, as in kube-image-keeper v1.
pub(crate) const LISTEN_DEFAULT: [&str; 2] = ["127.0.0.1:7439", "[::1]:7439"];
/// When a request that names its source host in `ns`, and so has a next host, is sent there.
pub(crate) const NEXT_HOST_AFTER: Duration = Duration::from_secs(3);
/// Connections open at once. A runtime uses a handful per image it pulls; this many can be kept within the memory
/// of a small pod.
pub(crate) const CONNECTIONS_MAX: usize = 1024;
/// Time for answers in flight once shutdown began: a large layer over a slow link takes minutes. Whoever starts the
/// proxy may kill it earlier.
pub(crate) const DRAIN: Duration = Duration::from_secs(300);
/// Most cache nodes a configuration may list.
const NODES_MAX: usize = 99;

/// A checked configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// Addresses for container runtimes, plain; all on this machine alone.
    pub listen: Vec<SocketAddr>,
    /// Health and metrics, plain.
    pub admin: Option<SocketAddr>,
    /// Whether another proxy may listen on the same ports, so that it takes over without a refused connection.
    pub reuse_port: bool,
    /// Unix socket that answers [`crate::check`].
    pub check_socket: Option<PathBuf>,
    /// The cache nodes; may be none.
    pub nodes: Vec<NodeAddress>,
    /// The Kubernetes node this machine is, which the cache nodes are told; not from the file but from
    /// [`NODE_NAME_ENV`].
    pub node_name: Option<HeaderValue>,
    /// Our certificate, and the authority of the tier.
    pub tls: Option<TlsFiles>,
    /// Source registries.
    pub upstream: UpstreamConfig,
    /// When a client with a next host is sent there.
    pub next_host_after: Duration,
    /// Connections open at once, per listener.
    pub connections_max: usize,
    /// Time for answers in flight once shutdown began.
    pub drain: Duration,
}

/// Where one cache node is reached.
#[derive(Debug, Clone)]
pub struct NodeAddress {
    /// Its place among the nodes; stable for ever, as placement goes by it.
    pub ordinal: u32,
    /// Its registry port. `http` is a link whose bytes are checked here.
    pub registry: NodeUrl,
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
    /// The `[upstream]` section.
    #[error("configuration key upstream")]
    Upstream(#[source] upstream::ConfigError),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawConfig {
    listen: Option<Vec<SocketAddr>>,
    admin: Option<SocketAddr>,
    reuse_port: Option<bool>,
    check_socket: Option<PathBuf>,
    #[serde(default)]
    nodes: Vec<RawNode>,
    tls: Option<TlsFiles>,
    #[serde(default)]
    upstream: RawUpstreamConfig,
    #[serde(default)]
    limits: RawLimits,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawNode {
    ordinal: u32,
    registry: String,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawLimits {
    next_host_after_ms: Option<u64>,
    connections_max: Option<usize>,
    drain_seconds: Option<u64>,
}

impl Config {
    /// Reads and checks a configuration file.
    ///
    /// # Errors
    /// [`ConfigError`], which names file, line and key.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        RawConfig::read(path)?.check()
    }

    /// Reads the path of the check socket from a configuration file, and reads no other file.
    ///
    /// # Errors
    /// [`ConfigError`], also if the file names none.
    pub fn load_check_socket(path: &Path) -> Result<PathBuf, ConfigError> {
        let socket = RawConfig::read(path)?.check_socket;
        socket.ok_or_else(|| value("check_socket", "is missing, so the proxy cannot be asked"))
    }
}

impl RawConfig {
    fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
            path: path.to_owned(),
            source,
        })?;
        toml::from_str(&text).map_err(|error| parse_error(path, &text, &error))
    }

    fn check(self) -> Result<Config, ConfigError> {
        let listen = self.listen.unwrap_or_else(listen_default);
        check_listen(&listen)?;
        let nodes = self.nodes.iter().map(RawNode::check).collect::<Result<Vec<_>, _>>()?;
        check_nodes(&nodes, self.tls.is_some())?;
        let next_host_after = self
            .limits
            .next_host_after_ms
            .map_or(NEXT_HOST_AFTER, Duration::from_millis);
        if next_host_after.is_zero() {
            return Err(value("limits.next_host_after_ms", "must be at least 1"));
        }
        let connections_max = self.limits.connections_max.unwrap_or(CONNECTIONS_MAX);
        if connections_max == 0 {
            return Err(value("limits.connections_max", "must be at least 1"));
        }
        Ok(Config {
            node_name: node_name()?,
            listen,
            admin: self.admin,
            reuse_port: self.reuse_port.unwrap_or(true),
            check_socket: self.check_socket,
            nodes,
            tls: self.tls,
            upstream: self.upstream.load().map_err(ConfigError::Upstream)?,
            next_host_after,
            connections_max,
            drain: self.limits.drain_seconds.map_or(DRAIN, Duration::from_secs),
        })
    }
}

impl RawNode {
    fn check(&self) -> Result<NodeAddress, ConfigError> {
        let registry = self.registry.parse::<NodeUrl>();
        let registry = registry.map_err(|error| value("nodes.registry", error.to_string()))?;
        Ok(NodeAddress {
            ordinal: self.ordinal,
            registry,
        })
    }
}

fn check_listen(listen: &[SocketAddr]) -> Result<(), ConfigError> {
    if listen.is_empty() {
        return Err(value("listen", "no address"));
    }
    // Whoever can connect pulls with the credentials of this machine.
    match listen.iter().find(|address| !address.ip().is_loopback()) {
        Some(address) => Err(value("listen", format!("{address} is not on this machine alone"))),
        None => Ok(()),
    }
}

fn check_nodes(nodes: &[NodeAddress], tls: bool) -> Result<(), ConfigError> {
    if nodes.len() > NODES_MAX {
        return Err(value(
            "nodes",
            format!("{} listed, at most {NODES_MAX} make sense", nodes.len()),
        ));
    }
    let ordinals: BTreeSet<_> = nodes.iter().map(|node| node.ordinal).collect();
    if ordinals.len() != nodes.len() {
        return Err(value("nodes", "an ordinal is listed twice"));
    }
    match nodes
        .iter()
        .find(|node| node.registry.to_string().starts_with("https://") && !tls)
    {
        Some(node) => Err(value(
            "tls",
            format!("is missing, and node {} is reached by https", node.ordinal),
        )),
        None => Ok(()),
    }
}

fn listen_default() -> Vec<SocketAddr> {
    LISTEN_DEFAULT
        .iter()
        .filter_map(|address| address.parse().ok())
        .collect()
}

fn node_name() -> Result<Option<HeaderValue>, ConfigError> {
    let Some(name) = std::env::var_os(NODE_NAME_ENV).filter(|name| !name.is_empty()) else {
        return Ok(None);
    };
    let header = HeaderValue::from_bytes(name.as_encoded_bytes());
    header
        .map(Some)
        .map_err(|_| value(NODE_NAME_ENV, format!("{} is no name of a node", name.display())))
}

fn value(key: &'static str, reason: impl Into<String>) -> ConfigError {
    ConfigError::Value {
        key,
        reason: reason.into(),
    }
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

    const NODES: &str = "[[nodes]]\nordinal = 0\nregistry = \"http://127.0.0.1:5000\"\n";

    fn load(text: &str) -> Result<Config, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        Config::load(file.path()).map_err(|error| error.to_string())
    }

    #[test]
    fn an_empty_file_is_a_proxy_without_a_tier() {
        let config = load("").unwrap();
        assert_eq!(config.listen.len(), 2);
        assert!(config.nodes.is_empty() && config.admin.is_none());
        assert_eq!(config.next_host_after, NEXT_HOST_AFTER);
    }

    #[test]
    fn a_key_that_does_not_exist_is_named_with_its_line() {
        let error = load(&format!("{NODES}port = 1\n")).unwrap_err();
        assert!(error.contains("port") && error.contains("line 4"), "{error}");
        let error = load("[limits]\nwait = 1\n").unwrap_err();
        assert!(error.contains("wait") && error.contains("line 2"), "{error}");
        assert_eq!(error.lines().count(), 1);
    }

    #[test]
    fn impossible_values_are_refused_by_key() {
        let https = NODES.replace("http:", "https:");
        let table = [
            ("listen = []".to_owned(), "listen"),
            ("listen = [\"0.0.0.0:7439\"]".to_owned(), "0.0.0.0:7439"),
            (format!("{NODES}{NODES}"), "twice"),
            (https, "tls"),
            (NODES.replace("http:", "ftp:"), "nodes.registry"),
            (
                "[limits]\nnext_host_after_ms = 0".to_owned(),
                "limits.next_host_after_ms",
            ),
            ("[limits]\nconnections_max = 0".to_owned(), "limits.connections_max"),
        ];
        for (text, named) in table {
            let error = load(&text).unwrap_err();
            assert!(error.contains(named), "{text}: {error}");
        }
    }
}
