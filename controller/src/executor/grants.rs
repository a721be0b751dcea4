//! Reads pull secrets, one by one and only when they are tried, and asks the tier for grants.

use std::collections::BTreeSet;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use kube::Api;
use oci::Repository as SourceRepository;
use proto::v1::{Admission, Credential, GrantOutcome, GrantReply, GrantRequest};
use tokio::time::Instant;

use super::{ActionError, Executor, Outcome};
use crate::action::{Notice, SecretName};
use crate::credentials::logins;
use crate::grant::{GrantKey, GrantResult};
use crate::image::Image;

/// No further image is tried after this long: a last try and the question whether the namespace is admitted, with their
/// own deadlines, still end before the action's.
const TRYING_MAX: Duration = Duration::from_secs(15);

/// What pull secrets hold for a repository.
struct Found {
    credentials: Vec<Credential>,
    /// Whether all that there are could be read.
    all_read: bool,
}

impl Executor {
    pub(super) async fn grant(
        &self,
        key: GrantKey,
        images: &[String],
        secrets: Vec<SecretName>,
        accounts: &[String],
    ) -> Result<Outcome, ActionError> {
        let named: BTreeSet<SecretName> = secrets.iter().cloned().collect();
        let mut all = secrets;
        all.extend(self.secrets_of_accounts(&key.namespace, accounts).await?);
        let mut unique = BTreeSet::new();
        all.retain(|secret| unique.insert(secret.clone()));
        let Some(parsed) = images.first().and_then(|image| Image::parse(image).ok()) else {
            return Ok(Outcome::Done);
        };
        let Found { credentials, all_read } = self.credentials(&all, parsed.repository()).await?;
        let (result, notice) = match (credentials.is_empty(), all_read) {
            (false, _) => self.try_images(&key, images, &credentials).await?,
            (true, true) => (GrantResult::NoSecret, None),
            (true, false) => (GrantResult::Unread, None),
        };
        Ok(Outcome::Granted {
            key,
            result,
            tried: named,
            notice,
        })
    }

    /// Tries one image after the other until the source gives one, or is not to be asked further.
    async fn try_images(
        &self,
        key: &GrantKey,
        images: &[String],
        credentials: &[Credential],
    ) -> Result<(GrantResult, Option<Notice>), ActionError> {
        let until = Instant::now() + TRYING_MAX;
        let mut refusal = None;
        for image in images {
            if refusal.is_some() && Instant::now() >= until {
                break;
            }
            let request = GrantRequest {
                namespace: key.namespace.clone(),
                reference: image.clone(),
                credentials: credentials.to_vec(),
            };
            let reply = self.tier.grant(request).await?;
            if reply.outcome() != GrantOutcome::Refused {
                return Ok(self.judged(key, image, &reply, credentials).await);
            }
            // The likeliest image tells people the most.
            refusal.get_or_insert((image, reply));
        }
        Ok(match refusal {
            Some((image, reply)) => self.judged(key, image, &reply, credentials).await,
            None => (GrantResult::NoSecret, None),
        })
    }

    async fn judged(
        &self,
        key: &GrantKey,
        image: &str,
        reply: &GrantReply,
        credentials: &[Credential],
    ) -> (GrantResult, Option<Notice>) {
        let namespace = &key.namespace;
        let refused = |what: &str| {
            let tried: Vec<&str> = credentials
                .iter()
                .map(|credential| credential.origin.as_str())
                .collect();
            let text = format!("{image} for namespace {namespace}: {what}; tried {}", tried.join(", "));
            Some(Notice::warning("CredentialsRefused", text))
        };
        match reply.outcome() {
            GrantOutcome::Granted => {
                let text = format!(
                    "namespace {namespace} may use {} by secret {}",
                    key.repository, reply.origin
                );
                (GrantResult::Granted, Some(Notice::normal("CredentialsAccepted", text)))
            }
            GrantOutcome::Public => (GrantResult::Public, None),
            GrantOutcome::Refused => {
                let standing = self.is_admitted(namespace, image).await;
                let result = if standing {
                    GrantResult::Standing
                } else {
                    GrantResult::Refused
                };
                (result, refused("the source refuses all pull secrets"))
            }
            GrantOutcome::NoKey => (
                GrantResult::Refused,
                refused("the cache nodes have no key to seal credentials with"),
            ),
            GrantOutcome::Unreachable | GrantOutcome::Unspecified => {
                // While a source is away, what it granted before stands.
                let standing = self.is_admitted(namespace, image).await;
                let result = if standing {
                    GrantResult::Granted
                } else {
                    GrantResult::Unreachable
                };
                (result, None)
            }
        }
    }

    async fn is_admitted(&self, namespace: &str, image: &str) -> bool {
        matches!(self.tier.admit(namespace, image).await, Ok(Admission::Admitted))
    }

    async fn secrets_of_accounts(&self, namespace: &str, accounts: &[String]) -> Result<Vec<SecretName>, ActionError> {
        let api: Api<ServiceAccount> = Api::namespaced(self.client.clone(), namespace);
        let mut secrets = Vec::new();
        for account in accounts {
            let found = api.get_opt(account).await?;
            let named = found.and_then(|account| account.image_pull_secrets).unwrap_or_default();
            secrets.extend(named.iter().map(|secret| SecretName::new(namespace, &secret.name)));
        }
        Ok(secrets)
    }

    /// What the secrets hold for a repository. One that is missing or may not be read is passed over, as a kubelet does.
    async fn credentials(&self, secrets: &[SecretName], repository: &SourceRepository) -> Result<Found, ActionError> {
        let mut credentials = Vec::new();
        let mut all_read = true;
        for secret in secrets {
            let api: Api<Secret> = Api::namespaced(self.client.clone(), &secret.namespace);
            let found = match api.get_opt(&secret.name).await {
                Err(kube::Error::Api(status)) if status.code == 403 => {
                    tracing::warn!(%secret, "pull secret may not be read");
                    all_read = false;
                    None
                }
                found => found?,
            };
            let found = found.map(|found| logins(&found, repository)).unwrap_or_default();
            credentials.extend(found.into_iter().map(|login| Credential {
                username: login.username.0,
                password: login.password.0,
                origin: secret.to_string(),
            }));
        }
        Ok(Found { credentials, all_read })
    }
}
