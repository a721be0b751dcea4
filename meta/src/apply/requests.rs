//! The window of requests that are remembered, so that a retry is answered as the first try was.

use super::transaction::Transaction;
use crate::family::Family;
use crate::id::RequestId;
use crate::outcome::Outcome;
use crate::read::{Read, ReadError};
use crate::record::{self, RequestRecord, request_key, ring_key};

/// How many requests are remembered: at the design rate of 100 entries/s over a minute, longer than any retry lasts.
pub const REQUESTS_REMEMBERED_MAX: u64 = 8192;

/// How `request` was answered, if that is still remembered.
pub(super) fn remembered(state: &impl Read, request: RequestId) -> Result<Option<Outcome>, ReadError> {
    let record: Option<RequestRecord> = record::get(state, &request_key(request))?;
    Ok(record.map(|record| record.outcome))
}

/// Remembers how `request` was answered, in place of the oldest one. Before genesis nothing is remembered.
pub(super) fn remember<R: Read>(
    tx: &mut Transaction<R>,
    request: RequestId,
    outcome: &Outcome,
) -> Result<(), ReadError> {
    let Ok(cluster) = tx.cluster_mut() else {
        return Ok(());
    };
    let place = ring_key(cluster.requests_remembered % REQUESTS_REMEMBERED_MAX);
    cluster.requests_remembered += 1;
    let oldest: Option<RequestId> = record::get(tx, &place)?;
    if let Some(oldest) = oldest {
        tx.delete(Family::Requests, request_key(oldest).to_vec());
    }
    tx.put(&place, &request);
    let record = RequestRecord {
        outcome: outcome.clone(),
    };
    tx.put(&request_key(request), &record);
    Ok(())
}
