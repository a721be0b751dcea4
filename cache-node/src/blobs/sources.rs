//! Where a fill's bytes come from: another cache node, or the source registry.

use daemon::runtime::one_line;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::{StreamExt, TryStreamExt};
use oci::{Digest, Repository};
use upstream::UpstreamError;

use crate::fill::{Source, SourceError, SourceStream};
use crate::peers::{PeerAnswer, Peers};
use crate::pull_error::PullError;
use crate::sources::Sources;
use crate::tier::Ordinal;

/// The label of every source registry.
pub const UPSTREAM: &str = "upstream";

/// Another cache node.
pub(super) struct PeerSource {
    pub(super) peers: Peers,
    pub(super) peer: Ordinal,
    pub(super) repository: Repository,
    pub(super) digest: Digest,
    pub(super) hop: u8,
    /// How long it may send nothing while it lives.
    pub(super) patience: Duration,
}

/// The source registry.
pub(super) struct UpstreamSource {
    pub(super) sources: Arc<Sources>,
    pub(super) repository: Repository,
    pub(super) digest: Digest,
}

/// The label of a cache node.
pub(super) fn peer_label(peer: Ordinal) -> String {
    format!("node-{peer}")
}

#[async_trait]
impl Source for PeerSource {
    fn label(&self) -> String {
        peer_label(self.peer)
    }

    async fn open(&self, offset: u64) -> Result<SourceStream, SourceError> {
        match self
            .peers
            .blob(self.peer, &self.repository, &self.digest, offset, self.hop)
            .await
        {
            PeerAnswer::Found(found) => {
                let stream = found.blob.stream.map_err(source_error).boxed();
                Ok(SourceStream {
                    total: found.blob.total_bytes,
                    stream,
                })
            }
            PeerAnswer::Refused(PullError::NotFound) => Err(SourceError::NotFound),
            PeerAnswer::Refused(PullError::Timeout(_)) => Err(SourceError::NoProgress(self.patience)),
            PeerAnswer::Refused(error) => Err(SourceError::Denied { why: one_line(&error) }),
            PeerAnswer::Unable(why) => Err(SourceError::Unavailable { why, after: None }),
        }
    }

    fn patience(&self) -> Option<Duration> {
        Some(self.patience)
    }
}

#[async_trait]
impl Source for UpstreamSource {
    fn label(&self) -> String {
        UPSTREAM.to_owned()
    }

    async fn open(&self, offset: u64) -> Result<SourceStream, SourceError> {
        let answer = self
            .sources
            .client()
            .get_blob(&self.repository, &self.digest, offset)
            .await;
        let found = answer.map_err(source_error)?;
        Ok(SourceStream {
            total: found.total_bytes,
            stream: found.stream.map_err(source_error).boxed(),
        })
    }
}

fn source_error(error: UpstreamError) -> SourceError {
    let why = one_line(&error);
    match error {
        UpstreamError::NotFound { .. } => SourceError::NotFound,
        UpstreamError::Denied { .. } | UpstreamError::Refused { .. } => SourceError::Denied { why },
        UpstreamError::RateLimited { after, .. } => SourceError::Unavailable { why, after },
        UpstreamError::Unavailable { after, .. } => SourceError::Unavailable { why, after },
        UpstreamError::Timeout { waited, .. } => SourceError::NoProgress(waited),
        UpstreamError::Corrupt { .. } | UpstreamError::Protocol { .. } => SourceError::Corrupt { why },
    }
}
