//! [`Supply`] over the network: cache nodes by [`NodeClient`], source registries by [`RegistryClient`].

mod node;
mod upstream;

use std::time::Duration;

use ::upstream::{NodeClient, NodeTransport, NodeUrl, RegistryClient, SilencePolicy};
use daemon::tls::{Protocol, Tls};
use distribution::{ManifestAnswer, ReferrersAnswer, TagList};
use futures::FutureExt;
use futures::future::BoxFuture;
use http::{HeaderName, HeaderValue};
use oci::Repository;
use proto::access::{NODE_HEADER, SourceAuthorization, TierFacts};

use super::{BlobAsk, BlobStat, Found, ManifestAsk, OpenBlob, Part, ReferrersAsk, Supplier, Supply, TagsAsk};
use node::Node;

/// Silence of a living node after which it is given up. A node ends a fetch without progress after 30 s itself, and
/// one that relays hears of that a moment later.
const NODE_PROGRESS_DEADLINE: Duration = Duration::from_secs(40);

/// Everybody who can be asked.
pub(crate) struct NetworkSupply {
    nodes: Vec<Node>,
    registries: RegistryClient,
}

impl NetworkSupply {
    /// Connects to nobody yet. `tls` is what nodes at `https` are shown and must show.
    /// `node_name` is this machine's, which every request tells.
    pub(crate) fn new(
        nodes: &[NodeUrl],
        tls: Option<&Tls>,
        node_name: Option<HeaderValue>,
        registries: RegistryClient,
    ) -> Self {
        let client = NodeClient::new(NodeTransport {
            tls: tls.map(|tls| tls.client_config(Protocol::Http1)),
            headers: node_name
                .map(|name| (HeaderName::from_static(NODE_HEADER), name))
                .into_iter()
                .collect(),
            silence: SilencePolicy {
                progress_deadline: NODE_PROGRESS_DEADLINE,
                ..SilencePolicy::default()
            },
            ..NodeTransport::default()
        });
        let nodes = nodes
            .iter()
            .map(|url| Node {
                client: client.clone(),
                url: url.clone(),
            })
            .collect();
        Self { nodes, registries }
    }
}

impl Supply for NetworkSupply {
    fn manifest<'a>(&'a self, from: Supplier, ask: &'a ManifestAsk) -> Found<'a, ManifestAnswer> {
        match from {
            Supplier::Node(node) => self.nodes[node].manifest(ask).boxed(),
            Supplier::Upstream => upstream::manifest(&self.registries, ask).boxed(),
        }
    }

    fn blob<'a>(&'a self, from: Supplier, ask: &'a BlobAsk, part: Part) -> Found<'a, OpenBlob> {
        match from {
            Supplier::Node(node) => self.nodes[node].blob(ask, part).boxed(),
            Supplier::Upstream => upstream::blob(&self.registries, ask, part).boxed(),
        }
    }

    fn stat<'a>(&'a self, from: Supplier, ask: &'a BlobAsk) -> Found<'a, BlobStat> {
        match from {
            Supplier::Node(node) => self.nodes[node].stat(ask).boxed(),
            Supplier::Upstream => upstream::stat(&self.registries, ask).boxed(),
        }
    }

    fn tags<'a>(&'a self, from: Supplier, ask: &'a TagsAsk) -> Found<'a, TagList> {
        match from {
            Supplier::Node(node) => self.nodes[node].tags(ask).boxed(),
            Supplier::Upstream => upstream::tags(&self.registries, ask).boxed(),
        }
    }

    fn referrers<'a>(&'a self, from: Supplier, ask: &'a ReferrersAsk) -> Found<'a, ReferrersAnswer> {
        match from {
            Supplier::Node(node) => self.nodes[node].referrers(ask).boxed(),
            Supplier::Upstream => upstream::referrers(&self.registries, ask).boxed(),
        }
    }

    fn trusts(&self, supplier: Supplier) -> bool {
        match supplier {
            Supplier::Node(node) => self.nodes[node].is_trusted(),
            Supplier::Upstream => false,
        }
    }

    fn facts(&self, node: usize) -> Found<'_, TierFacts> {
        self.nodes[node].facts().boxed()
    }

    fn authorization<'a>(
        &'a self,
        node: usize,
        repository: &'a Repository,
        deadline: Duration,
    ) -> Found<'a, SourceAuthorization> {
        self.nodes[node].authorization(repository, deadline).boxed()
    }

    fn ping(&self, node: usize) -> BoxFuture<'_, bool> {
        let Node { client, url } = &self.nodes[node];
        client.ping(url).boxed()
    }
}
