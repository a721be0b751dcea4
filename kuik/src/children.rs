//! The configuration files `kuik up` writes for its children: one struct per file, named as the children read
//! them.
//!
//! The children refuse unknown keys, so a name that differs from theirs shows at the first start.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use upstream::RawUpstreamConfig;

use crate::cluster::{Cluster, NodeAddresses};
use crate::data_dir::DataDir;
use crate::settings::{FillSettings, FreshnessSettings, Settings, StorageSettings};

/// Configuration of one `kuik-cache-node`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CacheNodeConfig {
    pub(crate) node_name: String,
    pub(crate) ordinal: u32,
    pub(crate) data_dir: PathBuf,
    pub(crate) copies: u8,
    /// Whether the node may found a cluster with its peers when all of them are empty.
    pub(crate) allow_genesis: bool,
    pub(crate) listen: NodeListen,
    /// All nodes, this one included.
    pub(crate) peers: Vec<Peer>,
    pub(crate) tls: TlsSection,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) upstream: RawUpstreamConfig,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) freshness: FreshnessSettings,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) fill: FillSettings,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) storage: StorageSettings,
}

/// The addresses one cache node listens on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NodeListen {
    /// Plain HTTP for clients on this machine.
    pub(crate) client: SocketAddr,
    /// Mutual TLS for the proxy and peers.
    pub(crate) registry: SocketAddr,
    /// Mutual TLS, gRPC between nodes.
    pub(crate) grpc: SocketAddr,
    /// Plain HTTP: health, metrics, reports.
    pub(crate) admin: SocketAddr,
}

/// How one node reaches another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Peer {
    pub(crate) ordinal: u32,
    pub(crate) grpc: String,
    pub(crate) registry: String,
    pub(crate) admin: String,
}

/// Paths of PEM files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TlsSection {
    pub(crate) ca: PathBuf,
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
}

/// Configuration of the `kuik-proxy`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ProxyConfig {
    pub(crate) listen: Vec<SocketAddr>,
    pub(crate) admin: SocketAddr,
    /// Never: two clusters on one port would each get half of the requests.
    pub(crate) reuse_port: bool,
    pub(crate) nodes: Vec<ProxyNode>,
    pub(crate) tls: TlsSection,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) upstream: RawUpstreamConfig,
    pub(crate) limits: ProxyLimits,
}

/// Bounds of the proxy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ProxyLimits {
    /// Someone waits for `kuik up` to end.
    pub(crate) drain_seconds: u64,
}

/// A cache node as the proxy knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ProxyNode {
    pub(crate) ordinal: u32,
    pub(crate) registry: String,
}

/// The configuration of one node of `cluster`.
pub(crate) fn cache_node_config(
    cluster: &Cluster,
    node: &NodeAddresses,
    data: &DataDir,
    options: &NodeOptions<'_>,
    tls: TlsSection,
) -> CacheNodeConfig {
    let settings = options.settings.clone();
    CacheNodeConfig {
        node_name: node.name(),
        ordinal: node.ordinal,
        data_dir: data.node_data(&node.name()),
        copies: options.copies,
        allow_genesis: cluster.cluster_id.is_none(),
        listen: node.listen,
        peers: cluster.nodes.iter().map(peer).collect(),
        tls,
        upstream: settings.upstream,
        freshness: settings.freshness,
        fill: settings.fill,
        storage: settings.storage,
    }
}

/// What all nodes of a cluster have in common.
pub(crate) struct NodeOptions<'settings> {
    pub(crate) copies: u8,
    pub(crate) settings: &'settings Settings,
}

/// The configuration of the proxy of `cluster`.
pub(crate) fn proxy_config(cluster: &Cluster, settings: &Settings, tls: TlsSection) -> ProxyConfig {
    let node = |node: &NodeAddresses| ProxyNode {
        ordinal: node.ordinal,
        registry: format!("https://{}", node.listen.registry),
    };
    ProxyConfig {
        listen: cluster.proxy.listen.clone(),
        admin: cluster.proxy.admin,
        reuse_port: false,
        nodes: cluster.nodes.iter().map(node).collect(),
        tls,
        upstream: settings.upstream.clone(),
        limits: ProxyLimits { drain_seconds: 15 },
    }
}

/// Sections nobody wrote are left out, so that the children's own defaults hold.
fn is_default<T: Default + PartialEq>(section: &T) -> bool {
    *section == T::default()
}

fn peer(node: &NodeAddresses) -> Peer {
    Peer {
        ordinal: node.ordinal,
        grpc: format!("https://{}", node.listen.grpc),
        registry: format!("https://{}", node.listen.registry),
        admin: format!("http://{}", node.listen.admin),
    }
}

#[cfg(test)]
mod tests {
    use serde::de::DeserializeOwned;

    use super::*;
    use crate::cluster::tests::cluster_of;

    fn read_back<T: Serialize + DeserializeOwned>(config: &T) -> T {
        let text = toml::to_string(config).unwrap();
        toml::from_str(&text).unwrap()
    }

    fn tls() -> TlsSection {
        TlsSection {
            ca: "/d/tls/ca.pem".into(),
            cert: "/d/tls/part.pem".into(),
            key: "/d/tls/part-key.pem".into(),
        }
    }

    fn settings() -> Settings {
        let rule = "demo.example=http://127.0.0.1:5000".parse().unwrap();
        let mut settings = Settings::load(None, &[rule]).unwrap();
        settings.freshness.default = Some("after: 60s".to_owned());
        settings
    }

    fn node_config(cluster: &Cluster) -> CacheNodeConfig {
        let data = DataDir::find(Some("/d".into())).unwrap();
        let settings = settings();
        let options = NodeOptions {
            copies: 2,
            settings: &settings,
        };
        cache_node_config(cluster, &cluster.nodes[1], &data, &options, tls())
    }

    #[test]
    fn node_configuration_reads_back() {
        let config = node_config(&cluster_of(3));
        assert_eq!(read_back(&config), config);
        assert_eq!(config.node_name, "node-1");
        assert_eq!(config.data_dir, PathBuf::from("/d/node-1"));
        assert_eq!(config.peers.len(), 3);
        assert_eq!(config.peers[1].grpc, format!("https://{}", config.listen.grpc));
        let url = config.upstream.hosts["demo.example"].url.as_deref();
        assert_eq!(url, Some("http://127.0.0.1:5000"));
    }

    #[test]
    fn proxy_configuration_reads_back() {
        let cluster = cluster_of(3);
        let config = proxy_config(&cluster, &settings(), tls());
        assert_eq!(read_back(&config), config);
        assert_eq!(
            config.nodes[2].registry,
            format!("https://{}", cluster.nodes[2].listen.registry)
        );
    }

    #[test]
    fn formed_cluster_is_never_founded_again() {
        let mut cluster = cluster_of(3);
        assert!(node_config(&cluster).allow_genesis);
        cluster.cluster_id = Some("c1".to_owned());
        assert!(!node_config(&cluster).allow_genesis);
    }

    #[test]
    fn settings_nobody_made_are_left_to_the_children() {
        let config = proxy_config(&cluster_of(1), &Settings::default(), tls());
        let text = toml::to_string(&config).unwrap();
        assert!(!text.contains("upstream"), "{text}");
    }
}
