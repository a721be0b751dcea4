//! What a proxy and a cache node say to each other beside the distribution protocol: JSON over the registry port.

use serde::{Deserialize, Serialize};

/// Request header in which a proxy names the Kubernetes node it runs on. Private repositories are served to it while
/// an admitted pod is on that node. Believed only from a client whose certificate is a proxy's.
pub const NODE_HEADER: &str = "kuik-node";

/// Path of the answer to "what does this tier know": [`TierFacts`].
pub const FACTS_PATH: &str = "/kuik/v1/facts";
/// Path of what a proxy needs to ask a source itself: [`SourceAuthorization`]; the query has `repository=host/name`.
pub const AUTHORIZATION_PATH: &str = "/kuik/v1/authorization";

/// Longest life of a [`SourceAuthorization`] at a proxy.
pub const AUTHORIZATION_SECONDS_MAX: u64 = 3600;

/// DNS name in a certificate that says which part its holder is: `<role>.kuik.internal`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// A cache node.
    CacheNode,
    /// A proxy.
    Proxy,
    /// The webhook.
    Webhook,
    /// The controller.
    Controller,
}

impl Role {
    /// All there are.
    pub const ALL: [Self; 4] = [Self::CacheNode, Self::Proxy, Self::Webhook, Self::Controller];

    /// The name in the certificate.
    pub fn dns_name(self) -> &'static str {
        match self {
            Self::CacheNode => "cache-node.kuik.internal",
            Self::Proxy => "proxy.kuik.internal",
            Self::Webhook => "webhook.kuik.internal",
            Self::Controller => "controller.kuik.internal",
        }
    }
}

/// What every proxy should know, asked for every few seconds and kept for when the tier is away.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TierFacts {
    /// Hosts with a port, as `host:port`, that desired images or the configuration name: a first path segment
    /// `host-port` means them.
    pub hosts_with_port: Vec<String>,
}

/// A short-lived way to read one repository at its source.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceAuthorization {
    /// Value of the `Authorization` header; absent where the repository is public.
    pub authorization: Option<String>,
    /// Seconds for which it may be used, from now.
    pub seconds: u64,
}

impl std::fmt::Debug for SourceAuthorization {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("SourceAuthorization")
            .field("authorization", &self.authorization.as_ref().map(|_| "hidden"))
            .field("seconds", &self.seconds)
            .finish()
    }
}
