//! Pods at an uninstall: those that wait for an image get their original one back, the others are told of.

use k8s_openapi::api::core::v1::Pod;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client, ResourceExt};

use super::each::{decided_anew, each, release};
use super::{CleanupError, Leftovers};
use crate::action::{Restoration, RestoredImage};
use crate::crd::FINALIZER_POD_V1;
use crate::executor::restoring_patch;
use crate::pod::{PodFacts, PodKey, ProxyPods, Waiting, reduce};

/// What became of one pod.
enum Fate {
    NotOurs,
    Restored,
    /// It has containers of rewritten images, and none of them waits.
    Runs,
}

/// Sees to all pods. What was seen to before an error or a deadline is in `leftovers`.
pub(super) async fn give_back(
    client: &Client,
    proxies: &ProxyPods,
    leftovers: &mut Leftovers,
) -> Result<(), CleanupError> {
    let act = async |pod: Pod| {
        let pods: Api<Pod> = Api::namespaced(client.clone(), &pod.namespace().unwrap_or_default());
        decided_anew(&pods, pod, async |pod| see_to(&pods, pod, proxies).await).await
    };
    let heard = |name: String, fate: Result<Option<Fate>, CleanupError>| match fate {
        Ok(None | Some(Fate::NotOurs)) => {}
        // Listed once more, where the list was begun anew.
        Ok(Some(Fate::Runs)) if leftovers.restored.contains(&name) => {}
        Ok(Some(Fate::Restored)) => {
            leftovers.restored.insert(name);
        }
        Ok(Some(Fate::Runs)) => {
            leftovers.running.insert(name);
        }
        Err(error) => leftovers.note(&format!("pod {name}"), &error),
    };
    each(&Api::<Pod>::all(client.clone()), act, heard).await
}

async fn see_to(pods: &Api<Pod>, pod: Pod, proxies: &ProxyPods) -> Result<Fate, kube::Error> {
    let pod = release(pods, pod, FINALIZER_POD_V1).await?;
    let Some((key, facts)) = reduce(&pod, proxies) else {
        return Ok(Fate::NotOurs);
    };
    if facts.finished || !facts.images.iter().any(|image| image.rewritten) {
        return Ok(Fate::NotOurs);
    }
    let Some(restoration) = restoration(&key, &facts) else {
        return Ok(Fate::Runs);
    };
    let patch = Patch::Strategic(restoring_patch(&restoration));
    pods.patch(&key.name, &PatchParams::default(), &patch).await?;
    Ok(Fate::Restored)
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
