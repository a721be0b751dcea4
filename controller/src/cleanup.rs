//! Before an uninstall: leaves nothing behind that needs what goes away, and says what it could not do.
//!
//! Each step has a time of its own and goes on without what failed, as an uninstall that hangs is worse than a rest that is
//! told of. Only the first must succeed: with the webhook still called, pods would be rewritten again.

mod each;
mod pods;

use std::collections::BTreeSet;
use std::time::Duration;

use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ObjectReference, Secret};
use kube::api::DeleteParams;
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use crate::action::Notice;
use crate::config::{Certificates, Config, Install};
use crate::crd::{CachedImage, FINALIZER_CACHED_IMAGE_V1, FINALIZER_REPOSITORY_V1, Repository};
use crate::events::Events;
use crate::pki::secret_names;
use crate::pod::ProxyPods;
use each::{decided_anew, each, release};

/// One call.
const CALL_DEADLINE: Duration = Duration::from_secs(10);
/// Controllers give their lease back within seconds, and are killed after ten.
const STOP_DEADLINE: Duration = Duration::from_secs(20);
/// All pods of a large cluster, a few at once. All steps together stay ten seconds below the two minutes that an uninstall
/// hook is given: its container takes some of them to start.
const PODS_DEADLINE: Duration = Duration::from_secs(35);
/// All CachedImages, all Repositories, or all secrets.
const OBJECTS_DEADLINE: Duration = Duration::from_secs(10);
/// How often it is looked whether the controllers are gone.
const POLL: Duration = Duration::from_millis(500);
/// Things named that were not done; where more went wrong, the first of them tell enough.
const UNDONE_MAX: usize = 50;
/// Pods named in the event; all of them are in the program's output.
const RUNNING_NAMED_MAX: usize = 10;

/// Why the cleanup, or a part of it, failed.
#[derive(Debug, thiserror::Error)]
pub enum CleanupError {
    /// The API server refused or did not answer.
    #[error("API server")]
    Api(#[from] kube::Error),
    /// It took too long.
    #[error("not done in time")]
    Deadline,
}

/// What was done with pods, and what is left for people to see to.
#[derive(Debug, Default)]
pub struct Leftovers {
    /// Pods that run and still name an image through the proxy: they go on, and start again elsewhere only with a new pod.
    pub running: BTreeSet<String>,
    /// Pods that were given their original images.
    pub restored: BTreeSet<String>,
    /// What was not done, and why: at most fifty of it.
    pub undone: Vec<String>,
    /// How many things were not done.
    pub n_undone: usize,
}

impl Leftovers {
    fn note(&mut self, what: &str, error: &CleanupError) {
        let error = daemon::runtime::one_line(error);
        tracing::warn!(what, error, "part of the cleanup failed, going on without");
        self.n_undone += 1;
        if self.undone.len() < UNDONE_MAX {
            self.undone.push(format!("{what}: {error}"));
        }
    }

    fn step(&mut self, what: &str, done: Result<(), CleanupError>) {
        if let Err(error) = done {
            self.note(what, &error);
        }
    }
}

/// Cleans up after an install.
///
/// # Errors
/// [`CleanupError`] if the webhook's configuration is still there.
pub async fn clean_up(client: &Client, config: &Config) -> Result<Leftovers, CleanupError> {
    let install = &config.install;
    let webhooks: Api<MutatingWebhookConfiguration> = Api::all(client.clone());
    in_time(CALL_DEADLINE, delete(&webhooks, &install.name("mutating-webhook"))).await?;
    let mut left = Leftovers::default();
    let controllers = install.name("controllers");
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), &install.namespace);
    let stopped = in_time(STOP_DEADLINE, stop(&deployments, &controllers)).await;
    left.step("stop the controllers", stopped);
    let proxies = ProxyPods {
        namespace: install.proxy_namespace.clone(),
        component: "proxy",
    };
    let given = in_time(PODS_DEADLINE, pods::give_back(client, &proxies, &mut left)).await;
    left.step("give images back to all pods", given);
    release_all::<CachedImage>(client, FINALIZER_CACHED_IMAGE_V1, &mut left).await;
    release_all::<Repository>(client, FINALIZER_REPOSITORY_V1, &mut left).await;
    if config.certificates == Certificates::Own {
        let deleted = in_time(OBJECTS_DEADLINE, delete_secrets(client, install)).await;
        left.step("delete the secrets of certificates", deleted);
    }
    let leases: Api<Lease> = Api::namespaced(client.clone(), &install.namespace);
    let deleted = in_time(CALL_DEADLINE, delete(&leases, &controllers)).await;
    left.step("delete the lease", deleted);
    tell(client, install, &left).await;
    Ok(left)
}

