//! Tells the other holders of a blob that it is being fetched, so that they copy it while it lands.

use std::sync::Arc;

use daemon::runtime::one_line;
use daemon::task::TaskSet;
use oci::{Digest, Repository};

use crate::control::Control;
use crate::tier::Tier;

/// Tells other holders.
#[derive(Clone)]
pub(super) struct Announcer {
    control: Control,
    tier: Arc<Tier>,
    tasks: TaskSet,
}

impl Announcer {
    pub(super) fn new(control: Control, tier: Arc<Tier>, tasks: TaskSet) -> Self {
        Self { control, tier, tasks }
    }

    /// Tells each other living holder, without waiting for any of them.
    pub(super) fn fetching(&self, repository: &Repository, digest: &Digest, size_bytes: Option<u64>) {
        let holders = self.tier.holders(digest.as_str()).into_iter();
        for holder in holders.filter(|holder| *holder != self.tier.own() && self.tier.is_alive(*holder)) {
            let (control, repository) = (self.control.clone(), repository.clone());
            let blob = (digest.clone(), size_bytes);
            self.tasks.spawn_request(async move {
                if let Err(error) = control.keep(holder, &repository, &[blob]).await {
                    tracing::debug!(
                        peer = holder,
                        error = one_line(&error),
                        "a holder was not told of a fill"
                    );
                }
            });
        }
    }
}
