//! From requests to domain types, and from failures to statuses.

use daemon::runtime::one_line;
use meta::{Command, Outcome};
use oci::{ImageReference, Repository};
use raft::MetaHandle;
use tonic::Status;

use crate::access::granting::GrantError;

/// Images asked about or refreshed by one call.
pub(super) const REFERENCES_MAX: usize = 1000;

pub(super) async fn write(ledger: &MetaHandle, command: Command) -> Result<Outcome, Status> {
    let written = ledger.write(command).await;
    let outcome = written.map_err(|error| Status::unavailable(one_line(&error)))?;
    outcome.accepted().map_err(|reason| rejected(&reason))
}

pub(super) fn rejected(reason: &meta::Rejected) -> Status {
    match reason {
        // The leader raises it as soon as every node understands.
        meta::Rejected::FeatureLevelTooLow { .. } | meta::Rejected::NotInitialized => {
            Status::unavailable(reason.to_string())
        }
        _ => Status::invalid_argument(reason.to_string()),
    }
}

pub(super) fn unwritten(error: GrantError) -> Status {
    match &error {
        GrantError::Rejected(reason) => rejected(reason),
        GrantError::Write(_) | GrantError::Behind(_) => Status::unavailable(one_line(&error)),
        GrantError::Read(_) => Status::internal(one_line(&error)),
    }
}

pub(super) fn parse_references(texts: &[String]) -> Result<Vec<ImageReference>, Status> {
    if texts.len() > REFERENCES_MAX {
        return Err(Status::invalid_argument(format!("more than {REFERENCES_MAX} images")));
    }
    texts.iter().map(|text| parse_reference(text)).collect()
}

pub(super) fn parse_reference(text: &str) -> Result<ImageReference, Status> {
    text.parse()
        .map_err(|error: oci::ReferenceError| Status::invalid_argument(one_line(&error)))
}

pub(super) fn parse_repository(text: &str) -> Result<Repository, Status> {
    text.parse()
        .map_err(|error: oci::NameError| Status::invalid_argument(error.to_string()))
}
