//! openraft's requests and responses as messages, and back.

use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, TransferLeaderError, TransferLeaderRequest, TransferLeaderResponse,
    VoteRequest, VoteResponse,
};
use proto::v1 as pb;

use crate::codec::{
    CodecError, entry_from_wire, entry_to_wire, log_id_from_wire, log_id_to_wire, required, vote_from_wire,
    vote_to_wire,
};
use crate::runtime::Runtime;
use crate::types::{TypeConfig, Vote};

fn required_vote(vote: Option<pb::Vote>) -> Result<Vote, CodecError> {
    required(vote, "vote").map(vote_from_wire)
}

pub(super) fn vote_request_to_wire<RT: Runtime>(
    route: Option<pb::Route>,
    rpc: &VoteRequest<TypeConfig<RT>>,
) -> pb::VoteRequest {
    pb::VoteRequest {
        route,
        vote: Some(vote_to_wire(&rpc.vote)),
        last_log_id: rpc.last_log_id.as_ref().map(log_id_to_wire),
        leadership_transfer: rpc.leadership_transfer,
    }
}

pub(crate) fn vote_request_from_wire<RT: Runtime>(
    request: pb::VoteRequest,
) -> Result<VoteRequest<TypeConfig<RT>>, CodecError> {
    let mut rpc = VoteRequest::new(required_vote(request.vote)?, request.last_log_id.map(log_id_from_wire));
    rpc.leadership_transfer = request.leadership_transfer;
    Ok(rpc)
}

pub(crate) fn vote_response_to_wire<RT: Runtime>(response: &VoteResponse<TypeConfig<RT>>) -> pb::VoteResponse {
    pb::VoteResponse {
        vote: Some(vote_to_wire(&response.vote)),
        granted: response.vote_granted,
        last_log_id: response.last_log_id.as_ref().map(log_id_to_wire),
    }
}

pub(super) fn vote_response_from_wire<RT: Runtime>(
    response: pb::VoteResponse,
) -> Result<VoteResponse<TypeConfig<RT>>, CodecError> {
    let vote = required_vote(response.vote)?;
    Ok(VoteResponse::new(
        vote,
        response.last_log_id.map(log_id_from_wire),
        response.granted,
    ))
}

pub(super) fn append_to_wire<RT: Runtime>(
    route: Option<pb::Route>,
    rpc: &AppendEntriesRequest<TypeConfig<RT>>,
) -> pb::AppendRequest {
    pb::AppendRequest {
        route,
        vote: Some(vote_to_wire(&rpc.vote)),
        previous: rpc.prev_log_id.as_ref().map(log_id_to_wire),
        entries: rpc.entries.iter().map(entry_to_wire).collect(),
        leader_commit: rpc.leader_commit.as_ref().map(log_id_to_wire),
    }
}

pub(crate) fn append_from_wire<RT: Runtime>(
    request: pb::AppendRequest,
) -> Result<AppendEntriesRequest<TypeConfig<RT>>, CodecError> {
    Ok(AppendEntriesRequest {
        vote: required_vote(request.vote)?,
        prev_log_id: request.previous.map(log_id_from_wire),
        entries: request
            .entries
            .into_iter()
            .map(entry_from_wire)
            .collect::<Result<_, _>>()?,
        leader_commit: request.leader_commit.map(log_id_from_wire),
    })
}

pub(crate) fn append_response_to_wire<RT: Runtime>(
    response: &AppendEntriesResponse<TypeConfig<RT>>,
) -> pb::AppendResponse {
    use pb::append_response::Result as Wire;
    let result = match response {
        AppendEntriesResponse::Success => Wire::Success(pb::AppendSuccess {}),
        AppendEntriesResponse::PartialSuccess(matching) => Wire::Partial(pb::AppendPartial {
            matching: matching.as_ref().map(log_id_to_wire),
        }),
        AppendEntriesResponse::Conflict => Wire::Conflict(pb::AppendConflict {}),
        AppendEntriesResponse::HigherVote(vote) => Wire::HigherVote(vote_to_wire(vote)),
    };
    pb::AppendResponse { result: Some(result) }
}

pub(super) fn append_response_from_wire<RT: Runtime>(
    response: pb::AppendResponse,
) -> Result<AppendEntriesResponse<TypeConfig<RT>>, CodecError> {
    use pb::append_response::Result as Wire;
    Ok(match required(response.result, "result of an append")? {
        Wire::Success(_) => AppendEntriesResponse::Success,
        Wire::Partial(partial) => AppendEntriesResponse::PartialSuccess(partial.matching.map(log_id_from_wire)),
        Wire::Conflict(_) => AppendEntriesResponse::Conflict,
        Wire::HigherVote(vote) => AppendEntriesResponse::HigherVote(vote_from_wire(vote)),
    })
}

pub(super) fn snapshot_response_from_wire(response: pb::SnapshotResponse) -> Result<Vote, CodecError> {
    required_vote(response.vote)
}

pub(super) fn transfer_to_wire<RT: Runtime>(
    route: Option<pb::Route>,
    request: &TransferLeaderRequest<TypeConfig<RT>>,
) -> pb::TransferLeaderRequest {
    pb::TransferLeaderRequest {
        route,
        from_leader: Some(vote_to_wire(request.from_leader())),
        to_node_id: *request.to_node_id(),
        last_log_id: request.last_log_id().map(log_id_to_wire),
    }
}

pub(crate) fn transfer_from_wire<RT: Runtime>(
    request: pb::TransferLeaderRequest,
) -> Result<TransferLeaderRequest<TypeConfig<RT>>, CodecError> {
    let from = required_vote(request.from_leader)?;
    Ok(TransferLeaderRequest::new(
        from,
        request.to_node_id,
        request.last_log_id.map(log_id_from_wire),
    ))
}

pub(crate) fn transfer_response_to_wire<RT: Runtime>(
    response: &TransferLeaderResponse<TypeConfig<RT>>,
) -> pb::TransferLeaderResponse {
    use pb::transfer_leader_response::Result as Wire;
    let result = match response {
        Ok(()) => Wire::Accepted(pb::TransferAccepted {}),
        Err(TransferLeaderError::VoteChanged { expected, actual }) => Wire::VoteChanged(pb::TransferVoteChanged {
            expected: Some(vote_to_wire(expected)),
            actual: Some(vote_to_wire(actual)),
        }),
        Err(TransferLeaderError::LogNotFlushed { expected, actual }) => {
            Wire::LogNotFlushed(pb::TransferLogNotFlushed {
                expected: expected.as_ref().map(log_id_to_wire),
                actual: actual.as_ref().map(log_id_to_wire),
            })
        }
    };
    pb::TransferLeaderResponse { result: Some(result) }
}

pub(super) fn transfer_response_from_wire<RT: Runtime>(
    response: pb::TransferLeaderResponse,
) -> Result<TransferLeaderResponse<TypeConfig<RT>>, CodecError> {
    use pb::transfer_leader_response::Result as Wire;
    Ok(match required(response.result, "result of a transfer")? {
        Wire::Accepted(_) => Ok(()),
        Wire::VoteChanged(changed) => Err(TransferLeaderError::VoteChanged {
            expected: required_vote(changed.expected)?,
            actual: required_vote(changed.actual)?,
        }),
        Wire::LogNotFlushed(behind) => Err(TransferLeaderError::LogNotFlushed {
            expected: behind.expected.map(log_id_from_wire),
            actual: behind.actual.map(log_id_from_wire),
        }),
    })
}
