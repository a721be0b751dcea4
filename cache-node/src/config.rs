//! Configuration of a cache node: raw TOML in, a checked [`Config`] out.
//!
//! Every default stands here once. A key that does not exist is refused by name and line.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::num::NonZeroU8;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use upstream::UpstreamConfig;

use crate::fill::FILLS_MAX;
use crate::freshness::{FreshnessError, FreshnessPolicies, RawFreshness};

/// Copies of each blob where nothing else is said; never more than there are nodes.
pub const COPIES_DEFAULT: u8 = 3;
/// How long a fill from a source may make no progress. A direct pull is ended by its runtime at about the same time.
pub const FILL_NO_PROGRESS: Duration = Duration::from_secs(30);
/// Environment variable with the node's name. The ordinal is its trailing number where the configuration has none, so
/// that all pods of a StatefulSet share one configuration.
const NODE_NAME_VARIABLE: &str = "KUIK_NODE_NAME";
/// Least quota: the write-ahead logs of both databases, of 64 MiB each, and half as much for all else. With less the node
/// could come to record nothing.
const QUOTA_BYTES_MIN: u64 = 192 << 20;
/// Most peers a configuration may list.
const PEERS_MAX: usize = 99;

/// A checked configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// Name for logs.
    pub node_name: String,
    /// This node's place among [`Config::peers`]; also its slot in the layout.
    pub ordinal: u32,
    /// Everything the node keeps lives below this directory.
    pub data_dir: PathBuf,
    /// The most that directory may take, whatever room the volume has; `None` leaves it to the volume.
    pub quota_bytes: Option<u64>,
    /// Copies wanted of each blob.
    pub copies: NonZeroU8,
    /// This node may found the cluster (only ordinal 0 ever does).
    pub allow_genesis: bool,
    /// Addresses to listen on.
    pub listen: Listen,
    /// All cache nodes, this one included, by ordinal.
    pub peers: Vec<PeerAddress>,
    /// Certificates for traffic between parts. Without them it is plain, and the peers' URLs say so.
    pub tls: Option<TlsFiles>,
    /// Source registries.
    pub upstream: UpstreamConfig,
    /// How fresh tags must be.
    pub freshness: FreshnessPolicies,
    /// Bounds of fills.
    pub fill: FillLimits,
    /// Who may read private images.
    pub access: AccessConfig,
}

/// The `[access]` section.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccessConfig {
    /// Private repositories are served only to proxies of nodes on which an admitted pod runs.
    #[serde(default)]
    pub enforce: bool,
    /// Keys that seal stored credentials: a file `active` that names one, and one file per key. Without them no
    /// credential is stored.
    pub keys_dir: Option<PathBuf>,
}

/// Addresses a node listens on.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listen {
    /// Plain HTTP for registry clients; absent unless wanted.
    pub client: Option<SocketAddr>,
    /// Registry for proxies and peers.
    pub registry: SocketAddr,
    /// Control between nodes.
    pub grpc: SocketAddr,
    /// Health, metrics, reports; plain.
    pub admin: SocketAddr,
}

/// Where one cache node is reached.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PeerAddress {
    /// Its place; stable for ever.
    pub ordinal: u32,
    /// Base URL of its gRPC port.
    pub grpc: String,
    /// Base URL of its registry port.
    pub registry: String,
    /// Base URL of its admin port, shown to people.
    #[serde(default)]
    pub admin: Option<String>,
}

impl PeerAddress {
    /// `host:port` of the gRPC port: consensus puts the scheme before it itself.
    pub fn grpc_address(&self) -> &str {
        let rest = self.grpc.split_once("://").map_or(self.grpc.as_str(), |(_, rest)| rest);
        rest.trim_end_matches('/')
    }
}

/// PEM files of this node's identity and of the authority that signs its peers.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsFiles {
    /// Authority of the tier.
    pub ca: PathBuf,
    /// Certificate chain of this node.
    pub cert: PathBuf,
    /// Private key of this node.
    pub key: PathBuf,
}

