//! The access half: grants, placements, and what is said of them.

use daemon::runtime::one_line;
use meta::{ACCESS_AT_ONCE_MAX, Command, NodePlacement, RepositoryItem, SetPlacements, view};
use proto::v1 as pb;
use raft::MetaHandle;
use tonic::Status;

use super::wire::{parse_repository, write};
use crate::access::admission::Admission;
use crate::access::granting::{Granted, Login, Offered};
use crate::access::register::{Entry, Page};

/// Commits placements; none, as a sign of life, in the same way: where these could not be committed it must not count.
pub(super) async fn place(ledger: &MetaHandle, request: pb::PlaceRequest) -> Result<(), Status> {
    if request.replace && request.add {
        return Err(Status::invalid_argument("placements are either replaced or added to"));
    }
    let placements = request.placements.into_iter().map(placement);
    let mut placements = placements.collect::<Result<Vec<_>, _>>()?;
    if request.replace || request.add {
        let fresh = ledger.linearizable().await;
        fresh.map_err(|error| Status::unavailable(one_line(&error)))?;
    }
    if request.replace {
        placements.extend(forgotten(ledger, &placements)?);
    }
    if request.add {
        add_known(ledger, &mut placements)?;
    }
    if placements.is_empty() {
        write(ledger, Command::SetPlacements(SetPlacements { placements })).await?;
        return Ok(());
    }
    for chunk in placements.chunks(ACCESS_AT_ONCE_MAX) {
        let placements = chunk.to_vec();
        write(ledger, Command::SetPlacements(SetPlacements { placements })).await?;
    }
    Ok(())
}

fn placement(placement: pb::Placement) -> Result<NodePlacement, Status> {
    let repositories = placement.repositories.iter().map(|text| parse_repository(text));
    Ok(NodePlacement {
        node: placement.node,
        repositories: repositories
            .map(|parsed| parsed.map(RepositoryItem))
            .collect::<Result<_, _>>()?,
    })
}

/// Known nodes that a whole list does not name, without anything.
fn forgotten(ledger: &MetaHandle, named: &[NodePlacement]) -> Result<Vec<NodePlacement>, Status> {
    let known = view::placements(&ledger.local()).map_err(|error| Status::internal(one_line(&error)))?;
    let unnamed = known.into_iter().map(|(node, _)| node);
    let unnamed = unnamed.filter(|node| named.iter().all(|placement| placement.node != *node));
    let nothing = |node| NodePlacement {
        node,
        repositories: Vec::new(),
    };
    Ok(unnamed.map(nothing).collect())
}

/// What is placed already on the nodes that are named, beside what is new. The controller that leads is the only one who
/// places, so nothing changes in between.
fn add_known(ledger: &MetaHandle, named: &mut [NodePlacement]) -> Result<(), Status> {
    let state = ledger.local();
    for placement in named {
        let known = view::placement(&state, &placement.node);
        let known = known.map_err(|error| Status::internal(one_line(&error)))?;
        for text in &known.repositories {
            placement.repositories.push(RepositoryItem(parse_repository(text)?));
        }
    }
    Ok(())
}

pub(super) fn offered(credential: pb::Credential) -> Offered {
    Offered {
        login: Login {
            username: credential.username,
            password: credential.password,
        },
        origin: credential.origin,
    }
}

pub(super) fn grant_reply(granted: Granted) -> pb::GrantReply {
    let (outcome, origin, error) = match granted {
        Granted::Public => (pb::GrantOutcome::Public, String::new(), String::new()),
        Granted::Granted { origin } => (pb::GrantOutcome::Granted, origin, String::new()),
        Granted::Refused { why } => (pb::GrantOutcome::Refused, String::new(), why),
        Granted::Unreachable { why } => (pb::GrantOutcome::Unreachable, String::new(), why),
        Granted::NoKey => {
            let why = "the tier has no key to seal credentials with (access.keys_dir)";
            (pb::GrantOutcome::NoKey, String::new(), why.to_owned())
        }
    };
    pb::GrantReply {
        outcome: outcome.into(),
        origin,
        error,
    }
}

pub(super) fn admit_reply(admitted: &[Admission]) -> pb::AdmitReply {
    let reason = |admission: &Admission| match admission {
        Admission::NotReady(missing) => missing.to_string(),
        _ => String::new(),
    };
    pb::AdmitReply {
        admissions: admitted.iter().map(|one| admission(*one).into()).collect(),
        reasons: admitted.iter().map(reason).collect(),
    }
}

fn admission(admission: Admission) -> pb::Admission {
    match admission {
        Admission::Admitted => pb::Admission::Admitted,
        Admission::NoGrant => pb::Admission::NoGrant,
        Admission::NeedsCredentials => pb::Admission::NeedsCredentials,
        Admission::SourceUnreachable => pb::Admission::SourceUnreachable,
        Admission::NotFound => pb::Admission::NotFound,
        Admission::NotReady(_) => pb::Admission::NotReady,
    }
}

pub(super) fn page(page: Page) -> pb::ListGrantsReply {
    pb::ListGrantsReply {
        grants: page.entries.into_iter().map(grant_info).collect(),
        more: page.more,
    }
}

fn grant_info(entry: Entry) -> pb::GrantInfo {
    let Entry {
        grant,
        origin,
        can_be_opened,
    } = entry;
    pb::GrantInfo {
        repository: grant.repository.to_string(),
        namespace: grant.namespace,
        origin,
        verified_at_ms: grant.record.verified_at_ms,
        refused_since_ms: grant.record.refused_since_ms.unwrap_or(0),
        sealed_with_lost_key: !can_be_opened,
    }
}
