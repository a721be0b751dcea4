//! Asks peers who they are, and to be let in.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::join_all;
use proto::status::Failure;
use proto::v1 as pb;
use tonic::Status;

use super::plan::Answer;
use crate::config::Config;
use crate::connect::{Lane, Peers};

/// A peer that lives answers at once.
const PROBE_DEADLINE: Duration = Duration::from_secs(1);
/// Spans a commit, and an election.
const JOIN_DEADLINE: Duration = Duration::from_secs(5);

/// What each other peer says, by address; `None` from who did not answer.
pub(super) async fn all(peers: &Peers, config: &Config) -> BTreeMap<String, Option<Answer>> {
    let probes = config.other_peers().map(|peer| async move {
        let answer = tokio::time::timeout(PROBE_DEADLINE, one(peers, &peer.address)).await;
        (peer.address.clone(), answer.ok().flatten())
    });
    join_all(probes).await.into_iter().collect()
}

async fn one(peers: &Peers, address: &str) -> Option<Answer> {
    let mut client = peers.client(address, Lane::Control).ok()?;
    match client.probe(pb::ProbeRequest {}).await.ok()?.into_inner().state? {
        pb::probe_response::State::Empty(empty) => Some(Answer::Empty { ordinal: empty.ordinal }),
        pb::probe_response::State::Member(member) => Some(Answer::Member {
            cluster: member.cluster_id.parse().ok()?,
        }),
    }
}

/// Asks one member; `None` if it is not the one to ask.
pub(super) async fn join(peers: &Peers, address: &str, request: pb::JoinRequest) -> Result<Option<pb::Joined>, Status> {
    let mut client = peers
        .client(address, Lane::Control)
        .map_err(|error| Failure::Malformed.status(error.to_string()))?;
    let response = tokio::time::timeout(JOIN_DEADLINE, client.join(request)).await;
    let response = response.map_err(|_| Failure::TimedOut.status("no answer in time"))??;
    match response.into_inner().result {
        Some(pb::join_response::Result::Joined(joined)) => Ok(Some(joined)),
        Some(pb::join_response::Result::NotLeader(_)) | None => Ok(None),
    }
}
