//! Tags: candidates, promotion, checks.

use oci::{Digest, Tag};

use super::Refusal;
use super::transaction::Transaction;
use crate::command::{PromoteTag, SetCandidate, TagCheck, TagChecked};
use crate::id::RepositoryId;
use crate::outcome::{Outcome, Rejected};
use crate::read::{Read, ReadError};
use crate::record::{TAG_HISTORY_MAX, TagHistoryEntry, TagRecord};
use crate::view;

/// Longest `ETag` kept, in bytes. A longer one is dropped: it only ever saves a request.
const UPSTREAM_ETAG_BYTES_MAX: usize = 1024;

pub(super) fn set_candidate<R: Read>(tx: &mut Transaction<R>, command: &SetCandidate) -> Result<Outcome, Refusal> {
    let digest = &command.digest;
    if view::manifest(tx, digest)?.is_none() {
        let digest = digest.clone();
        return Err(Rejected::UnknownManifest { digest }.into());
    }
    let repository = view::repository_id(tx, &command.repository)?.ok_or(Rejected::NotLinked)?;
    if !view::is_linked(tx, repository, digest)? {
        return Err(Rejected::NotLinked.into());
    }
    let serving = view::tag(tx, repository, &command.tag)?.and_then(|tag| tag.serving);
    if serving != command.expected_serving {
        return Err(Rejected::ServingChanged { serving }.into());
    }
    let etag = command.upstream_etag.as_deref();
    place_candidate(tx, (repository, &command.tag), digest, etag)?;
    Ok(Outcome::CandidateSet)
}

/// Records that upstream says `tag` is `digest`, whose manifest is stored and linked.
pub(super) fn place_candidate<R: Read>(
    tx: &mut Transaction<R>,
    (repository, tag): (RepositoryId, &Tag),
    digest: &Digest,
    upstream_etag: Option<&str>,
) -> Result<(), ReadError> {
    let mut record = view::tag(tx, repository, tag)?.unwrap_or_default();
    let is_served = record.serving.as_ref() == Some(digest);
    record.candidate = (!is_served).then(|| digest.clone());
    record.upstream_etag = upstream_etag.and_then(kept_etag);
    record.checked_at_ms = tx.now_ms();
    record.stale_since_ms = None;
    tx.put(&TagRecord::key(repository, tag), &record);
    Ok(())
}

pub(super) fn promote<R: Read>(tx: &mut Transaction<R>, command: &PromoteTag) -> Result<Outcome, Refusal> {
    let (repository, mut record) = existing(tx, &command.repository, &command.tag)?;
    if record.candidate.as_ref() != Some(&command.candidate) {
        return match record.serving {
            Some(serving) if serving == command.candidate => Ok(Outcome::TagPromoted {
                serving_index: record.serving_index,
            }),
            _ => {
                let candidate = record.candidate;
                Err(Rejected::CandidateChanged { candidate }.into())
            }
        };
    }
    let manifest = view::manifest(tx, &command.candidate)?;
    if !manifest.is_some_and(|manifest| manifest.is_complete_for(&command.children)) {
        return Err(Rejected::NotComplete.into());
    }
    let now_ms = tx.now_ms();
    let cluster = tx.cluster_mut()?;
    cluster.serving_changes += 1;
    serve(&mut record, cluster.serving_changes, now_ms);
    let serving_index = record.serving_index;
    tx.put(&TagRecord::key(repository, &command.tag), &record);
    Ok(Outcome::TagPromoted { serving_index })
}

pub(super) fn checked<R: Read>(tx: &mut Transaction<R>, command: &TagChecked) -> Result<Outcome, Refusal> {
    let (repository, mut record) = existing(tx, &command.repository, &command.tag)?;
    let at_ms = command.at_ms.min(tx.now_ms());
    match &command.check {
        TagCheck::Confirmed { digest, .. } if record.serving.as_ref() != Some(digest) => {
            let serving = record.serving;
            return Err(Rejected::ServingChanged { serving }.into());
        }
        // A report that arrives after a later one says nothing about now.
        _ if at_ms < record.checked_at_ms => return Ok(Outcome::TagChecked),
        TagCheck::Confirmed { upstream_etag, .. } => {
            record.candidate = None;
            record.upstream_etag = upstream_etag.as_deref().and_then(kept_etag);
            record.checked_at_ms = at_ms;
            record.stale_since_ms = None;
        }
        TagCheck::Failed => record.stale_since_ms = record.stale_since_ms.or(Some(at_ms)),
    }
    tx.put(&TagRecord::key(repository, &command.tag), &record);
    Ok(Outcome::TagChecked)
}

/// Makes the candidate of `record` what it serves, and remembers what it served before.
fn serve(record: &mut TagRecord, serving_index: u64, now_ms: u64) {
    let candidate = record.candidate.take();
    if let Some(digest) = std::mem::replace(&mut record.serving, candidate) {
        let replaced_at_ms = now_ms;
        record.history.insert(0, TagHistoryEntry { digest, replaced_at_ms });
        record.history.truncate(TAG_HISTORY_MAX);
    }
    record.serving_index = serving_index;
}

fn existing<R: Read>(
    tx: &Transaction<R>,
    repository: &oci::Repository,
    tag: &Tag,
) -> Result<(RepositoryId, TagRecord), Refusal> {
    let id = view::repository_id(tx, repository)?.ok_or(Rejected::UnknownTag)?;
    let record = view::tag(tx, id, tag)?.ok_or(Rejected::UnknownTag)?;
    Ok((id, record))
}

fn kept_etag(etag: &str) -> Option<String> {
    (etag.len() <= UPSTREAM_ETAG_BYTES_MAX).then(|| etag.to_owned())
}
