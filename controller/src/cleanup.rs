//! Before an uninstall: leaves nothing behind that needs what goes away.
//!
//! Each step has a time of its own and goes on without what failed, as an uninstall that hangs is worse than a rest that is
//! told of. Only the first must succeed: with the webhook still called, pods would be rewritten again.

use std::time::Duration;

use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::action::{Restoration, RestoredImage};
use crate::config::{Certificates, Config};
use crate::crd::{CachedImage, FINALIZER_CACHED_IMAGE_V1, FINALIZER_POD_V1, FINALIZER_REPOSITORY_V1, Repository};
use crate::executor::restoring_patch;
use crate::pki::secret_names;
use crate::pod::{PodFacts, PodKey, ProxyPods, Waiting, reduce};

/// One step. All of them together stay below the two minutes that an uninstall hook is given.
const STEP_DEADLINE: Duration = Duration::from_secs(25);
/// How often it is looked whether the controllers are gone.
const POLL: Duration = Duration::from_millis(500);
/// Objects in one answer to a list.
const PAGE: u32 = 200;

/// Why the cleanup failed.
#[derive(Debug, thiserror::Error)]
pub enum CleanupError {
    /// The API server refused or did not answer.
    #[error("API server")]
    Api(#[from] kube::Error),
    /// A step took too long.
    #[error("not done in time")]
    Deadline,
}

/// What is left for people to see to.
#[derive(Debug, Default)]
pub struct Leftovers {
    /// Pods that run and still name an image through the proxy: they go on, and start again elsewhere only with a new pod.
    pub running: Vec<String>,
    /// Pods that were given their original images.
    pub restored: Vec<String>,
}

/// Cleans up after an install.
///
/// # Errors
/// [`CleanupError`] if the webhook's configuration is still there.
pub async fn clean_up(client: &Client, config: &Config) -> Result<Leftovers, CleanupError> {
    let install = &config.install;
    let webhooks: Api<MutatingWebhookConfiguration> = Api::all(client.clone());
    in_time(delete(&webhooks, &install.name("mutating-webhook"))).await?;
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), &install.namespace);
    note(
        "stop the controllers",
        in_time(stop(&deployments, &install.name("controllers"))).await,
    );
    let leftovers = in_time(give_back(client, config)).await;
    let leftovers = leftovers
        .inspect_err(|error| warn("give images back", error))
        .unwrap_or_default();
    note(
        "finalizers of CachedImages",
        in_time(release(
            Api::<CachedImage>::all(client.clone()),
            FINALIZER_CACHED_IMAGE_V1,
        ))
        .await,
    );
    note(
        "finalizers of Repositories",
        in_time(release(Api::<Repository>::all(client.clone()), FINALIZER_REPOSITORY_V1)).await,
    );
    if config.certificates == Certificates::Own {
        for (namespace, name) in secret_names(install) {
            let secrets: Api<Secret> = Api::namespaced(client.clone(), &namespace);
            note("delete secrets", in_time(delete(&secrets, &name)).await);
        }
    }
    let leases: Api<Lease> = Api::namespaced(client.clone(), &install.namespace);
    note(
        "delete the lease",
        in_time(delete(&leases, &install.name("controllers"))).await,
    );
    Ok(leftovers)
}

async fn in_time<T>(step: impl Future<Output = Result<T, kube::Error>>) -> Result<T, CleanupError> {
    let done = tokio::time::timeout(STEP_DEADLINE, step).await;
    done.map_err(|_elapsed| CleanupError::Deadline)?
        .map_err(CleanupError::Api)
}

fn note(step: &'static str, done: Result<(), CleanupError>) {
    if let Err(error) = done {
        warn(step, &error);
    }
}

fn warn(step: &'static str, error: &CleanupError) {
    let error = daemon::runtime::one_line(error);
    tracing::warn!(step, error, "step of the cleanup failed, going on without");
}

async fn delete<K>(api: &Api<K>, name: &str) -> Result<(), kube::Error>
where
    K: Resource + Clone + DeserializeOwned + std::fmt::Debug,
{
    match api.delete(name, &DeleteParams::background()).await {
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
        deleted => deleted.map(drop),
    }
}

/// Deletes the controllers and waits until none is left that would make everything anew.
async fn stop(deployments: &Api<Deployment>, name: &str) -> Result<(), kube::Error> {
    match deployments.delete(name, &DeleteParams::foreground()).await {
        Err(kube::Error::Api(status)) if status.is_not_found() => return Ok(()),
        deleted => drop(deleted?),
    }
    while deployments.get_opt(name).await?.is_some() {
        tokio::time::sleep(POLL).await;
    }
    Ok(())
}

