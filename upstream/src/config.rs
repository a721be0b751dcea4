//! How to reach source registries: what a person may write, and what the client is given.
//!
//! [`RawUpstreamConfig`] is the file form (unknown keys refused); [`RawUpstreamConfig::load`] reads the files it names
//! and answers with an [`UpstreamConfig`] that needs no more checks, or an error that names
//! key and host. Every default is a constant here.

mod base_url;
mod credentials;
mod proxies;
mod raw;

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use oci::{NameError, SourceHost};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

pub use base_url::{BaseUrl, BaseUrlError};
pub use credentials::{Credential, Credentials, CredentialsError};
pub(crate) use proxies::HttpProxy;
pub use proxies::{ProxyError, ProxyRules};
pub use raw::{RawHostRule, RawUpstreamConfig};

use crate::retry::RetryPolicy;

/// Name resolution, TCP, tunnel and TLS together. As long as a source may go without progress: an address that
/// swallows packets looks the same as a slow one.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// A source that sends no headers for this long has failed; a direct pull would wait no less.
pub const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// A body that brings nothing for this long has failed.
pub const NO_PROGRESS_TIMEOUT: Duration = Duration::from_secs(30);

/// How long to wait for a registry, and how often to try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Patience {
    /// For the headers of each request, connecting included.
    pub headers: Duration,
    /// For the next bytes of a body.
    pub no_progress: Duration,
    /// Which failures before the first byte are tried again.
    pub retry: RetryPolicy,
}

/// Everything the client needs to know about source registries.
#[derive(Clone, Debug)]
pub struct UpstreamConfig {
    /// Hosts that someone configured; only these may be at loopback, link-local or metadata addresses.
    pub hosts: BTreeMap<SourceHost, HostRule>,
    /// Who we are, where a registry asks.
    pub credentials: Credentials,
    /// Proxies on the way.
    pub proxies: ProxyRules,
    /// For name resolution, TCP, tunnel and TLS together.
    pub connect_timeout: Duration,
    /// What calls use unless they bring their own.
    pub patience: Patience,
    /// What we call ourselves.
    pub user_agent: String,
}

/// What is special about one source host.
#[derive(Clone, Debug)]
pub struct HostRule {
    /// Where its API is.
    pub url: BaseUrl,
    /// Takes any certificate.
    pub insecure: bool,
    /// Certificate authorities beside the system's.
    pub extra_roots: Vec<CertificateDer<'static>>,
    /// What we show a server that asks for a client certificate.
    pub identity: Option<Arc<ClientIdentity>>,
    /// Hosts outside its domain whose token server may see its credentials.
    pub realms: Vec<String>,
}

/// A client certificate.
#[derive(Debug)]
pub struct ClientIdentity {
    /// The chain, leaf first.
    pub chain: Vec<CertificateDer<'static>>,
    /// The key of the leaf.
    pub key: PrivateKeyDer<'static>,
}

impl HostRule {
    /// A rule that only says where the API is.
    pub fn at(url: BaseUrl) -> Self {
        Self {
            url,
            insecure: false,
            extra_roots: Vec::new(),
            identity: None,
            realms: Vec::new(),
        }
    }
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            headers: HEADER_TIMEOUT,
            no_progress: NO_PROGRESS_TIMEOUT,
            retry: RetryPolicy::default(),
        }
    }
}

impl Default for UpstreamConfig {
    /// Public registries at their own names, no credentials, no proxies.
    fn default() -> Self {
        Self {
            hosts: BTreeMap::new(),
            credentials: Credentials::default(),
            proxies: ProxyRules::default(),
            connect_timeout: CONNECT_TIMEOUT,
            patience: Patience::default(),
            user_agent: concat!("kube-image-keeper/", env!("CARGO_PKG_VERSION")).to_owned(),
        }
    }
}

impl UpstreamConfig {
    /// The rule for a host; `quay.io:443` is `quay.io`.
    pub(crate) fn rule(&self, host: &SourceHost) -> Option<&HostRule> {
        self.hosts.get(host).or_else(|| {
            let bare = host.as_str().strip_suffix(":443")?;
            self.hosts.get(&bare.parse::<SourceHost>().ok()?)
        })
    }

    /// True if someone configured this host, for instance to tell a `host-port` path component from a name.
    pub fn knows(&self, host: &SourceHost) -> bool {
        self.rule(host).is_some()
    }
}

/// A configuration that cannot work. Each variant names the key, and the host it stands under.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A key of `hosts` is no host.
    #[error("hosts: {key:?} is not a host")]
    Host {
        /// The key.
        key: String,
        /// Why.
        source: NameError,
    },
    /// A `url` is unusable.
    #[error("hosts.{host:?}.url")]
    Url {
        /// The host.
        host: String,
        /// Why.
        source: BaseUrlError,
    },
    /// A file cannot be read.
    #[error("{key}: read {path:?}")]
    Read {
        /// The key that names the file.
        key: String,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file holds no usable certificate or key.
    #[error("{key}: {path:?} {reason}")]
    Certificate {
        /// The key that names the file.
        key: String,
        /// The file.
        path: PathBuf,
        /// What is missing.
        reason: String,
    },
    /// The credentials file is malformed.
    #[error("credentials_file: {path:?}")]
    Credentials {
        /// The file.
        path: PathBuf,
        /// Why.
        source: CredentialsError,
    },
    /// A proxy variable is unusable.
    #[error("proxy from the environment")]
    Proxy(#[source] ProxyError),
    /// Two hosts lead to the same server with different TLS settings.
    #[error("hosts {first} and {second} both lead to {server} but differ in insecure, ca_files or client certificate")]
    Conflict {
        /// One host.
        first: String,
        /// The other.
        second: String,
        /// Where both lead.
        server: String,
    },
    /// Certificates or keys that TLS does not accept.
    #[error("hosts.{host:?}: TLS settings")]
    Tls {
        /// The host.
        host: String,
        /// Why.
        source: rustls::Error,
    },
    /// A value out of range.
    #[error("{key} {reason}")]
    Value {
        /// The key.
        key: String,
        /// What it must be.
        reason: &'static str,
    },
}
