//! What this node says about itself on its admin port. The documents are [`proto::report`]'s.
//!
//! What it says it holds it has looked for on its disk, for that answer.

mod explain;

use std::sync::Arc;

use daemon::admin::AdminError;
use daemon::runtime::one_line;
use meta::view::ImageCursor;
use meta::{ChildReference, ManifestRecord, Read, Visibility, view};
use oci::{ImageReference, Repository};
use proto::report::{DiskSpace, FillProgress, Image, ImagesReport, NodeStatus, Role};
use raft::{MetaHandle, RaftStatus};
use tokio::sync::watch;

use crate::blob_store::{BlobStore, Space};
use crate::blobs::Blobs;
use crate::copies::Inventory;
use crate::disk::{DiskState, Fullness};
use crate::provenance::Provenance;
use crate::sources::Sources;
use crate::tags::LAG_ENTRIES_MAX;
use crate::tier::Tier;
use crate::whole;

/// Tags listed in one document.
const IMAGES_MAX: usize = 10_000;
/// Tags read at once while listing.
const PAGE: usize = 500;

/// Makes the reports.
pub struct Reports {
    parts: ReportParts,
}

/// What the reports are made of.
pub struct ReportParts {
    /// The replicated state.
    pub ledger: MetaHandle,
    /// Who holds what.
    pub tier: Arc<Tier>,
    /// What is fetched and held.
    pub blobs: Arc<Blobs>,
    /// The disk.
    pub store: Arc<dyn BlobStore>,
    /// Whence blobs came.
    pub provenance: Arc<Provenance>,
    /// Who is down.
    pub sources: Arc<Sources>,
    /// What the last sweep counted.
    pub inventory: watch::Receiver<Inventory>,
    /// How the disk is.
    pub disk: watch::Receiver<DiskState>,
}

impl Reports {
    /// Makes reports of `parts`.
    pub fn new(parts: ReportParts) -> Self {
        Self { parts }
    }

    /// This node's view of itself and of the cluster.
    pub async fn status(&self) -> NodeStatus {
        let raft = self.parts.ledger.status().borrow().clone();
        let inventory = *self.parts.inventory.borrow();
        let space = self.parts.store.space().await.ok();
        let fills = self.parts.blobs.fills().into_iter().map(|fill| FillProgress {
            digest: fill.digest.to_string(),
            repository: fill.origin,
            bytes_done: fill.done_bytes,
            bytes_total: fill.total_bytes,
            source: fill.source,
            started_ms_ago: u64::try_from(fill.running_for.as_millis()).unwrap_or(u64::MAX),
        });
        NodeStatus {
            node_id: Some(raft.node.get()),
            ordinal: self.parts.tier.own(),
            cluster_id: Some(raft.cluster.to_string()),
            role: role(&raft),
            leader: raft.leader.map(meta::NodeId::get),
            term: raft.term,
            last_log_index: raft.last_log_index,
            applied_index: raft.applied,
            voters: raft.voters.iter().map(|id| id.get()).collect(),
            learners: raft.learners.iter().map(|id| id.get()).collect(),
            blobs: inventory.blobs,
            copies: inventory.copies,
            desired_images: view::wanted(&self.parts.ledger.local()).map_or(0, |wanted| wanted.n_desired),
            fills: fills.collect(),
            disk: space.map_or_else(DiskSpace::default, |space| DiskSpace {
                free_bytes: space.free_bytes,
                total_bytes: space.total_bytes,
            }),
            degraded: self.degraded(&raft, space),
        }
    }

    fn degraded(&self, raft: &RaftStatus, space: Option<Space>) -> Vec<String> {
        let mut reasons = Vec::new();
        if !raft.has_quorum {
            reasons.push("no quorum: what is cached is served, nothing new is recorded".to_owned());
        }
        let disk = self.parts.disk.borrow().clone();
        reasons.extend(disk.reasons());
        match space {
            None => reasons.push("the disk does not answer".to_owned()),
            Some(space) if disk.fullness == Fullness::Ample => reasons.extend(want_of_room(space)),
            Some(_) => {}
        }
        if raft.committed.saturating_sub(raft.applied) > LAG_ENTRIES_MAX {
            reasons.push(format!("behind by {} entries", raft.committed - raft.applied));
        }
        let dead: Vec<_> = self
            .parts
            .tier
            .others()
            .filter(|peer| !self.parts.tier.is_alive(peer.ordinal))
            .collect();
        reasons.extend(dead.iter().map(|peer| format!("node-{} does not answer", peer.ordinal)));
        reasons.extend(
            self.parts
                .sources
                .down()
                .iter()
                .map(|host| format!("source {host} is down")),
        );
        reasons
    }

