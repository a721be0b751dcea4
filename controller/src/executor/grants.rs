//! Reads pull secrets, one by one and only when they are tried, and asks the tier for grants.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use kube::Api;
use oci::Repository as SourceRepository;
use proto::v1::{Admission, Credential, GrantOutcome, GrantRequest};

use super::{ActionError, Executor, Outcome};
use crate::action::{Notice, SecretName};
use crate::credentials::logins;
use crate::grant::{GrantKey, GrantResult};
use crate::image::Image;

impl Executor {
    pub(super) async fn grant(
        &self,
        key: GrantKey,
        image: &str,
        secrets: Vec<SecretName>,
        accounts: &[String],
    ) -> Result<Outcome, ActionError> {
        let named: BTreeSet<SecretName> = secrets.iter().cloned().collect();
        let mut all = secrets;
        all.extend(self.secrets_of_accounts(&key.namespace, accounts).await?);
        let mut unique = BTreeSet::new();
        all.retain(|secret| unique.insert(secret.clone()));
        let Ok(parsed) = Image::parse(image) else {
            return Ok(Outcome::Done);
        };
        let credentials = self.credentials(&all, parsed.repository()).await?;
        let tried: Vec<String> = credentials.iter().map(|credential| credential.origin.clone()).collect();
        let (result, notice) = if credentials.is_empty() {
            (GrantResult::NoSecret, None)
        } else {
            self.ask_for_grant(&key, image, credentials, &tried).await?
        };
        Ok(Outcome::Granted {
            key,
            result,
            tried: named,
            notice,
        })
    }

    async fn ask_for_grant(
        &self,
        key: &GrantKey,
        image: &str,
        credentials: Vec<Credential>,
        tried: &[String],
    ) -> Result<(GrantResult, Option<Notice>), ActionError> {
        let request = GrantRequest {
            namespace: key.namespace.clone(),
            reference: image.to_owned(),
            credentials,
        };
        let reply = self.tier.grant(request).await?;
        let tried = tried.join(", ");
        let namespace = &key.namespace;
        let refused = |what: &str| {
            let text = format!("{image} for namespace {namespace}: {what}; tried {tried}");
            Some(Notice::warning("CredentialsRefused", text))
        };
        Ok(match reply.outcome() {
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
        })
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
    async fn credentials(
        &self,
        secrets: &[SecretName],
        repository: &SourceRepository,
    ) -> Result<Vec<Credential>, ActionError> {
        let mut credentials = Vec::new();
        for secret in secrets {
            let api: Api<Secret> = Api::namespaced(self.client.clone(), &secret.namespace);
            let found = match api.get_opt(&secret.name).await {
                Err(kube::Error::Api(status)) if status.code == 403 => {
                    tracing::warn!(%secret, "pull secret may not be read");
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
        Ok(credentials)
    }
}
