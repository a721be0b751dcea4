//! Answers other nodes about blobs.

use std::sync::{Arc, OnceLock};

use oci::{Digest, Repository};
use proto::v1::peer_server::Peer;
use proto::v1::{
    ControllerHeardReply, ControllerHeardRequest, HeldReply, HeldRequest, KeepReply, KeepRequest, WantedBlob,
};
use tonic::{Request, Response, Status};

use super::control::ControlParts;
use crate::blobs::{Blobs, Kept};

/// Blobs one request may name: an image has some 130 layers at most.
const BLOBS_MAX: usize = 2048;

/// Answers other nodes.
pub(crate) struct PeerApi {
    blobs: Arc<OnceLock<Arc<Blobs>>>,
    control: Arc<OnceLock<Arc<ControlParts>>>,
}

impl PeerApi {
    /// Answers from `blobs`, and notes in `control` what is heard, once they are there.
    pub(crate) fn new(blobs: Arc<OnceLock<Arc<Blobs>>>, control: Arc<OnceLock<Arc<ControlParts>>>) -> Self {
        Self { blobs, control }
    }

    fn blobs(&self) -> Result<&Arc<Blobs>, Status> {
        let known = self.blobs.get();
        known.ok_or_else(|| Status::unavailable("not a member of a cluster yet"))
    }
}

#[tonic::async_trait]
impl Peer for PeerApi {
    async fn keep(&self, request: Request<KeepRequest>) -> Result<Response<KeepReply>, Status> {
        let blobs = self.blobs()?;
        let request = request.into_inner();
        if request.blobs.len() > BLOBS_MAX {
            return Err(Status::invalid_argument(format!("more than {BLOBS_MAX} blobs")));
        }
        let repository = repository(&request)?;
        let mut reply = KeepReply::default();
        for blob in &request.blobs {
            let digest = digest(blob)?;
            match blobs.keep_if_missing(&repository, &digest, blob.size_bytes).await {
                Kept::Held => reply.held += 1,
                Kept::Filling => reply.filling += 1,
                Kept::NoRoom => reply.no_room += 1,
                Kept::Later => {}
            }
        }
        Ok(Response::new(reply))
    }

    async fn held(&self, request: Request<HeldRequest>) -> Result<Response<HeldReply>, Status> {
        let blobs = self.blobs()?;
        let digests = request.into_inner().digests;
        if digests.len() > BLOBS_MAX {
            return Err(Status::invalid_argument(format!("more than {BLOBS_MAX} blobs")));
        }
        let digests = digests
            .iter()
            .map(|digest| parse_digest(digest))
            .collect::<Result<Vec<_>, _>>()?;
        let held = blobs.held(&digests).await;
        let held = held.ok_or_else(|| Status::unavailable("the disk does not answer"))?;
        Ok(Response::new(HeldReply { held }))
    }

    async fn controller_heard(
        &self,
        _: Request<ControllerHeardRequest>,
    ) -> Result<Response<ControllerHeardReply>, Status> {
        if let Some(parts) = self.control.get() {
            parts.liveness.note();
        }
        Ok(Response::new(ControllerHeardReply {}))
    }
}

fn repository(request: &KeepRequest) -> Result<Repository, Status> {
    let invalid = |error: oci::NameError| Status::invalid_argument(error.to_string());
    let host = request.host.parse().map_err(invalid)?;
    let name = request.name.parse().map_err(invalid)?;
    Ok(Repository::new(host, name))
}

fn digest(blob: &WantedBlob) -> Result<Digest, Status> {
    parse_digest(&blob.digest)
}

fn parse_digest(text: &str) -> Result<Digest, Status> {
    text.parse()
        .map_err(|error: oci::DigestError| Status::invalid_argument(error.to_string()))
}
