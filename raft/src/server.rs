//! The gRPC service of a node: what its peers, and nodes that want to join, ask of it.

mod protocol;
mod take_in;

use std::sync::{Arc, PoisonError, RwLock};

use meta::{Addresses, Command, FeatureLevel, Outcome, RegisterNode, RequestId};
use proto::status::Failure;
use proto::v1 as pb;
use proto::v1::raft_server::{Raft, RaftServer};
use tonic::{Request, Response, Status, Streaming};

use crate::connect::MESSAGE_BYTES_MAX;
use crate::error::WriteError;
use crate::handle::MetaHandle;
use crate::identity::Member;
use crate::node::{NotDone, Replica};
use crate::types::NodeInfo;
pub(crate) use protocol::Protocol;
#[cfg(all(test, feature = "rocksdb"))]
pub(crate) use take_in::{kept, receive};

/// The consensus service, to be served from the moment it exists. Clones share it.
///
/// Before the node is a member it answers only who it is; after, it refuses what is meant for another cluster or node.
#[derive(Clone)]
pub struct RaftService {
    slot: Arc<Slot>,
}

struct Slot {
    ordinal: u32,
    state: RwLock<State>,
}

#[derive(Default, Clone)]
struct State {
    member: Option<Member>,
    handle: Option<MetaHandle>,
    admits: bool,
}

impl RaftService {
    pub(crate) fn new(ordinal: u32) -> Self {
        RaftService {
            slot: Arc::new(Slot {
                ordinal,
                state: RwLock::default(),
            }),
        }
    }

    /// The service for a tonic router, with its message limits set.
    pub fn into_server(self) -> RaftServer<RaftService> {
        RaftServer::new(self)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX)
    }

    /// From now on the node says it is a member.
    pub(crate) fn set_member(&self, member: Member) {
        self.slot.state.write().unwrap_or_else(PoisonError::into_inner).member = Some(member);
    }

    /// From now on the node takes part; `None`: not any more.
    pub(crate) fn set_handle(&self, handle: Option<MetaHandle>) {
        self.slot.state.write().unwrap_or_else(PoisonError::into_inner).handle = handle;
    }

    /// From now on the node lets others in. A founder does only after it has registered itself, as the first.
    pub(crate) fn admit(&self) {
        self.slot.state.write().unwrap_or_else(PoisonError::into_inner).admits = true;
    }

    fn state(&self) -> State {
        self.slot.state.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn handle(&self) -> Result<MetaHandle, Status> {
        self.state()
            .handle
            .ok_or_else(|| Failure::Unavailable.status("this node is not a member yet"))
    }

    /// The member a request is for, if it is this one.
    fn replica(&self, route: Option<&pb::Route>) -> Result<Arc<dyn Replica>, Status> {
        let replica = self.handle()?.replica();
        let member = replica.member();
        let route = route.ok_or_else(|| Failure::Malformed.status("a request without a route"))?;
        if route.cluster_id != member.cluster.to_string() {
            let message = format!("this is cluster {}, not {}", member.cluster, route.cluster_id);
            return Err(Failure::Misrouted.status(message));
        }
        if route.to != member.node.get() {
            return Err(Failure::Misrouted.status(format!("this is node {}, not {}", member.node, route.to)));
        }
        Ok(replica)
    }
}

/// What a node that is not the leader says of who is; other failures become a status.
fn not_leader(error: NotDone) -> Result<pb::NotLeader, Status> {
    match error {
        NotDone::NotLeader(leader) => Ok(pb::NotLeader {
            leader: leader.unwrap_or(0),
        }),
        NotDone::Failed(reason) => Err(Failure::Unavailable.status(reason)),
        NotDone::NoRoom => Err(Failure::Unavailable.status("the leader's disk is full")),
        NotDone::Stopped => Err(Failure::Unavailable.status("consensus has stopped on this node")),
    }
}

