//! All objects of a kind, one after the other or a few at once: each with a deadline of its own, and decided anew where
//! someone else was faster.

use std::fmt::Debug;
use std::time::Duration;

use futures::StreamExt;
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio::time::timeout;

use super::CleanupError;

/// Objects in one answer to a list.
const PAGE: u32 = 200;
/// A list that takes longer than the API server keeps its version (five minutes) is begun anew; more often than this the
/// server is in no state to be listed.
const LISTS_MAX: usize = 3;
/// Objects changed at once: an uninstall has minutes, the API server has others to serve.
const AT_ONCE_MAX: usize = 8;
/// What one object may take, so that a webhook of others that hangs over one holds up no other.
const OBJECT_DEADLINE: Duration = Duration::from_secs(5);
/// Looks at one object that keeps changing under our hands.
const TRIES_MAX: usize = 4;

/// Does something to each object, and hands what came of it to `heard` as it comes.
pub(super) async fn each<K, T>(
    api: &Api<K>,
    act: impl AsyncFn(K) -> Result<T, CleanupError>,
    mut heard: impl FnMut(String, Result<T, CleanupError>),
) -> Result<(), CleanupError>
where
    K: Resource + Clone + DeserializeOwned + Debug,
{
    let mut n_lists = 1;
    let mut parameters = ListParams::default().limit(PAGE);
    loop {
        let page = match api.list(&parameters).await {
            Err(kube::Error::Api(status)) if status.code == 410 && n_lists < LISTS_MAX => {
                n_lists += 1;
                parameters.continue_token = None;
                continue;
            }
            page => page?,
        };
        let done = page.items.into_iter().map(|object| {
            let (name, acting) = (full_name(&object), act(object));
            async move {
                let done = timeout(OBJECT_DEADLINE, acting).await;
                (name, done.unwrap_or(Err(CleanupError::Deadline)))
            }
        });
        let mut done = std::pin::pin!(futures::stream::iter(done).buffer_unordered(AT_ONCE_MAX));
        while let Some((name, done)) = done.next().await {
            heard(name, done);
        }
        match page.metadata.continue_ {
            Some(token) if !token.is_empty() => parameters.continue_token = Some(token),
            _ => return Ok(()),
        }
    }
}

fn full_name(object: &impl ResourceExt) -> String {
    match object.namespace() {
        Some(namespace) => format!("{namespace}/{}", object.name_any()),
        None => object.name_any(),
    }
}

/// Decides from `object`, and again from what it has become while someone else is faster. Nothing where it is gone.
pub(super) async fn decided_anew<K, T>(
    api: &Api<K>,
    mut object: K,
    act: impl AsyncFn(K) -> Result<T, kube::Error>,
) -> Result<Option<T>, CleanupError>
where
    K: Resource + Clone + DeserializeOwned + Debug,
{
    let name = object.name_any();
    for _ in 1..TRIES_MAX {
        match act(object).await {
            Err(kube::Error::Api(status)) if status.is_not_found() => return Ok(None),
            Err(kube::Error::Api(status)) if status.is_conflict() => {}
            done => return Ok(Some(done?)),
        }
        match api.get_opt(&name).await? {
            Some(now) => object = now,
            None => return Ok(None),
        }
    }
    match act(object).await {
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(None),
        done => Ok(Some(done?)),
    }
}

/// Takes a finalizer off, if nobody has changed the object meanwhile: what another one added stays. Returns it as it is now.
pub(super) async fn release<K>(api: &Api<K>, object: K, finalizer: &str) -> Result<K, kube::Error>
where
    K: Resource + Clone + DeserializeOwned + Debug,
{
    let finalizers = object.finalizers();
    if !finalizers.iter().any(|one| one == finalizer) {
        return Ok(object);
    }
    let kept: Vec<&String> = finalizers.iter().filter(|one| *one != finalizer).collect();
    let metadata = json!({"uid": object.uid(), "resourceVersion": object.resource_version(), "finalizers": kept});
    let patch = Patch::Merge(json!({"metadata": metadata}));
    api.patch(&object.name_any(), &PatchParams::default(), &patch).await
}

#[cfg(test)]
mod tests;
