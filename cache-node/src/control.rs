//! Asks other cache nodes over gRPC.

use std::collections::HashMap;
use std::time::Duration;

use oci::{Digest, Repository};
use proto::v1::peer_client::PeerClient;
use proto::v1::{ControllerHeardRequest, HeldRequest, KeepReply, KeepRequest, WantedBlob};
use tonic::Request;
use tonic::transport::{Channel, Endpoint};

use crate::tier::{Ordinal, Tier};

/// How long a peer may take to begin what it is asked for.
const ANSWER_DEADLINE: Duration = Duration::from_secs(2);
/// How long connecting to a peer may take.
const CONNECT_DEADLINE: Duration = Duration::from_millis(500);

/// Connections to the other nodes. Clones share them.
#[derive(Clone)]
pub struct Control {
    peers: HashMap<Ordinal, PeerClient<Channel>>,
}

/// Why a peer did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// It is not in the configuration.
    #[error("no peer {0}")]
    UnknownPeer(Ordinal),
    /// Its URL or the certificates cannot be used.
    #[error("connect to peer {ordinal}")]
    Connect {
        /// Which one.
        ordinal: Ordinal,
        /// Why.
        source: tonic::transport::Error,
    },
    /// It did not answer, or refused.
    #[error("ask peer {ordinal}")]
    Refused {
        /// Which one.
        ordinal: Ordinal,
        /// What it said.
        source: Box<tonic::Status>,
    },
}

impl Control {
    /// Makes connections with `connect` that are opened when first needed.
    ///
    /// # Errors
    /// [`ControlError::Connect`] for an unusable URL.
    pub fn new(tier: &Tier, connect: impl Fn(&Endpoint) -> Channel) -> Result<Self, ControlError> {
        let connect = |ordinal, url: &str| {
            let failed = |source| ControlError::Connect { ordinal, source };
            // Whether the connection is secured is for `connect` to say.
            let address = url.split_once("://").map_or(url, |(_, address)| address);
            let endpoint = Endpoint::from_shared(format!("http://{address}")).map_err(failed)?;
            let endpoint = endpoint.connect_timeout(CONNECT_DEADLINE).timeout(ANSWER_DEADLINE);
            Ok((ordinal, PeerClient::new(connect(&endpoint))))
        };
        let peers = tier
            .others()
            .map(|peer| connect(peer.ordinal, &peer.grpc))
            .collect::<Result<_, _>>()?;
        Ok(Self { peers })
    }

    /// Asks a node to keep copies of blobs that may be fetched through `repository`. It answers once it has begun, with
    /// what it says of them.
    ///
    /// # Errors
    /// [`ControlError`] by what went wrong.
    pub async fn keep(
        &self,
        ordinal: Ordinal,
        repository: &Repository,
        blobs: &[(Digest, Option<u64>)],
    ) -> Result<KeepReply, ControlError> {
        let mut client = self.peer(ordinal)?;
        let wanted = |(digest, size_bytes): &(Digest, Option<u64>)| WantedBlob {
            digest: digest.to_string(),
            size_bytes: *size_bytes,
        };
        let request = KeepRequest {
            host: repository.host.to_string(),
            name: repository.name.to_string(),
            blobs: blobs.iter().map(wanted).collect(),
        };
        let kept = client.keep(Request::new(request)).await;
        kept.map(tonic::Response::into_inner)
            .map_err(|status| refused(ordinal, status))
    }

    /// Asks a node which blobs it holds; the answers are in the order of the digests.
    ///
    /// # Errors
    /// [`ControlError`] by what went wrong.
    pub async fn held(&self, ordinal: Ordinal, digests: &[Digest]) -> Result<Vec<bool>, ControlError> {
        let mut client = self.peer(ordinal)?;
        let request = HeldRequest {
            digests: digests.iter().map(Digest::to_string).collect(),
        };
        let answer = client.held(Request::new(request)).await;
        let held = answer.map_err(|status| refused(ordinal, status))?.into_inner().held;
        if held.len() != digests.len() {
            return Err(refused(ordinal, tonic::Status::internal("as many answers as digests")));
        }
        Ok(held)
    }

    /// Tells a node that the controller was just heard.
    ///
    /// # Errors
    /// [`ControlError`] by what went wrong.
    pub async fn tell_controller_heard(&self, ordinal: Ordinal) -> Result<(), ControlError> {
        let mut client = self.peer(ordinal)?;
        let told = client.controller_heard(Request::new(ControllerHeardRequest {})).await;
        told.map(|_| ()).map_err(|status| refused(ordinal, status))
    }

    fn peer(&self, ordinal: Ordinal) -> Result<PeerClient<Channel>, ControlError> {
        let known = self.peers.get(&ordinal).cloned();
        known.ok_or(ControlError::UnknownPeer(ordinal))
    }
}

fn refused(ordinal: Ordinal, status: tonic::Status) -> ControlError {
    ControlError::Refused {
        ordinal,
        source: Box::new(status),
    }
}