fn write_failed(error: WriteError) -> Status {
    let failure = match &error {
        WriteError::Overloaded => Failure::Overloaded,
        WriteError::TooLarge { .. } => Failure::Malformed,
        WriteError::TimedOut => Failure::TimedOut,
        WriteError::Stopped | WriteError::NoRoom => Failure::Unavailable,
        WriteError::Unreadable(_) => Failure::Internal,
    };
    failure.status(error.to_string())
}

#[tonic::async_trait]
impl Raft for RaftService {
    async fn vote(&self, request: Request<pb::VoteRequest>) -> Result<Response<pb::VoteResponse>, Status> {
        let request = request.into_inner();
        self.replica(request.route.as_ref())?
            .vote(request)
            .await
            .map(Response::new)
    }

    async fn pre_vote(&self, request: Request<pb::VoteRequest>) -> Result<Response<pb::VoteResponse>, Status> {
        let request = request.into_inner();
        self.replica(request.route.as_ref())?
            .pre_vote(request)
            .await
            .map(Response::new)
    }

    async fn append(&self, request: Request<pb::AppendRequest>) -> Result<Response<pb::AppendResponse>, Status> {
        let request = request.into_inner();
        self.replica(request.route.as_ref())?
            .append(request)
            .await
            .map(Response::new)
    }

    async fn transfer_leader(
        &self,
        request: Request<pb::TransferLeaderRequest>,
    ) -> Result<Response<pb::TransferLeaderResponse>, Status> {
        let request = request.into_inner();
        self.replica(request.route.as_ref())?
            .transfer_leader(request)
            .await
            .map(Response::new)
    }

    async fn snapshot_kept(
        &self,
        request: Request<pb::SnapshotKeptRequest>,
    ) -> Result<Response<pb::SnapshotKeptResponse>, Status> {
        let request = request.into_inner();
        let replica = self.replica(request.route.as_ref())?;
        replica
            .snapshot_kept(request.manifest.unwrap_or_default())
            .await
            .map(Response::new)
    }

    async fn snapshot(
        &self,
        request: Request<Streaming<pb::SnapshotPart>>,
    ) -> Result<Response<pb::SnapshotResponse>, Status> {
        let mut parts = request.into_inner();
        let first = parts.message().await?.and_then(|part| part.part);
        let Some(pb::snapshot_part::Part::Header(header)) = first else {
            return Err(Failure::Malformed.status("a snapshot begins with its header"));
        };
        self.replica(header.route.as_ref())?
            .snapshot(header, parts)
            .await
            .map(Response::new)
    }

    async fn write(&self, request: Request<pb::WriteRequest>) -> Result<Response<pb::WriteResponse>, Status> {
        let request = request.into_inner();
        let replica = self.replica(request.route.as_ref())?;
        let id = RequestId {
            client: request.request_client,
            sequence: request.request_sequence,
        };
        let command =
            Command::decode(&request.command).map_err(|error| Failure::Malformed.status(error.to_string()))?;
        let result = match replica.propose(id, command).await {
            Ok(committed) => pb::write_response::Result::Written(pb::Written {
                outcome: committed.outcome,
                log_index: committed.index,
            }),
            Err(NotDone::NoRoom) => pb::write_response::Result::NoRoom(pb::NoRoom {}),
            Err(error) => pb::write_response::Result::NotLeader(not_leader(error)?),
        };
        Ok(Response::new(pb::WriteResponse { result: Some(result) }))
    }

    async fn read_index(
        &self,
        request: Request<pb::ReadIndexRequest>,
    ) -> Result<Response<pb::ReadIndexResponse>, Status> {
        let request = request.into_inner();
        let result = match self.replica(request.route.as_ref())?.read_index().await {
            Ok(log_index) => pb::read_index_response::Result::ReadIndex(pb::ReadIndex { log_index }),
            Err(error) => pb::read_index_response::Result::NotLeader(not_leader(error)?),
        };
        Ok(Response::new(pb::ReadIndexResponse { result: Some(result) }))
    }

