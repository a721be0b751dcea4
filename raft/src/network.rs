//! openraft's calls to other members, over gRPC.

mod send_snapshot;
mod wire;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{RPCOption, RaftNetworkFactory, RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest, TransferLeaderResponse,
    VoteRequest, VoteResponse,
};
use proto::v1 as pb;
use proto::v1::raft_client::RaftClient;
use tonic::transport::Channel;
use tonic::{Code, Response, Status};

use crate::codec::CodecError;
use crate::connect::{Lane, Peers};
use crate::identity::Member;
use crate::runtime::Runtime;
use crate::snapshot::Snapshot;
use crate::state_machine::RaftSnapshot;
use crate::types::{NodeInfo, TypeConfig, Vote};
pub(crate) use wire::{
    append_from_wire, append_response_to_wire, transfer_from_wire, transfer_response_to_wire, vote_request_from_wire,
    vote_response_to_wire,
};

/// Makes clients of the other members.
pub(crate) struct Network {
    pub(crate) peers: Arc<Peers>,
    pub(crate) member: Member,
}

/// Calls one member over one connection.
pub(crate) struct PeerClient {
    peers: Arc<Peers>,
    address: String,
    lane: Lane,
    route: pb::Route,
}

impl Network {
    fn client(&self, target: u64, node: &NodeInfo, lane: Lane) -> PeerClient {
        let route = pb::Route {
            cluster_id: self.member.cluster.to_string(),
            from: self.member.node.get(),
            to: target,
        };
        PeerClient {
            peers: Arc::clone(&self.peers),
            address: node.address.clone(),
            lane,
            route,
        }
    }
}

impl<RT: Runtime> RaftNetworkFactory<TypeConfig<RT>> for Network {
    type Network = PeerClient;

    async fn new_client(&mut self, target: u64, node: &NodeInfo) -> PeerClient {
        self.client(target, node, Lane::Control)
    }

    async fn new_snapshot_client(&mut self, target: u64, node: &NodeInfo) -> PeerClient {
        self.client(target, node, Lane::Bulk)
    }
}

type RpcError<RT> = RPCError<TypeConfig<RT>>;

fn failed<RT: Runtime>(status: &Status) -> RpcError<RT> {
    match status.code() {
        // Nobody there: openraft waits longer before it tries again.
        Code::Unavailable => RPCError::Unreachable(Unreachable::new(status)),
        _ => RPCError::Network(NetworkError::new(status)),
    }
}

fn malformed<RT: Runtime>(error: CodecError) -> RpcError<RT> {
    RPCError::Network(NetworkError::new(&error))
}

impl PeerClient {
    fn client<RT: Runtime>(&self) -> Result<RaftClient<Channel>, RpcError<RT>> {
        self.peers
            .client(&self.address, self.lane)
            .map_err(|error| RPCError::Unreachable(Unreachable::new(&error)))
    }

    fn route(&self) -> Option<pb::Route> {
        Some(self.route.clone())
    }
}

/// Runs a call within its deadline.
async fn call<RT: Runtime, T>(
    deadline: Duration,
    call: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<T, RpcError<RT>> {
    match tokio::time::timeout(deadline, call).await {
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(status)) => Err(failed(&status)),
        Err(elapsed) => Err(RPCError::Network(NetworkError::new(&elapsed))),
    }
}

impl<RT: Runtime> RaftNetworkV2<TypeConfig<RT>> for PeerClient {
    type SnapshotData = Snapshot;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<TypeConfig<RT>>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig<RT>>, RpcError<RT>> {
        let mut client = self.client()?;
        let request = wire::append_to_wire(self.route(), &rpc);
        let response = call(option.hard_ttl(), client.append(request)).await?;
        wire::append_response_from_wire(response).map_err(malformed)
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<TypeConfig<RT>>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig<RT>>, RpcError<RT>> {
        let mut client = self.client()?;
        let response = call(
            option.hard_ttl(),
            client.vote(wire::vote_request_to_wire(self.route(), &rpc)),
        )
        .await?;
        wire::vote_response_from_wire(response).map_err(malformed)
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<TypeConfig<RT>>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig<RT>>, RpcError<RT>> {
        let mut client = self.client()?;
        let response = call(
            option.hard_ttl(),
            client.pre_vote(wire::vote_request_to_wire(self.route(), &rpc)),
        )
        .await?;
        wire::vote_response_from_wire(response).map_err(malformed)
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: RaftSnapshot,
        cancel: impl Future<Output = ReplicationClosed> + Send + 'static,
        option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig<RT>>, StreamingError<TypeConfig<RT>>> {
        let client = self.client()?;
        let sending = send_snapshot::send(client, self.route.clone(), vote, snapshot.snapshot, option.hard_ttl());
        let response = tokio::select! {
            biased;
            closed = cancel => return Err(StreamingError::Closed(closed)),
            response = sending => response.map_err(|status| StreamingError::Network(NetworkError::new(&status)))?,
        };
        let vote = wire::snapshot_response_from_wire(response).map_err(malformed)?;
        Ok(SnapshotResponse::new(vote))
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<TypeConfig<RT>>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig<RT>>, RpcError<RT>> {
        let mut client = self.client()?;
        let request = wire::transfer_to_wire(self.route(), &request);
        let response = call(option.hard_ttl(), client.transfer_leader(request)).await?;
        wire::transfer_response_from_wire(response).map_err(malformed)
    }
}
