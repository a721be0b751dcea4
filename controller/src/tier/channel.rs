//! Connections to the cache nodes, and whom to ask first.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};

use crate::config::NodeAddress;
use crate::pki::Identity;

/// A node that lives accepts at once; DNS of a pod that was just made may take a moment.
const CONNECT_DEADLINE: Duration = Duration::from_secs(2);
/// A connection on which nothing is heard for this long and then not for as long again is given up.
const KEEP_ALIVE: Duration = Duration::from_secs(5);

/// Why a node cannot be called.
#[derive(Debug, thiserror::Error)]
#[error("{address:?} is not the address of a cache node")]
pub(crate) struct ChannelError {
    address: String,
    source: tonic::transport::Error,
}

/// A connection to each node, made when it is first used and again after it broke.
#[derive(Default)]
pub(crate) struct Channels {
    nodes: Vec<(u32, Channel)>,
    preferred: AtomicUsize,
}

impl Channels {
    pub(crate) fn new(nodes: &[NodeAddress], identity: Option<&Identity>) -> Result<Self, ChannelError> {
        let tls = identity.map(|identity| {
            ClientTlsConfig::new()
                .identity(tonic::transport::Identity::from_pem(&identity.cert, &identity.key))
                .ca_certificate(Certificate::from_pem(&identity.ca))
        });
        let nodes = nodes
            .iter()
            .map(|node| Ok((node.ordinal, channel(node, tls.as_ref())?)));
        Ok(Self {
            nodes: nodes.collect::<Result<_, ChannelError>>()?,
            preferred: AtomicUsize::new(0),
        })
    }

    /// Every node once, the one that answered last first.
    pub(crate) fn in_turn(&self) -> impl Iterator<Item = (u32, Channel)> {
        let first = self.preferred.load(Ordering::Relaxed);
        let n_nodes = self.nodes.len();
        (0..n_nodes).map(move |turn| self.nodes[(first + turn) % n_nodes].clone())
    }

    /// Asks this node first from now on.
    pub(crate) fn prefer(&self, ordinal: u32) {
        if let Some(at) = self.nodes.iter().position(|(known, _)| *known == ordinal) {
            self.preferred.store(at, Ordering::Relaxed);
        }
    }
}

fn channel(node: &NodeAddress, tls: Option<&ClientTlsConfig>) -> Result<Channel, ChannelError> {
    let failed = |source| ChannelError {
        address: node.grpc.clone(),
        source,
    };
    let endpoint = Endpoint::from_shared(node.grpc.clone()).map_err(failed)?;
    let endpoint = endpoint
        .connect_timeout(CONNECT_DEADLINE)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .keep_alive_while_idle(true);
    let secured = node.grpc.starts_with("https:").then_some(tls).flatten();
    let endpoint = match secured {
        Some(tls) => endpoint.tls_config(tls.clone()).map_err(failed)?,
        None => endpoint,
    };
    Ok(endpoint.connect_lazy())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(channels: &Channels) -> Vec<u32> {
        channels.in_turn().map(|(ordinal, _)| ordinal).collect()
    }

    #[tokio::test]
    async fn the_node_that_answered_is_asked_first() {
        let node = |ordinal| NodeAddress {
            ordinal,
            grpc: format!("http://127.0.0.1:{}", 5000 + ordinal),
        };
        let channels = Channels::new(&[node(0), node(1), node(2)], None).unwrap();
        assert_eq!(order(&channels), [0, 1, 2]);
        channels.prefer(1);
        assert_eq!(order(&channels), [1, 2, 0]);
        channels.prefer(9);
        assert_eq!(order(&channels), [1, 2, 0]);
        assert!(order(&Channels::default()).is_empty());
    }

    #[test]
    fn an_address_that_is_none_is_named() {
        let node = NodeAddress {
            ordinal: 0,
            grpc: "http://[".to_owned(),
        };
        let error = Channels::new(&[node], None).err().unwrap().to_string();
        assert!(error.contains("http://["), "{error}");
    }
}
