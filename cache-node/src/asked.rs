//! How a request reached this node, and what that allows.

use std::time::Duration;

use distribution::{CacheIndex, RequestContext};

/// Hops after which a node no longer asks the owner but the source itself. A client's request has made none, a
/// proxy's one, a peer's two.
pub const HOPS_TO_OWNER: u8 = 2;
/// Hops of a request that wants only what the node has or is fetching already.
pub const HOPS_LOCAL_ONLY: u8 = 3;
/// How long a client that has a next host to try is kept waiting for what is not here. containerd waits without end.
pub const NEXT_HOST_PATIENCE: Duration = Duration::from_secs(3);

/// How a request reached this node.
#[derive(Debug, Clone, Copy)]
pub struct Asked {
    hops: u8,
    /// Whether whoever asked can ask the next host of a mirror list.
    pub has_next_host: bool,
    /// The newest token of the tag that whoever asked has seen.
    pub cache_index: Option<CacheIndex>,
}

impl Asked {
    /// A question of this node's own.
    pub fn by_this_node() -> Self {
        Self {
            hops: 0,
            has_next_host: false,
            cache_index: None,
        }
    }

    /// Whether the owner may be asked. Otherwise this node is to go to the source, so that no request travels in circles.
    pub fn may_ask_owner(&self) -> bool {
        self.hops < HOPS_TO_OWNER
    }

    /// Whether the request comes from a client or its proxy. What a node asks, it may have: it has looked for itself.
    pub fn is_from_client_side(&self) -> bool {
        self.hops < HOPS_TO_OWNER
    }

    /// Whether the source may be asked.
    pub fn may_ask_source(&self) -> bool {
        self.hops < HOPS_LOCAL_ONLY
    }
}

impl From<&RequestContext> for Asked {
    fn from(context: &RequestContext) -> Self {
        Self {
            hops: context.hop,
            has_next_host: context.ns.is_some() && context.hop == 0,
            cache_index: context.cache_index,
        }
    }
}
