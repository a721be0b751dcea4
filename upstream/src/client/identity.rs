//! On whose behalf a registry is asked.

use std::fmt;
use std::sync::Arc;

use oci::Repository;

use super::Place;
use crate::auth::Access;
use crate::config::Credential;

/// Whose credentials a client shows.
#[derive(Clone, Debug, Default)]
pub enum Identity {
    /// The configured ones, else those that were granted, else none.
    #[default]
    Known,
    /// None, to see what anyone may read.
    Anonymous,
    /// This one alone.
    As(Arc<Credential>),
}

/// Credentials that are found while the client runs, asked for repository by repository.
pub trait GrantedCredentials: fmt::Debug + Send + Sync {
    /// Those for `repository`, best first. Asked for at every request, so it must answer at once.
    fn of(&self, repository: &Repository) -> Vec<Arc<Credential>>;

    /// Hears that the source refused one of them. May be called often.
    fn refused(&self, repository: &Repository, credential: &Credential);

    /// Hears that the source gave out content to somebody who showed no credential. May be called often.
    fn public(&self, repository: &Repository);
}

impl super::RegistryClient {
    /// Everybody as whom `place` may be asked, in order: whether the credential is a granted one, and the access with it.
    pub(super) fn askers(&self, place: &Place) -> Vec<(bool, Access)> {
        let alone = || vec![(false, place.access.clone())];
        let Some(granted) = self.granted.as_ref().filter(|_| self.may_use_granted(place)) else {
            return alone();
        };
        let with = |credential| Access {
            credential: Some(credential),
            ..place.access.clone()
        };
        let credentials = granted.of(&place.access.repository);
        if credentials.is_empty() {
            return alone();
        }
        credentials
            .into_iter()
            .map(|credential| (true, with(credential)))
            .collect()
    }

    fn may_use_granted(&self, place: &Place) -> bool {
        matches!(self.identity, Identity::Known) && place.access.credential.is_none()
    }
}