/// Bounds of fills.
#[derive(Debug, Clone, Copy)]
pub struct FillLimits {
    /// A source that sends nothing for this long is given up.
    pub no_progress: Duration,
    /// Fills at once.
    pub in_flight_max: usize,
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("read configuration {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Not TOML, a key that does not exist, or a value of the wrong kind; the cause names line and key.
    #[error("parse configuration {path}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: Box<toml::de::Error>,
    },
    /// A value that cannot be.
    #[error("configuration key {key}: {reason}")]
    Value {
        /// The key, dotted.
        key: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The `[freshness]` section.
    #[error("configuration key freshness")]
    Freshness(#[source] FreshnessError),
    /// The `[upstream]` section.
    #[error("configuration key upstream")]
    Upstream(#[source] upstream::ConfigError),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawConfig {
    node_name: Option<String>,
    ordinal: Option<u32>,
    data_dir: PathBuf,
    #[serde(default = "copies_default")]
    copies: u8,
    #[serde(default)]
    allow_genesis: bool,
    listen: Listen,
    peers: Vec<PeerAddress>,
    tls: Option<TlsFiles>,
    #[serde(default)]
    upstream: upstream::RawUpstreamConfig,
    #[serde(default)]
    freshness: RawFreshness,
    #[serde(default)]
    fill: RawFill,
    #[serde(default)]
    storage: RawStorage,
    #[serde(default)]
    access: AccessConfig,
}

fn copies_default() -> u8 {
    COPIES_DEFAULT
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFill {
    no_progress_seconds: Option<u64>,
    in_flight_max: Option<usize>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawStorage {
    quota_bytes: Option<u64>,
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
        let raw: RawConfig = toml::from_str(&text).map_err(|source| ConfigError::Parse {
            path: path.to_owned(),
            source: Box::new(source),
        })?;
        raw.check(std::env::var(NODE_NAME_VARIABLE).ok().filter(|name| !name.is_empty()))
    }

    /// The address of this node among the peers.
    pub fn own_address(&self) -> &PeerAddress {
        self.peers
            .iter()
            .find(|peer| peer.ordinal == self.ordinal)
            .expect("checked when loaded")
    }
}

impl RawConfig {
    /// `name` is the node's name as whoever started it says.
    fn check(self, name: Option<String>) -> Result<Config, ConfigError> {
        let named = name.as_deref().and_then(trailing_number);
        let ordinal = self.ordinal.or(named).ok_or_else(|| ConfigError::Value {
            key: "ordinal",
            reason: format!("not written, and {NODE_NAME_VARIABLE} does not end in a number"),
        })?;
        check_peers(&self.peers, ordinal)?;
        check_schemes(&self.peers, self.tls.is_some())?;
        let copies = NonZeroU8::new(self.copies).ok_or_else(|| ConfigError::Value {
            key: "copies",
            reason: "at least one copy is needed".into(),
        })?;
        Ok(Config {
            node_name: self.node_name.or(name).unwrap_or_else(|| format!("node-{ordinal}")),
            ordinal,
            data_dir: self.data_dir,
            quota_bytes: self.storage.check()?,
            copies,
            allow_genesis: self.allow_genesis,
            listen: self.listen,
            peers: self.peers,
            tls: self.tls,
            upstream: self.upstream.load().map_err(ConfigError::Upstream)?,
            freshness: self.freshness.try_into().map_err(ConfigError::Freshness)?,
            fill: self.fill.check()?,
            access: self.access,
        })
    }
}

impl RawFill {
    fn check(self) -> Result<FillLimits, ConfigError> {
        let no_progress = self.no_progress_seconds.map_or(FILL_NO_PROGRESS, Duration::from_secs);
        if no_progress.is_zero() {
            let reason = "must be at least 1".to_owned();
            return Err(ConfigError::Value {
                key: "fill.no_progress_seconds",
                reason,
            });
        }
        let in_flight_max = self.in_flight_max.unwrap_or(FILLS_MAX);
        if in_flight_max == 0 {
            return Err(ConfigError::Value {
                key: "fill.in_flight_max",
                reason: "must be at least 1".into(),
            });
        }
        Ok(FillLimits {
            no_progress,
            in_flight_max,
        })
    }
}

impl RawStorage {
    fn check(self) -> Result<Option<u64>, ConfigError> {
        match self.quota_bytes {
            Some(bytes) if bytes < QUOTA_BYTES_MIN => Err(ConfigError::Value {
                key: "storage.quota_bytes",
                reason: format!("must be at least {QUOTA_BYTES_MIN}: the node's own databases need that much"),
            }),
            quota => Ok(quota),
        }
    }
}

fn trailing_number(name: &str) -> Option<u32> {
    let stem = name.trim_end_matches(|c: char| c.is_ascii_digit());
    name[stem.len()..].parse().ok()
}

fn check_peers(peers: &[PeerAddress], own: u32) -> Result<(), ConfigError> {
    let wrong = |reason: String| Err(ConfigError::Value { key: "peers", reason });
    if peers.len() > PEERS_MAX {
        return wrong(format!("{} listed, at most {PEERS_MAX} make sense", peers.len()));
    }
    let ordinals: BTreeSet<_> = peers.iter().map(|peer| peer.ordinal).collect();
    if ordinals.len() != peers.len() {
        return wrong("an ordinal is listed twice".into());
    }
    if !ordinals.contains(&own) {
        return wrong(format!("this node's ordinal {own} is not listed"));
    }
    Ok(())
}

/// Plain traffic is spoken where the URLs say `http://`, never because a section is missing.
fn check_schemes(peers: &[PeerAddress], tls: bool) -> Result<(), ConfigError> {
    let scheme = if tls { "https://" } else { "http://" };
    for peer in peers {
        let Some(other) = [&peer.grpc, &peer.registry]
            .into_iter()
            .find(|url| !url.starts_with(scheme))
        else {
            continue;
        };
        let reason = match tls {
            true => format!("is there, so peer {} is reached by https, not at {other}", peer.ordinal),
            false => format!(
                "is missing, so peer {} can be reached by http only, not at {other}",
                peer.ordinal
            ),
        };
        return Err(ConfigError::Value { key: "tls", reason });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
