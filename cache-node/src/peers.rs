//! Asks other cache nodes for manifests and blobs, and notes who does not answer.

use daemon::runtime::one_line;
use std::sync::Arc;

use http::Method;
use oci::{Digest, ManifestReference, RawManifest, Repository};
use upstream::{FailureStatus, NodeBlob, NodeCall, NodeClient, NodeNotes, Phase, UpstreamError};

use crate::asked::{Asked, HOPS_TO_OWNER};
use crate::pull_error::PullError;
use crate::tier::{Ordinal, Tier};

/// The other nodes. Clones share connections.
#[derive(Clone)]
pub struct Peers {
    nodes: NodeClient,
    tier: Arc<Tier>,
}

/// What asking a peer came to.
pub enum PeerAnswer<T> {
    /// It has it.
    Found(T),
    /// It speaks for the source: there is none, or not with these credentials, or the source is silent.
    Refused(PullError),
    /// It cannot give it, or is dead; someone else may have it.
    Unable(String),
}

impl Peers {
    /// Asks the nodes of `tier` with `nodes`.
    pub fn new(nodes: NodeClient, tier: Arc<Tier>) -> Self {
        Self { nodes, tier }
    }

    /// The tier whose nodes are asked.
    pub fn tier(&self) -> &Arc<Tier> {
        &self.tier
    }

    /// Asks for a manifest, and checks it.
    pub async fn manifest(
        &self,
        peer: Ordinal,
        repository: &Repository,
        reference: &ManifestReference,
        asked: Asked,
    ) -> PeerAnswer<(RawManifest, NodeNotes)> {
        let Some(address) = self.tier.peer(peer) else {
            return PeerAnswer::Unable(format!("no peer {peer}"));
        };
        let call = NodeCall {
            hop: HOPS_TO_OWNER,
            cache_index: asked.cache_index.map(|index| index.to_string()),
        };
        match self
            .nodes
            .manifest(&address.registry, Method::GET, repository, reference, &call)
            .await
        {
            Ok(found) => match RawManifest::verified(found.bytes, found.media_type, &found.digest) {
                Ok(raw) if reference.digest().is_none_or(|digest| digest == raw.digest()) => {
                    PeerAnswer::Found((raw, found.notes))
                }
                Ok(raw) => PeerAnswer::Unable(format!("node {peer} gave {} for {reference}", raw.digest())),
                Err(error) => PeerAnswer::Unable(one_line(&error)),
            },
            Err(error) => self.failed(peer, error),
        }
    }

    /// Opens a blob at `offset`, having travelled `hop` nodes.
    pub async fn blob(
        &self,
        peer: Ordinal,
        repository: &Repository,
        digest: &Digest,
        offset: u64,
        hop: u8,
    ) -> PeerAnswer<NodeBlob> {
        let Some(address) = self.tier.peer(peer) else {
            return PeerAnswer::Unable(format!("no peer {peer}"));
        };
        let call = NodeCall { hop, cache_index: None };
        match self
            .nodes
            .get_blob(&address.registry, repository, digest, offset, &call)
            .await
        {
            Ok(found) => PeerAnswer::Found(found),
            Err(error) => self.failed(peer, error),
        }
    }

    fn failed<T>(&self, peer: Ordinal, error: UpstreamError) -> PeerAnswer<T> {
        if let UpstreamError::NotFound { .. } | UpstreamError::Denied { .. } = error {
            return PeerAnswer::Refused(error.into());
        }
        if is_gateway_timeout(&error) {
            return PeerAnswer::Refused(PullError::Timeout(one_line(&error)));
        }
        if is_unreachable(&error) {
            self.tier.mark_dead(peer);
        }
        PeerAnswer::Unable(one_line(&error))
    }
}

/// Whether a node says that its source was silent for as long as anybody waits: asking that again takes as long again.
pub fn is_gateway_timeout(error: &UpstreamError) -> bool {
    match error {
        UpstreamError::Unavailable { source, .. } => source
            .downcast_ref::<FailureStatus>()
            .is_some_and(|status| status.0 == 504),
        _ => false,
    }
}

/// Whether a node did not answer at all, rather than answer that it cannot.
pub fn is_unreachable(error: &UpstreamError) -> bool {
    match error {
        UpstreamError::Unavailable { source, .. } => source.downcast_ref::<FailureStatus>().is_none(),
        UpstreamError::Timeout { phase, .. } => *phase == Phase::Connect,
        _ => false,
    }
}
