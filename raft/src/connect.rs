//! Port [`Connect`]: how a node reaches another, and the connections it keeps.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use proto::v1::raft_client::RaftClient;
use tonic::transport::{Channel, Endpoint};

/// A message with 1 MiB of entries stays far below; one entry may be 4 MiB.
pub(crate) const MESSAGE_BYTES_MAX: usize = 32 << 20;

/// A peer that lives accepts at once; waiting longer only delays an election.
const CONNECT_DEADLINE: Duration = Duration::from_millis(500);

/// A connection on which nothing is heard for this long and then not for as long again is given up, so that a peer
/// that vanished without a word is noticed.
const KEEP_ALIVE: Duration = Duration::from_secs(2);

/// Why an address cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{address:?} is not the address of a node")]
pub struct BadAddress {
    /// The address.
    pub address: String,
    /// What is wrong.
    pub source: tonic::transport::Error,
}

/// Makes channels to other nodes.
///
/// An implementation resolves the stable name in a node's address, connects when the channel is first used, and again
/// after the connection broke. It must not block.
pub trait Connect: Send + Sync + 'static {
    /// A channel to the node of that name.
    ///
    /// # Errors
    /// [`BadAddress`] if it is no address at all; a node that is not there is noticed by who calls it.
    fn channel(&self, address: &str) -> Result<Channel, BadAddress>;
}

/// Connects without encryption. Only where a network is private to the nodes, and in tests.
#[derive(Debug, Clone, Copy, Default)]
pub struct PlainConnect;

impl Connect for PlainConnect {
    fn channel(&self, address: &str) -> Result<Channel, BadAddress> {
        Ok(endpoint("http", address)?.connect_lazy())
    }
}

/// An endpoint with the deadlines and limits every connection between nodes has.
///
/// # Errors
/// [`BadAddress`] if the address does not parse.
pub fn endpoint(scheme: &str, address: &str) -> Result<Endpoint, BadAddress> {
    let endpoint = Endpoint::from_shared(format!("{scheme}://{address}")).map_err(|source| BadAddress {
        address: address.to_owned(),
        source,
    })?;
    Ok(endpoint
        .connect_timeout(CONNECT_DEADLINE)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .keep_alive_while_idle(true)
        .tcp_nodelay(true))
}

/// What a connection is for. Bulk has its own, so that it never delays a heartbeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Lane {
    Control,
    Bulk,
}

/// The connections of this node: one per peer and lane, kept.
pub(crate) struct Peers {
    connect: Arc<dyn Connect>,
    channels: Mutex<BTreeMap<(String, Lane), Channel>>,
}

impl Peers {
    pub(crate) fn new(connect: Arc<dyn Connect>) -> Self {
        Peers {
            connect,
            channels: Mutex::new(BTreeMap::new()),
        }
    }

    pub(crate) fn client(&self, address: &str, lane: Lane) -> Result<RaftClient<Channel>, BadAddress> {
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (address.to_owned(), lane);
        let channel = match channels.get(&key) {
            Some(channel) => channel.clone(),
            None => {
                let channel = self.connect.channel(address)?;
                channels.insert(key, channel.clone());
                channel
            }
        };
        Ok(RaftClient::new(channel)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX))
    }
}
