//! Grants: credentials are tried at the source, and the first that works is kept, sealed.

use std::sync::Arc;
use std::time::Duration;

use daemon::runtime::one_line;
use meta::{ACCESS_AT_ONCE_MAX, Command, Outcome, PutGrant, RepositoryItem, RevokeGrants, SetVisibility};
use meta::{Visibility, view};
use oci::{ImageReference, Repository};
use raft::MetaHandle;
use tokio::time::timeout;
use upstream::{Identity, Patience, RegistryClient, RetryPolicy, UpstreamError};

use super::keys::KeyRing;
pub use super::seal::Login;
use crate::sources::Sources;

/// How long a source may take for one try; one that lies or sleeps must not hold up the others.
const TRY_PATIENCE: Duration = Duration::from_secs(2);
/// Credentials tried for one image. A pod names a few pull secrets.
pub const CREDENTIALS_MAX: usize = 64;
/// A source that was asked so often and did not answer will not answer the next login either.
const SILENCES_MAX: usize = 3;
/// Grants read at a time when a namespace is forgotten.
const PAGE: usize = 1000;

/// A login, and where it came from.
pub struct Offered {
    /// The login.
    pub login: Login,
    /// `namespace/secret`.
    pub origin: String,
}

/// What came of a grant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Granted {
    /// Anyone may pull it.
    Public,
    /// The namespace may, with the credential of this origin.
    Granted {
        /// Where it came from.
        origin: String,
    },
    /// No credential works; what the source said last.
    Refused {
        /// For people.
        why: String,
    },
    /// The source does not answer.
    Unreachable {
        /// For people.
        why: String,
    },
    /// There is no key to seal credentials with.
    NoKey,
}

