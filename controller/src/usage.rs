//! Which images pods use, and those that workloads will make. Pure.

use std::collections::{BTreeMap, BTreeSet};

use crate::image::Image;
use crate::pod::{PodFacts, PodKey};
use crate::workload::{Template, WorkloadKey};

/// Pods named in a status. v1 named them all, and rewrote the list at every change (defect 19).
pub(crate) const PODS_NAMED_MAX: usize = 10;
/// Workloads named in a status.
pub(crate) const WORKLOADS_NAMED_MAX: usize = 10;

/// Who uses one image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Use {
    /// As the first of the pods names it, or the first workload where there is no pod.
    pub(crate) source_image: String,
    /// Pods.
    pub(crate) count: usize,
    /// The first few, in the order of their names.
    pub(crate) pods: Vec<PodKey>,
    /// The first few whose templates name it, in the order of their kinds and names.
    pub(crate) workloads: Vec<WorkloadKey>,
}

/// Every image that a pod uses which has not finished, or a template names, outside of `ignored` namespaces.
pub(crate) fn usage<'a>(
    pods: impl Iterator<Item = (&'a PodKey, &'a PodFacts)>,
    workloads: impl Iterator<Item = (&'a WorkloadKey, &'a Template)>,
    ignored: &BTreeSet<String>,
) -> BTreeMap<Image, Use> {
    let mut usage: BTreeMap<Image, Use> = BTreeMap::new();
    for (key, pod) in pods {
        if pod.finished || ignored.contains(&key.namespace) {
            continue;
        }
        for (image, original) in images(pod) {
            let used = entry(&mut usage, image, original);
            used.count += 1;
            if used.pods.len() < PODS_NAMED_MAX {
                used.pods.push(key.clone());
            }
        }
    }
    for (key, template) in workloads.filter(|(key, _)| !ignored.contains(&key.namespace)) {
        for (image, original) in &template.images {
            let used = entry(&mut usage, image, original);
            if used.workloads.len() < WORKLOADS_NAMED_MAX {
                used.workloads.push(key.clone());
            }
        }
    }
    usage
}

fn entry<'usage>(usage: &'usage mut BTreeMap<Image, Use>, image: &Image, original: &str) -> &'usage mut Use {
    if !usage.contains_key(image) {
        let used = Use {
            source_image: original.to_owned(),
            ..Use::default()
        };
        usage.insert(image.clone(), used);
    }
    usage.get_mut(image).expect("it was just put in")
}

/// The images of a pod, each once.
pub(crate) fn images(pod: &PodFacts) -> BTreeMap<&Image, &str> {
    let named = pod
        .images
        .iter()
        .filter_map(|named| Some((named.image.as_ref()?, named.original.as_str())));
    named.collect()
}

#[cfg(test)]
mod tests {
    use proto::pod::Place;

    use super::*;
    use crate::pod::PodImage;

    fn pod(namespace: &str, name: &str, images: &[&str]) -> (PodKey, PodFacts) {
        let image = |original: &&str| PodImage::new(Place::Container, "c", (*original).to_owned(), false);
        let key = PodKey {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        };
        (
            key,
            PodFacts {
                images: images.iter().map(image).collect(),
                ..PodFacts::default()
            },
        )
    }

    fn of(pods: &[(PodKey, PodFacts)]) -> BTreeMap<String, usize> {
        let ignored = BTreeSet::from(["ignored".to_owned()]);
        let usage = usage(pods.iter().map(|(key, pod)| (key, pod)), std::iter::empty(), &ignored);
        usage
            .into_iter()
            .map(|(image, used)| (image.to_string(), used.count))
            .collect()
    }

    #[test]
    fn a_pod_counts_once_however_often_it_names_an_image() {
        let pods = [
            pod("a", "1", &["nginx", "docker.io/library/nginx:latest", "b:2"]),
            pod("a", "2", &["nginx"]),
        ];
        let expected = [
            ("docker.io/library/b:2".to_owned(), 1),
            ("docker.io/library/nginx:latest".to_owned(), 2),
        ];
        assert_eq!(of(&pods), expected.into());
    }

    #[test]
    fn finished_pods_ignored_namespaces_and_unreadable_images_do_not_count() {
        let mut finished = pod("a", "1", &["nginx"]);
        finished.1.finished = true;
        let pods = [
            finished,
            pod("ignored", "2", &["nginx"]),
            pod("a", "3", &["NOT AN IMAGE", "localhost:5000/x"]),
        ];
        assert_eq!(of(&pods), BTreeMap::new());
    }

    #[test]
    fn few_pods_are_named_of_many() {
        let pods: Vec<_> = (0..100).map(|n| pod("a", &format!("{n:03}"), &["nginx"])).collect();
        let usage = usage(
            pods.iter().map(|(key, pod)| (key, pod)),
            std::iter::empty(),
            &BTreeSet::new(),
        );
        let used = usage.values().next().unwrap();
        assert_eq!((used.count, used.pods.len()), (100, PODS_NAMED_MAX));
        assert_eq!(used.pods[0].to_string(), "a/000");
    }
}