    /// The tags this node knows.
    ///
    /// # Errors
    /// [`AdminError::Unavailable`] if the state cannot be read.
    pub fn images(&self) -> Result<ImagesReport, AdminError> {
        let applied_index = *self.parts.ledger.applied().borrow();
        let state = self.parts.ledger.local();
        let mut report = ImagesReport {
            applied_index,
            ..ImagesReport::default()
        };
        let mut cursor: Option<ImageCursor> = None;
        loop {
            let page = view::list_images(&state, cursor.as_ref(), PAGE).map_err(unreadable)?;
            for image in &page {
                report.images.extend(self.image(&state, image).map_err(unreadable)?);
            }
            let is_last = page.len() < PAGE;
            cursor = page.last().map(|image| image.cursor.clone());
            report.truncated = !is_last && report.images.len() >= IMAGES_MAX;
            if is_last || report.truncated {
                return Ok(report);
            }
        }
    }

    fn image(&self, state: &impl Read, image: &view::Image) -> Result<Option<Image>, meta::ReadError> {
        let Some(digest) = whole::newest(state, &image.record)? else {
            return Ok(None);
        };
        let record = view::manifest(state, &digest)?;
        let (mut size_bytes, mut platforms) = (0, Vec::new());
        if let Some(record) = &record {
            size_bytes += blob_bytes(record);
            for child in &record.references.children {
                if let Some(child_record) = view::manifest(state, &child.digest)? {
                    size_bytes += blob_bytes(&child_record);
                    platforms.extend(platform(child).filter(|_| child_record.is_complete()));
                }
            }
        }
        Ok(Some(Image {
            repository: image.repository.to_string(),
            tag: image.tag.to_string(),
            complete: whole::is_whole(state, &digest)?,
            digest: digest.to_string(),
            size_bytes,
            platforms,
            stale: image.record.stale_since_ms.is_some(),
            desired: view::desired(state, &image_of(image))?.is_some(),
            private: is_private(state, &image.repository)?,
        }))
    }
}

/// What is to be said of a disk with room that was too little for something, or of a quota that is used up.
fn want_of_room(space: Space) -> Option<String> {
    if space.free_bytes == 0 {
        return Fullness::Low.reason().map(str::to_owned);
    }
    let Space {
        free_bytes,
        refused_bytes,
        ..
    } = space;
    refused_bytes.map(|bytes| {
        format!(
            "disk too small: a blob of {bytes} bytes or more is streamed and not kept here, {free_bytes} bytes are free"
        )
    })
}

/// The tag as it would be desired.
fn image_of(image: &view::Image) -> ImageReference {
    ImageReference {
        repository: image.repository.clone(),
        tag: Some(image.tag.clone()),
        digest: None,
    }
}

fn is_private(state: &impl Read, repository: &Repository) -> Result<bool, meta::ReadError> {
    let seen = view::visibility(state, repository)?;
    Ok(matches!(seen, Some(Visibility::Private { .. })))
}

fn role(raft: &RaftStatus) -> Role {
    match raft.role {
        raft::Role::Leader => Role::Leader,
        raft::Role::Follower => Role::Follower,
        raft::Role::Candidate => Role::Candidate,
        raft::Role::Learner => Role::Learner,
        raft::Role::Stopped => Role::None,
    }
}

fn blob_bytes(record: &ManifestRecord) -> u64 {
    record
        .references
        .blobs
        .iter()
        .filter(|blob| blob.required)
        .map(|blob| blob.size)
        .sum()
}

fn platform(child: &ChildReference) -> Option<String> {
    let platform = child.platform.as_ref()?;
    let variant = platform
        .variant
        .as_ref()
        .map(|variant| format!("/{variant}"))
        .unwrap_or_default();
    Some(format!("{}/{}{variant}", platform.os, platform.architecture))
}

fn unreadable(error: meta::ReadError) -> AdminError {
    AdminError::Unavailable(one_line(&error))
}

#[cfg(test)]
mod tests {
    use super::explain::does_not_fit;
    use super::*;

    #[test]
    fn room_that_was_too_little_is_spoken_of_though_it_is_still_free() {
        let said = |free_bytes, refused_bytes| {
            let space = Space {
                free_bytes,
                total_bytes: 200,
                refused_bytes,
            };
            (want_of_room(space).unwrap_or_default(), does_not_fit(space))
        };
        assert_eq!(said(180, None).0, "");
        assert_eq!(
            said(180, Some(300)),
            (
                "disk too small: a blob of 300 bytes or more is streamed and not kept here, 180 bytes are free"
                    .to_owned(),
                "disk too small, 180 of 200 bytes are free".to_owned()
            )
        );
        let (full, why) = said(0, Some(300));
        assert!(full.starts_with("disk full") && why == "disk full", "{full}; {why}");
    }
}