/// Why grants are not recorded.
#[derive(Debug, thiserror::Error)]
pub enum GrantError {
    /// The cluster does not take it now.
    #[error("record a grant")]
    Write(#[from] raft::WriteError),
    /// The state is not up to date.
    #[error("read grants")]
    Behind(#[from] raft::ReadError),
    /// The state cannot be read.
    #[error("read grants")]
    Read(#[from] meta::ReadError),
    /// The cluster refuses it.
    #[error("record a grant")]
    Rejected(#[from] meta::Rejected),
}

/// What the source says to one who asks.
enum Tried {
    Works,
    Refuses(String),
    /// It has no such image, or will not say that it has.
    Lacks(String),
    Silent(String),
}

/// Tries, seals and records.
pub struct Granting {
    ledger: MetaHandle,
    keys: Arc<KeyRing>,
    client: RegistryClient,
}

impl Granting {
    /// Tries at `sources`, seals with `keys`, records in `ledger`.
    pub fn new(ledger: MetaHandle, keys: Arc<KeyRing>, sources: &Sources) -> Self {
        let patience = Patience {
            headers: TRY_PATIENCE,
            no_progress: TRY_PATIENCE,
            retry: RetryPolicy::NEVER,
        };
        let client = sources.client().with_patience(patience);
        Self { ledger, keys, client }
    }

    /// Tries to read `image`, without a credential first, then with each in order.
    ///
    /// # Errors
    /// [`GrantError`] if what works cannot be recorded.
    pub async fn grant(
        &self,
        namespace: &str,
        image: &ImageReference,
        offered: &[Offered],
    ) -> Result<Granted, GrantError> {
        let open = match self.client.has_configured_credential(&image.repository) {
            true => Identity::Known,
            false => Identity::Anonymous,
        };
        let mut silent = Vec::new();
        let mut why = match self.try_as(open, image).await {
            Tried::Works => return self.public(&image.repository).await,
            // It is open to everyone, whatever their credentials, until the source says otherwise.
            Tried::Silent(why) if self.is_public(&image.repository)? => return Ok(Granted::Unreachable { why }),
            Tried::Silent(why) => {
                silent.push(why);
                String::new()
            }
            Tried::Refuses(why) | Tried::Lacks(why) => why,
        };
        if self.keys.active().is_none() {
            return Ok(Granted::NoKey);
        }
        for offered in offered.iter().take(CREDENTIALS_MAX) {
            if silent.len() >= SILENCES_MAX {
                break;
            }
            let identity = Identity::As(Arc::new(offered.login.credential()));
            match self.try_as(identity, image).await {
                Tried::Works => return self.record(namespace, &image.repository, offered).await,
                Tried::Refuses(reason) => why = reason,
                // Some registries say so of what they will not show. An image that is gone takes no grant away.
                Tried::Lacks(reason) if self.holds_grant(namespace, &image.repository) => silent.push(reason),
                Tried::Lacks(reason) => why = reason,
                Tried::Silent(reason) => silent.push(reason),
            }
        }
        Ok(match silent.pop() {
            Some(why) => Granted::Unreachable { why },
            None => Granted::Refused { why },
        })
    }

    async fn try_as(&self, identity: Identity, image: &ImageReference) -> Tried {
        let client = self.client.with_identity(identity);
        let reference = image.manifest();
        let asked = client.head_manifest(&image.repository, &reference);
        match timeout(TRY_PATIENCE, asked).await {
            Ok(Ok(_)) => Tried::Works,
            Ok(Err(error @ UpstreamError::Denied { .. })) => Tried::Refuses(one_line(&error)),
            Ok(Err(error @ UpstreamError::NotFound { .. })) => Tried::Lacks(one_line(&error)),
            Ok(Err(error)) => Tried::Silent(one_line(&error)),
            Err(_) => Tried::Silent(format!("{} did not answer in {TRY_PATIENCE:?}", image.repository.host)),
        }
    }

    async fn public(&self, repository: &Repository) -> Result<Granted, GrantError> {
        let repository = repository.clone();
        let public = true;
        self.write(Command::SetVisibility(SetVisibility { repository, public }))
            .await?;
        Ok(Granted::Public)
    }

    async fn record(&self, namespace: &str, repository: &Repository, offered: &Offered) -> Result<Granted, GrantError> {
        let Some(sealed) = self.keys.seal(&offered.login) else {
            return Ok(Granted::NoKey);
        };
        self.write(Command::PutGrant(PutGrant {
            namespace: namespace.to_owned(),
            repository: repository.clone(),
            credential: sealed.id,
            sealed: sealed.bytes,
            key_id: sealed.key_id,
            origin: offered.origin.clone(),
        }))
        .await?;
        tracing::info!(namespace, %repository, origin = offered.origin, "grant recorded");
        Ok(Granted::Granted {
            origin: offered.origin.clone(),
        })
    }

    /// Forgets the grant of a namespace for one repository, or all it has.
    ///
    /// # Errors
    /// [`GrantError`].
    pub async fn revoke(&self, namespace: &str, repository: Option<&Repository>) -> Result<(), GrantError> {
        let repositories = match repository {
            Some(repository) => vec![repository.clone()],
            None => {
                self.ledger.linearizable().await?;
                self.repositories_of(namespace)?
            }
        };
        for chunk in repositories.chunks(ACCESS_AT_ONCE_MAX) {
            self.write(Command::RevokeGrants(RevokeGrants {
                namespace: namespace.to_owned(),
                repositories: chunk.iter().cloned().map(RepositoryItem).collect(),
            }))
            .await?;
        }
        Ok(())
    }

    fn is_public(&self, repository: &Repository) -> Result<bool, meta::ReadError> {
        let seen = view::visibility(&self.ledger.local(), repository)?;
        Ok(matches!(seen, Some(Visibility::Public { .. })))
    }

    fn holds_grant(&self, namespace: &str, repository: &Repository) -> bool {
        view::grant(&self.ledger.local(), repository, namespace).is_ok_and(|grant| grant.is_some())
    }

    fn repositories_of(&self, namespace: &str) -> Result<Vec<Repository>, meta::ReadError> {
        let state = self.ledger.local();
        let mut found = Vec::new();
        let mut page = view::list_grants(&state, None, PAGE)?;
        while let Some(last) = page.last().cloned() {
            let own = page.into_iter().filter(|grant| grant.namespace == namespace);
            found.extend(own.map(|grant| grant.repository));
            page = view::list_grants(&state, Some((&last.repository, &last.namespace)), PAGE)?;
        }
        Ok(found)
    }

    async fn write(&self, command: Command) -> Result<Outcome, GrantError> {
        Ok(self.ledger.write(command).await?.accepted()?)
    }
}