async fn give_back(client: &Client, config: &Config) -> Result<Leftovers, kube::Error> {
    let proxies = ProxyPods {
        namespace: config.install.proxy_namespace.clone(),
        component: "proxy",
    };
    let mut leftovers = Leftovers::default();
    let mut parameters = ListParams::default().limit(PAGE);
    loop {
        let page = Api::<Pod>::all(client.clone()).list(&parameters).await?;
        for pod in &page.items {
            let pods = Api::<Pod>::namespaced(client.clone(), &pod.namespace().unwrap_or_default());
            if let Err(error) = release_one(&pods, pod, FINALIZER_POD_V1).await {
                tracing::warn!(%error, pod = pod.name_any(), "finalizer of kuik v1 not removed");
            }
            if let Some((key, facts)) = reduce(pod, &proxies) {
                give_back_one(client, &key, &facts, &mut leftovers).await;
            }
        }
        match page.metadata.continue_ {
            Some(token) if !token.is_empty() => parameters.continue_token = Some(token),
            _ => return Ok(leftovers),
        }
    }
}

async fn give_back_one(client: &Client, key: &PodKey, facts: &PodFacts, leftovers: &mut Leftovers) {
    if facts.finished || !facts.images.iter().any(|image| image.rewritten) {
        return;
    }
    let Some(restoration) = restoration(key, facts) else {
        leftovers.running.push(key.to_string());
        return;
    };
    let pods: Api<Pod> = Api::namespaced(client.clone(), &key.namespace);
    let patch = Patch::Strategic(restoring_patch(&restoration));
    match pods.patch(&key.name, &PatchParams::default(), &patch).await {
        Ok(_) => leftovers.restored.push(key.to_string()),
        Err(error) => {
            tracing::warn!(%error, pod = %key, "original images not put back");
            leftovers.running.push(key.to_string());
        }
    }
}

fn restoration(key: &PodKey, facts: &PodFacts) -> Option<Restoration> {
    let waiting = facts
        .images
        .iter()
        .filter(|image| image.rewritten && image.waiting != Waiting::No);
    let images: Vec<RestoredImage> = waiting.filter_map(RestoredImage::of).collect();
    (!images.is_empty()).then(|| Restoration {
        pod: key.clone(),
        uid: facts.uid.clone(),
        version: facts.version.clone(),
        images,
        before: facts.restored.clone(),
        reason: "kube-image-keeper is being uninstalled".to_owned(),
    })
}

async fn release<K>(api: Api<K>, finalizer: &str) -> Result<(), kube::Error>
where
    K: Resource + Clone + DeserializeOwned + std::fmt::Debug,
{
    let mut parameters = ListParams::default().limit(PAGE);
    loop {
        let page = api.list(&parameters).await?;
        for object in &page.items {
            release_one(&api, object, finalizer).await?;
        }
        match page.metadata.continue_ {
            Some(token) if !token.is_empty() => parameters.continue_token = Some(token),
            _ => return Ok(()),
        }
    }
}

async fn release_one<K>(api: &Api<K>, object: &K, finalizer: &str) -> Result<(), kube::Error>
where
    K: Resource + Clone + DeserializeOwned + std::fmt::Debug,
{
    let finalizers = object.finalizers();
    if !finalizers.iter().any(|one| one == finalizer) {
        return Ok(());
    }
    let kept: Vec<&String> = finalizers.iter().filter(|one| *one != finalizer).collect();
    let patch = Patch::Merge(json!({"metadata": {"finalizers": kept}}));
    match api.patch(&object.name_any(), &PatchParams::default(), &patch).await {
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
        patched => patched.map(drop),
    }
}

#[cfg(test)]
mod tests {
    use proto::pod::Place;

    use super::*;
    use crate::pod::PodImage;

    #[test]
    fn only_containers_that_wait_are_given_their_images() {
        let key = PodKey {
            namespace: "n".to_owned(),
            name: "p".to_owned(),
        };
        let mut waits = PodImage::new(Place::Container, "waits", "nginx".to_owned(), true);
        waits.waiting = Waiting::Creating;
        let runs = PodImage::new(Place::Container, "runs", "nginx".to_owned(), true);
        let facts = |images: Vec<PodImage>| PodFacts {
            images,
            ..PodFacts::default()
        };
        let restored = restoration(&key, &facts(vec![waits, runs.clone()])).unwrap();
        assert_eq!(restored.images.len(), 1);
        assert_eq!(restored.images[0].container, "waits");
        assert_eq!(restoration(&key, &facts(vec![runs])), None);
    }
}
