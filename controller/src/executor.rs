//! Carries out actions: the only place that writes objects.

mod grants;
mod objects;
mod pods;

use std::collections::BTreeSet;

use jiff::Timestamp;
use kube::Client;
use proto::v1::{ChangeDesiredRequest, GrantInfo, PlaceRequest};

use crate::action::{Action, Notice, ObjectKind, SecretName};
use crate::crd::{CachedImage, Repository};
use crate::events::Events;
use crate::grant::{GrantKey, GrantResult};
use crate::metrics;
use crate::plan;
use crate::tier::{Tier, TierError};

pub(crate) use pods::restoring_patch;

/// What events about images and repositories say was done.
const EVENT_ACTION: &str = "Caching";

/// What came of an action.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// Nothing to remember beyond what the watches will tell.
    Done,
    Image(Box<CachedImage>),
    Repository(Box<Repository>),
    /// The tier has heard it.
    Desired(ChangeDesiredRequest),
    Placed(PlaceRequest),
    Granted {
        key: GrantKey,
        result: GrantResult,
        /// Secrets that pods name, whether or not they fit.
        tried: BTreeSet<SecretName>,
        /// For people, if this is news.
        notice: Option<Notice>,
    },
    /// All grants that the tier held at that time or later; nothing where it cannot tell.
    GrantsListed {
        grants: Option<Vec<GrantInfo>>,
        asked_at: Timestamp,
        doubts: u64,
    },
    Revoked(GrantKey),
}

/// Why an action failed. It is planned again while it is still due.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ActionError {
    #[error("API server")]
    Api(#[from] kube::Error),
    #[error(transparent)]
    Tier(#[from] TierError),
    #[error("not done in time")]
    Deadline,
}

/// Carries out actions. Clones share it.
#[derive(Clone)]
pub(crate) struct Executor {
    client: Client,
    tier: Tier,
    events: Events,
}

impl Executor {
    pub(crate) fn new(client: Client, tier: Tier) -> Self {
        let events = Events::new(client.clone());
        Self { client, tier, events }
    }

    pub(crate) async fn carry_out(&self, action: Action) -> Result<Outcome, ActionError> {
        match action {
            Action::CreateRepository { name, repository } => self.create_repository(&name, &repository).await,
            Action::CreateImage {
                name,
                source_image,
                owner,
            } => self.create_image(&name, &source_image, &owner).await,
            Action::AdoptImage { name, owner } => self.adopt_image(&name, &owner).await,
            Action::RemoveFinalizers {
                object: ObjectKind::CachedImage,
                name,
                version,
                kept,
            } => {
                let image = self.keep_finalizers(&name, &version, &kept).await?;
                Ok(image.map_or(Outcome::Done, |image| Outcome::Image(Box::new(image))))
            }
            Action::RemoveFinalizers {
                object: ObjectKind::Repository,
                name,
                version,
                kept,
            } => {
                let repository = self.keep_finalizers(&name, &version, &kept).await?;
                Ok(repository.map_or(Outcome::Done, |repository| Outcome::Repository(Box::new(repository))))
            }
            Action::ImageStatus {
                name,
                uid,
                status,
                notices,
            } => self.write_image_status(&name, &uid, &status, &notices).await,
            Action::RepositoryStatus { name, status } => self.write_repository_status(&name, &status).await,
            Action::DeleteImage {
                name,
                uid,
                version,
                notice,
            } => self.delete_image(&name, &uid, &version, &notice).await,
            Action::ForceUpdate { name, image } => {
                self.tier.refresh(vec![image]).await?;
                self.take_off_force_update(&name).await
            }
            Action::Desire(request) => {
                self.tier.change_desired(plan::parts(request.clone())).await?;
                Ok(Outcome::Desired(request))
            }
            Action::Grant {
                key,
                images,
                secrets,
                accounts,
            } => self.grant(key, &images, secrets, &accounts).await,
            Action::ListGrants { doubts } => {
                let asked_at = Timestamp::now();
                let grants = self.tier.list_grants().await?;
                Ok(Outcome::GrantsListed {
                    grants,
                    asked_at,
                    doubts,
                })
            }
            Action::Revoke { key } => {
                self.tier.revoke(&key.namespace, &key.repository).await?;
                Ok(Outcome::Revoked(key))
            }
            Action::Place(request) => {
                self.tier.place(request.clone()).await?;
                Ok(Outcome::Placed(request))
            }
            Action::Update { name, images } => {
                self.tier.refresh(images).await?;
                self.write_last_update(&name).await
            }
            Action::TellRepository { about, notice } => {
                self.events.tell(&about, EVENT_ACTION, &notice).await;
                Ok(Outcome::Done)
            }
            Action::Restore(restoration) => self.restore(&restoration).await,
            Action::ReleasePod { pod, version, kept } => self.release_pod(&pod, &version, &kept).await,
        }
    }
}

impl ActionError {
    /// Someone else was faster, or the object is gone, or it was too early: the next plan knows more.
    pub(crate) fn is_overtaken(&self) -> bool {
        match self {
            Self::Api(kube::Error::Api(status)) => {
                status.is_conflict() || status.is_already_exists() || status.is_not_found()
            }
            // Our certificate is made in the first moment, and the plan is faster.
            Self::Tier(TierError::NotYet) => true,
            _ => false,
        }
    }

    pub(crate) fn report(&self, action: &str) {
        let error = daemon::runtime::one_line(self);
        if self.is_overtaken() {
            tracing::debug!(error, action, "action overtaken");
        } else {
            metrics::action_failed();
            tracing::warn!(error, action, "action failed, trying again");
        }
    }
}
