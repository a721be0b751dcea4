//! What members ask of each other, answered by openraft.

use std::io;
use std::time::Duration;

use openraft::errors::RaftError;
use proto::status::Failure;
use proto::v1 as pb;
use tonic::{Status, Streaming};

use crate::codec::{CodecError, required, vote_from_wire, vote_to_wire};
use crate::log_disk::LogRoom;
use crate::network;
use crate::node::Node;
use crate::runtime::Runtime;
use crate::snapshot::{Manifest, Snapshot, SnapshotWriter};
use crate::state_machine;
use crate::state_store::StateStore;

/// A sender that says nothing for this long is gone; it begins again.
const SNAPSHOT_IDLE_MAX: Duration = Duration::from_secs(10);

/// The consensus protocol, in messages.
#[tonic::async_trait]
pub(crate) trait Protocol {
    async fn vote(&self, request: pb::VoteRequest) -> Result<pb::VoteResponse, Status>;
    async fn pre_vote(&self, request: pb::VoteRequest) -> Result<pb::VoteResponse, Status>;
    async fn append(&self, request: pb::AppendRequest) -> Result<pb::AppendResponse, Status>;
    async fn transfer_leader(&self, request: pb::TransferLeaderRequest) -> Result<pb::TransferLeaderResponse, Status>;
    async fn snapshot(
        &self,
        header: pb::SnapshotHeader,
        parts: Streaming<pb::SnapshotPart>,
    ) -> Result<pb::SnapshotResponse, Status>;
}

fn malformed(error: CodecError) -> Status {
    Failure::Malformed.status(error.to_string())
}

fn raft_failed<C, E>(error: RaftError<C, E>) -> Status
where
    C: openraft::RaftTypeConfig,
    RaftError<C, E>: std::fmt::Display,
{
    Failure::Unavailable.status(error.to_string())
}

#[tonic::async_trait]
impl<RT: Runtime, S: StateStore> Protocol for Node<RT, S> {
    async fn vote(&self, request: pb::VoteRequest) -> Result<pb::VoteResponse, Status> {
        let rpc = network::vote_request_from_wire(request).map_err(malformed)?;
        let response = self.raft.vote(rpc).await.map_err(raft_failed)?;
        Ok(network::vote_response_to_wire(&response))
    }

    async fn pre_vote(&self, request: pb::VoteRequest) -> Result<pb::VoteResponse, Status> {
        let rpc = network::vote_request_from_wire(request).map_err(malformed)?;
        let response = self.raft.pre_vote(rpc).await.map_err(raft_failed)?;
        Ok(network::vote_response_to_wire(&response))
    }

    async fn append(&self, request: pb::AppendRequest) -> Result<pb::AppendResponse, Status> {
        if self.disk.room() == LogRoom::Exhausted && !request.entries.is_empty() {
            return Err(Failure::Unavailable.status("the disk is full, no entry is taken in"));
        }
        let rpc = network::append_from_wire(request).map_err(malformed)?;
        let response = self.raft.append_entries(rpc).await.map_err(raft_failed)?;
        let response = network::append_response_to_wire(&response);
        if !matches!(response.result, Some(pb::append_response::Result::HigherVote(_))) {
            self.contact.note();
        }
        Ok(response)
    }

    async fn transfer_leader(&self, request: pb::TransferLeaderRequest) -> Result<pb::TransferLeaderResponse, Status> {
        let request = network::transfer_from_wire(request).map_err(malformed)?;
        let response = self.raft.handle_transfer_leader(request).await;
        let response = response.map_err(|error| Failure::Unavailable.status(error.to_string()))?;
        Ok(network::transfer_response_to_wire(&response))
    }

    async fn snapshot(
        &self,
        header: pb::SnapshotHeader,
        parts: Streaming<pb::SnapshotPart>,
    ) -> Result<pb::SnapshotResponse, Status> {
        let vote = vote_from_wire(required(header.vote, "vote of a snapshot").map_err(malformed)?);
        let manifest = Manifest(required(header.manifest, "manifest of a snapshot").map_err(malformed)?);
        let writer = self.state.store().receive(manifest).map_err(not_stored)?;
        let snapshot = receive(writer, parts).await?;
        let snapshot = state_machine::to_raft(snapshot).map_err(not_stored)?;
        let response = self.raft.install_full_snapshot(vote, snapshot).await;
        let response = response.map_err(|error| Failure::Unavailable.status(error.to_string()))?;
        Ok(pb::SnapshotResponse {
            vote: Some(vote_to_wire(&response.vote)),
        })
    }
}

fn not_stored(error: io::Error) -> Status {
    let failure = match error.kind() {
        io::ErrorKind::InvalidData => Failure::Corrupt,
        _ => Failure::Internal,
    };
    failure.status(format!("take in a snapshot: {error}"))
}

async fn receive(mut writer: SnapshotWriter, mut parts: Streaming<pb::SnapshotPart>) -> Result<Snapshot, Status> {
    loop {
        let part = tokio::time::timeout(SNAPSHOT_IDLE_MAX, parts.message()).await;
        let part = part.map_err(|_| Failure::TimedOut.status("the sender of a snapshot fell silent"))??;
        let data = match part.map(|part| part.part) {
            Some(Some(pb::snapshot_part::Part::Data(data))) => data,
            Some(_) => return Err(Failure::Malformed.status("only bytes may follow a snapshot's header")),
            None => return finish(writer).await,
        };
        writer = write(writer, data).await.map_err(not_stored)?;
    }
}

async fn write(mut writer: SnapshotWriter, data: bytes::Bytes) -> io::Result<SnapshotWriter> {
    let is_on_disk = writer.is_on_disk();
    offload(is_on_disk, move || writer.write(&data).map(|()| writer)).await
}

async fn finish(writer: SnapshotWriter) -> Result<Snapshot, Status> {
    offload(writer.is_on_disk(), move || writer.finish())
        .await
        .map_err(not_stored)
}

/// Runs `work` where it may block, if it does.
async fn offload<T: Send + 'static>(
    blocks: bool,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    if !blocks {
        return work();
    }
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}
