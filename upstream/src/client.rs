//! The client for source registries: manifests, blobs, tags, referrers.
//!
//! Every call is bounded by its [`Patience`] and safe to cancel: dropping the future ends it and leaves nothing behind.
//! Failures before the first byte are retried as the policy says; a body that breaks is the caller's to resume with an
//! offset. Nothing is cached here but tokens and rate budgets.

mod authorization;
mod blob;
mod exchange;
mod identity;
mod listing;
mod manifest;

use std::future::Future;
use std::sync::Arc;

use http::HeaderValue;
use oci::{Endpoint, Repository, SourceHost};
use tokio::time::Instant;

use crate::auth::{Access, Authenticator};
use crate::budget::{Budget, Budgets};
use crate::config::{BaseUrl, ConfigError, Patience, UpstreamConfig};
use crate::connector::Connector;
use crate::error::{Target, UpstreamError};
use crate::retry::Verdict;
use crate::transport::Transport;

pub use authorization::Authorized;
pub use blob::{BlobHead, BlobStream};
pub(crate) use blob::{content_length, part, range_headers};
pub use identity::{GrantedCredentials, Identity};
pub use listing::{NextPage, ReferrersPage, TagsPage};
pub use manifest::ManifestHead;

/// Idle connections kept per registry: what one pull uses in parallel, so that the next object finds one open.
const IDLE_CONNECTIONS_MAX: usize = 8;

/// Talks to source registries. Cheap to clone; clones share connections, tokens and budgets.
#[derive(Clone, Debug)]
pub struct RegistryClient {
    shared: Arc<Shared>,
    patience: Patience,
    lent: Option<Arc<dyn LentAuthorizations>>,
    identity: Identity,
    granted: Option<Arc<dyn GrantedCredentials>>,
}

/// Authorizations that someone who has the credentials got for us.
pub trait LentAuthorizations: std::fmt::Debug + Send + Sync {
    /// Value of the `Authorization` header for a repository, if one is at hand and has not ended. Asked before each
    /// request, so it must not wait.
    fn get(&self, repository: &Repository) -> Option<HeaderValue>;
}

#[derive(Debug)]
struct Shared {
    config: UpstreamConfig,
    transport: Transport,
    authenticator: Authenticator,
    budgets: Budgets,
}

/// A repository, where it is, and how to get in.
struct Place {
    base: BaseUrl,
    access: Access,
}

impl RegistryClient {
    /// Makes a client; connects to nothing and loads no root certificates yet.
    ///
    /// # Errors
    /// [`ConfigError::Conflict`] and [`ConfigError::Tls`].
    pub fn new(config: UpstreamConfig) -> Result<Self, ConfigError> {
        let transport = Transport::new(Connector::guarded(&config)?, IDLE_CONNECTIONS_MAX);
        let authenticator = Authenticator::new(transport.clone());
        let patience = config.patience.clone();
        let shared = Shared {
            config,
            transport,
            authenticator,
            budgets: Budgets::default(),
        };
        Ok(Self {
            shared: Arc::new(shared),
            patience,
            lent: None,
            identity: Identity::default(),
            granted: None,
        })
    }

    /// The same client with other deadlines and retries, for callers that have something else to fall back on.
    pub fn with_patience(&self, patience: Patience) -> Self {
        Self {
            patience,
            ..self.clone()
        }
    }

    /// The same client, which tries what `lent` has before its own credentials.
    pub fn with_lent(self, lent: Arc<dyn LentAuthorizations>) -> Self {
        Self {
            lent: Some(lent),
            ..self
        }
    }

    /// The same client, asking on behalf of somebody else.
    pub fn with_identity(&self, identity: Identity) -> Self {
        Self {
            identity,
            ..self.clone()
        }
    }

    /// The same client with credentials beside the configured ones, which come first.
    pub fn with_granted(&self, granted: Arc<dyn GrantedCredentials>) -> Self {
        Self {
            granted: Some(granted),
            ..self.clone()
        }
    }

    /// What this client waits for, to build [`RegistryClient::with_patience`] from.
    pub fn patience(&self) -> &Patience {
        &self.patience
    }

    /// What the registry allows us, as last heard.
    pub fn budget(&self, host: &SourceHost) -> Budget {
        self.shared.budgets.of(host)
    }

    /// True if a configured credential covers this repository.
    pub fn has_configured_credential(&self, repository: &Repository) -> bool {
        let known = self.with_identity(Identity::Known);
        known.place(repository).access.credential.is_some()
    }

    /// True if someone configured this host.
    pub fn knows(&self, host: &SourceHost) -> bool {
        self.shared.config.knows(host)
    }

    fn place(&self, repository: &Repository) -> Place {
        let config = &self.shared.config;
        let rule = config.rule(&repository.host);
        let base = rule.map_or_else(|| BaseUrl::default_of(&repository.host), |rule| rule.url.clone());
        let remote_name = format!("{}{}", base.name_prefix(), repository.name);
        let registry = base.origin().clone();
        // A mirror's own credentials come before those of the host it stands in for.
        let mirror = registry.authority().trim_end_matches(":443").parse::<SourceHost>().ok();
        let own = mirror.and_then(|mirror| config.credentials.find(&mirror, &remote_name));
        let credential = own
            .or_else(|| config.credentials.find(&repository.host, repository.name.as_str()))
            .cloned();
        let credential = match &self.identity {
            Identity::Known => credential,
            Identity::Anonymous => None,
            Identity::As(credential) => Some(Arc::clone(credential)),
        };
        let realms = rule.map(|rule| rule.realms.clone()).unwrap_or_default();
        Place {
            base,
            access: Access {
                repository: repository.clone(),
                remote_name,
                registry,
                credential,
                realms,
            },
        }
    }

    /// Repeats `attempt` as the retry policy says, and notes rate limits wherever they were met.
    async fn retrying<T, F>(&self, host: &SourceHost, attempt: impl Fn() -> F) -> Result<T, UpstreamError>
    where
        F: Future<Output = Result<T, UpstreamError>>,
    {
        let started = Instant::now();
        let mut n_attempts = 0;
        loop {
            let failure = match attempt().await {
                Ok(done) => return Ok(done),
                Err(failure) => failure,
            };
            n_attempts += 1;
            if let UpstreamError::RateLimited { after, .. } = &failure {
                self.shared
                    .budgets
                    .update(host, |budget, now| budget.block(*after, now));
            }
            match self
                .patience
                .retry
                .verdict(&failure, n_attempts, started.elapsed(), fastrand::f64())
            {
                Verdict::GiveUp => return Err(failure),
                Verdict::After(pause) => {
                    tracing::debug!(
                        error = &failure as &dyn std::error::Error,
                        n_attempts,
                        ?pause,
                        "retry upstream"
                    );
                    tokio::time::sleep(pause).await;
                }
            }
        }
    }
}

fn target(repository: &Repository, endpoint: &Endpoint) -> Target {
    let thing = match endpoint {
        Endpoint::Manifest { reference, .. } => format!("manifest {reference} of {repository}"),
        Endpoint::Blob { digest, .. } => format!("blob {digest} of {repository}"),
        Endpoint::TagsList { .. } => format!("tags of {repository}"),
        Endpoint::Referrers { digest, .. } => format!("referrers of {digest} in {repository}"),
        Endpoint::Base | Endpoint::Uploads { .. } | Endpoint::Upload { .. } => format!("API for {repository}"),
    };
    Target::new(repository.host.as_str(), thing)
}