    async fn probe(&self, _request: Request<pb::ProbeRequest>) -> Result<Response<pb::ProbeResponse>, Status> {
        use pb::probe_response::State as Answer;
        let state = self.state();
        let answer = match state.member {
            None => Answer::Empty(pb::ProbeEmpty {
                ordinal: self.slot.ordinal,
            }),
            Some(member) => {
                let leader = state.handle.and_then(|handle| handle.status().borrow().leader);
                Answer::Member(pb::ProbeMember {
                    cluster_id: member.cluster.to_string(),
                    node_id: member.node.get(),
                    leader: leader.map_or(0, meta::NodeId::get),
                })
            }
        };
        Ok(Response::new(pb::ProbeResponse { state: Some(answer) }))
    }

    async fn join(&self, request: Request<pb::JoinRequest>) -> Result<Response<pb::JoinResponse>, Status> {
        let handle = self.handle()?;
        if !self.state().admits {
            return Err(Failure::Unavailable.status("this node is not ready to let others in"));
        }
        let request = request.into_inner();
        let result = match request.node_id {
            0 => pb::join_response::Result::Joined(allocate(&handle, request).await?),
            _ => admit(&handle, request).await?,
        };
        Ok(Response::new(pb::JoinResponse { result: Some(result) }))
    }
}

/// Has the log give an id to the node that asks.
///
/// The founder votes under the first id before the log knows it. Until the log has given it that id, nobody else may
/// be given one: it would be the same.
async fn allocate(handle: &MetaHandle, request: pb::JoinRequest) -> Result<pb::Joined, Status> {
    let founder = meta::view::node(&handle.local(), meta::NodeId::FIRST);
    if founder
        .map_err(|error| Failure::Internal.status(error.to_string()))?
        .is_none()
    {
        return Err(Failure::Unavailable.status("the founder is not registered here yet"));
    }
    let nonce = request
        .nonce
        .parse()
        .map_err(|error: meta::IdError| Failure::Malformed.status(error.to_string()))?;
    let addresses = request.addresses.unwrap_or_default();
    let command = Command::RegisterNode(RegisterNode {
        nonce,
        addresses: Addresses {
            registry: addresses.registry,
            grpc: addresses.grpc,
            admin: addresses.admin,
        },
        zone: request.zone,
        feature_level: FeatureLevel::new(request.feature_level),
    });
    match handle.write(command).await.map_err(write_failed)? {
        Outcome::NodeRegistered { id } => Ok(pb::Joined {
            cluster_id: handle.member().cluster.to_string(),
            node_id: id.get(),
            member: false,
        }),
        Outcome::Rejected(reason) => Err(Failure::Unavailable.status(reason.to_string())),
        other => Err(Failure::Internal.status(format!("registering a node answered {other:?}"))),
    }
}

/// Makes a node that has its id on disk a learner.
async fn admit(handle: &MetaHandle, request: pb::JoinRequest) -> Result<pb::join_response::Result, Status> {
    let id = meta::NodeId::new(request.node_id);
    let record = meta::view::node(&handle.local(), id).map_err(|error| Failure::Internal.status(error.to_string()))?;
    // A leader has applied the registration before it answered it; another node may not know the id yet.
    if handle.status().borrow().is_leader() && record.is_none_or(|record| record.nonce.to_string() != request.nonce) {
        return Err(Failure::Misrouted.status(format!("node {id} was given to another disk")));
    }
    let info = NodeInfo {
        address: request.addresses.unwrap_or_default().grpc,
        zone: request.zone,
    };
    match handle.replica().add_learner(id.get(), info).await {
        Ok(()) => Ok(pb::join_response::Result::Joined(pb::Joined {
            cluster_id: handle.member().cluster.to_string(),
            node_id: id.get(),
            member: true,
        })),
        Err(error) => Ok(pb::join_response::Result::NotLeader(not_leader(error)?)),
    }
}
