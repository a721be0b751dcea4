//! How a request reached this node, and what that allows.

use std::time::Duration;

use distribution::{CacheIndex, Client, RequestContext};

/// Hops after which a node no longer asks the owner but the source itself. A client's request has made none, a
/// proxy's one, a peer's two.
pub const HOPS_TO_OWNER: u8 = 2;
/// Hops of a proxy's request.
const HOPS_FROM_PROXY: u8 = 1;
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

    /// A question of this node's own that it is to put to the source itself.
    pub fn by_this_node_of_the_source() -> Self {
        Self {
            hops: HOPS_TO_OWNER,
            ..Self::by_this_node()
        }
    }

    /// Whether the owner may be asked. Otherwise this node is to go to the source, so that no request travels in circles.
    pub fn may_ask_owner(&self) -> bool {
        self.hops < HOPS_TO_OWNER
    }

    /// Whether the repository in the request has to be shown to own what it asks for. A node that makes a copy for the
    /// tier asks on no repository's behalf.
    pub fn must_be_proven(&self) -> bool {
        self.hops < HOPS_LOCAL_ONLY
    }

    /// Whether the source may be asked.
    pub fn may_ask_source(&self) -> bool {
        self.hops < HOPS_LOCAL_ONLY
    }
}

impl Asked {
    /// The same question, of somebody who is no cache node: it has travelled from a proxy at most.
    pub fn from_outside(self) -> Self {
        Self {
            hops: self.hops.min(HOPS_FROM_PROXY),
            ..self
        }
    }

    /// Reads how a request came. Only a part of the tier is believed what it says of hops: one whose certificate was
    /// checked, or anyone where `trusts_plain` says that the tier has no certificates.
    pub fn of(context: &RequestContext, trusts_plain: bool) -> Self {
        let is_part = context.client == Client::TlsVerified || (trusts_plain && context.client == Client::Plain);
        let hops = if is_part { context.hop } else { 0 };
        Self {
            hops,
            has_next_host: context.ns.is_some() && hops == 0,
            cache_index: context.cache_index,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context(client: Client, hop: u8) -> RequestContext {
        RequestContext {
            ns: None,
            hop,
            cache_index: None,
            client,
            certificate: None,
            node: None,
        }
    }

    #[test]
    fn only_a_part_of_the_tier_is_believed_what_it_says_of_hops() {
        let local_only = |client, trusts_plain| {
            let asked = Asked::of(&context(client, HOPS_LOCAL_ONLY), trusts_plain);
            !asked.may_ask_source() && !asked.must_be_proven()
        };
        assert!(local_only(Client::TlsVerified, false));
        assert!(local_only(Client::Plain, true), "a tier without certificates");
        assert!(
            !local_only(Client::Plain, false),
            "a client of the plain port claims to be a node"
        );
        assert!(!local_only(Client::TlsAnonymous, true));
    }
}
