//! What members ask of each other, answered by openraft.

use openraft::errors::RaftError;
use proto::status::Failure;
use proto::v1 as pb;
use tonic::{Status, Streaming};

use crate::codec::{CodecError, required, vote_from_wire, vote_to_wire};
use crate::log_disk::{LogDisk, LogRoom};
use crate::network;
use crate::node::Node;
use crate::runtime::Runtime;
use crate::server::take_in;
use crate::snapshot::Manifest;
use crate::state_machine;
use crate::state_store::StateStore;

/// The consensus protocol, in messages.
#[tonic::async_trait]
pub(crate) trait Protocol {
    async fn vote(&self, request: pb::VoteRequest) -> Result<pb::VoteResponse, Status>;
    async fn pre_vote(&self, request: pb::VoteRequest) -> Result<pb::VoteResponse, Status>;
    async fn append(&self, request: pb::AppendRequest) -> Result<pb::AppendResponse, Status>;
    async fn transfer_leader(&self, request: pb::TransferLeaderRequest) -> Result<pb::TransferLeaderResponse, Status>;
    async fn snapshot_kept(&self, manifest: pb::SnapshotManifest) -> Result<pb::SnapshotKeptResponse, Status>;
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

/// Refuses what would take up the room that is left for votes.
fn has_room(disk: &LogDisk) -> Result<(), Status> {
    match disk.room() {
        LogRoom::Exhausted => Err(Failure::Unavailable.status("the disk is full, nothing is taken in")),
        LogRoom::Enough | LogRoom::Scarce => Ok(()),
    }
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
        if !request.entries.is_empty() {
            has_room(&self.disk)?;
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

    async fn snapshot_kept(&self, manifest: pb::SnapshotManifest) -> Result<pb::SnapshotKeptResponse, Status> {
        let kept = take_in::kept(self.state.clone(), Manifest(manifest)).await?;
        Ok(pb::SnapshotKeptResponse { kept })
    }

    async fn snapshot(
        &self,
        header: pb::SnapshotHeader,
        parts: Streaming<pb::SnapshotPart>,
    ) -> Result<pb::SnapshotResponse, Status> {
        has_room(&self.disk)?;
        let vote = vote_from_wire(required(header.vote, "vote of a snapshot").map_err(malformed)?);
        let manifest = Manifest(required(header.manifest, "manifest of a snapshot").map_err(malformed)?);
        let kept = header.kept.into_iter().collect();
        let snapshot = take_in::receive(self.state.clone(), manifest, kept, parts).await?;
        let snapshot = state_machine::to_raft(snapshot).map_err(take_in::not_stored)?;
        let response = self.raft.install_full_snapshot(vote, snapshot).await;
        let response = response.map_err(|error| Failure::Unavailable.status(error.to_string()))?;
        Ok(pb::SnapshotResponse {
            vote: Some(vote_to_wire(&response.vote)),
        })
    }
}