/// The program's own output goes with its job; an event stays for an hour, as a rule.
async fn tell(client: &Client, install: &Install, left: &Leftovers) {
    let about = ObjectReference {
        api_version: Some("apps/v1".to_owned()),
        kind: Some("Deployment".to_owned()),
        namespace: Some(install.namespace.clone()),
        name: Some(install.name("controllers")),
        ..ObjectReference::default()
    };
    Events::new(client.clone())
        .tell(&about, "CleaningUp", &summary(left))
        .await;
}

fn summary(left: &Leftovers) -> Notice {
    let mut parts = vec![format!("{} pods got their original images back", left.restored.len())];
    if !left.running.is_empty() {
        let running: Vec<&str> = left
            .running
            .iter()
            .take(RUNNING_NAMED_MAX)
            .map(String::as_str)
            .collect();
        parts.push(format!(
            "{} pods run from images named through the proxy, delete them to have them made anew: {}",
            left.running.len(),
            running.join(", ")
        ));
    }
    if left.n_undone == 0 {
        return Notice::normal("CleanedUp", parts.join("; "));
    }
    parts.insert(
        0,
        format!("{} things were not done: {}", left.n_undone, left.undone.join(", ")),
    );
    Notice::warning("CleanupFailed", parts.join("; "))
}

async fn in_time<T>(
    deadline: Duration,
    step: impl Future<Output = Result<T, CleanupError>>,
) -> Result<T, CleanupError> {
    timeout(deadline, step).await.unwrap_or(Err(CleanupError::Deadline))
}

async fn delete<K>(api: &Api<K>, name: &str) -> Result<(), CleanupError>
where
    K: Resource + Clone + DeserializeOwned + std::fmt::Debug,
{
    match api.delete(name, &DeleteParams::background()).await {
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
        deleted => Ok(deleted.map(drop)?),
    }
}

/// All that can be deleted; the first error of what cannot.
async fn delete_secrets(client: &Client, install: &Install) -> Result<(), CleanupError> {
    let deleting = secret_names(install).into_iter().map(|(namespace, name)| async move {
        let secrets: Api<Secret> = Api::namespaced(client.clone(), &namespace);
        delete(&secrets, &name).await
    });
    futures::future::join_all(deleting).await.into_iter().collect()
}

/// Deletes the controllers and waits until none is left that would make everything anew.
async fn stop(deployments: &Api<Deployment>, name: &str) -> Result<(), CleanupError> {
    match deployments.delete(name, &DeleteParams::foreground()).await {
        Err(kube::Error::Api(status)) if status.is_not_found() => return Ok(()),
        deleted => drop(deleted?),
    }
    while deployments.get_opt(name).await?.is_some() {
        tokio::time::sleep(POLL).await;
    }
    Ok(())
}

/// Takes v1's finalizer off every object of a kind.
async fn release_all<K>(client: &Client, finalizer: &str, left: &mut Leftovers)
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug,
{
    let kind = K::kind(&());
    let api: Api<K> = Api::all(client.clone());
    let act = async |object: K| decided_anew(&api, object, async |object| release(&api, object, finalizer).await).await;
    let heard = |name: String, released: Result<Option<K>, CleanupError>| {
        if let Err(error) = released {
            left.note(&format!("finalizer of {kind} {name}"), &error);
        }
    };
    let done = in_time(OBJECTS_DEADLINE, each(&api, act, heard)).await;
    left.step(&format!("finalizers of all {kind} objects"), done);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_are_told_what_is_left_and_what_went_wrong_first() {
        let mut left = Leftovers::default();
        left.restored.insert("n/waits".to_owned());
        left.running.extend((0..20).map(|n| format!("n/runs-{n:02}")));
        let told = summary(&left);
        assert!(!told.warning && told.reason == "CleanedUp");
        assert!(told.text.contains("1 pods got") && told.text.contains("20 pods run"));
        assert!(told.text.contains("n/runs-09") && !told.text.contains("n/runs-10"));
        for n in 0..2 * UNDONE_MAX {
            left.note(&format!("pod n/{n}"), &CleanupError::Deadline);
        }
        let told = summary(&left);
        assert!(told.warning && told.reason == "CleanupFailed");
        assert!(
            told.text
                .starts_with("100 things were not done: pod n/0: not done in time, ")
        );
        assert_eq!(left.undone.len(), UNDONE_MAX);
    }
}
