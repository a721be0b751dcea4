//! All that the controller knows: what it watches, and what it has told the tier. One task owns it.

use std::collections::{BTreeMap, BTreeSet};

use kube::ResourceExt;
use proto::v1::{ChangeDesiredRequest, ImageChanges, ImageState, PlaceRequest};

use crate::crd::{CachedImage, Repository};
use crate::grant::Grants;
use crate::image::Image;
use crate::placing::Placing;
use crate::pod::{PodFacts, PodKey};
use crate::proxy_standing::ProxyStandings;
use crate::workload::{Template, WorkloadKey, WorkloadKind, Workloads};

/// What the controller knows.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) pods: Watched<PodKey, PodFacts>,
    pub(crate) images: Watched<String, CachedImage>,
    pub(crate) repositories: Watched<String, Repository>,
    /// Platform of each Kubernetes node, such as `linux/amd64`.
    pub(crate) nodes: Watched<String, String>,
    pub(crate) tier: TierView,
    pub(crate) told: Told,
    pub(crate) placing: Placing,
    pub(crate) grants: Grants,
    pub(crate) proxies: ProxyStandings,
    /// What makes pods, with or without any at the moment.
    pub(crate) workloads: Workloads,
}

/// Something that was watched has changed.
#[derive(Debug)]
pub(crate) enum Change {
    Pod(Seen<PodKey, PodFacts>),
    Image(Seen<String, CachedImage>),
    Repository(Seen<String, Repository>),
    Node(Seen<String, String>),
    Workload(WorkloadKind, Seen<WorkloadKey, Template>),
    /// From the tier's watch of images.
    Tier(ImageChanges),
    /// A cache node that may not know what others were told: a new connection after a lost one.
    TierLost,
}

impl State {
    pub(crate) fn apply(&mut self, change: Change) {
        match change {
            Change::Pod(seen) => self.pods.apply(seen),
            Change::Image(seen) => self.images.apply_newer(seen),
            Change::Repository(seen) => self.repositories.apply_newer(seen),
            Change::Node(seen) => self.nodes.apply(seen),
            Change::Workload(kind, seen) => self.workloads.apply(kind, seen),
            Change::Tier(changes) => self.tier.apply(changes),
            Change::TierLost => {
                self.told = Told::default();
                self.grants.doubt();
            }
        }
    }
}

/// Objects of one kind, as their watch tells of them.
#[derive(Debug)]
pub(crate) struct Watched<K, V> {
    objects: BTreeMap<K, V>,
    /// A list under way, which replaces the objects when it is whole.
    listing: Option<BTreeMap<K, V>>,
    synced: bool,
}

/// One message of a watch.
#[derive(Debug)]
pub(crate) enum Seen<K, V> {
    /// A list of all objects begins.
    ListBegins,
    Listed(K, V),
    /// What was listed is all there is.
    ListEnds,
    Changed(K, V),
    Gone(K),
}

impl<K, V> Default for Watched<K, V> {
    fn default() -> Self {
        Self {
            objects: BTreeMap::new(),
            listing: None,
            synced: false,
        }
    }
}

impl<K: Ord, V> Watched<K, V> {
    pub(crate) fn apply(&mut self, seen: Seen<K, V>) {
        match seen {
            Seen::ListBegins => self.listing = Some(BTreeMap::new()),
            Seen::Listed(key, object) => {
                self.listing.get_or_insert_default().insert(key, object);
            }
            Seen::ListEnds => {
                self.objects = self.listing.take().unwrap_or_default();
                self.synced = true;
            }
            Seen::Changed(key, object) => {
                self.objects.insert(key, object);
            }
            Seen::Gone(key) => {
                self.objects.remove(&key);
            }
        }
    }

    /// Whether all objects are known. Before that, nothing may be concluded from one that is missing.
    pub(crate) fn is_synced(&self) -> bool {
        self.synced
    }

    pub(crate) fn get(&self, key: &K) -> Option<&V> {
        self.objects.get(key)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.objects.iter()
    }
}

impl<V: ResourceExt> Watched<String, V> {
    /// As [`Watched::apply`], but a change older than what is known does nothing: what we wrote comes back later through
    /// the watch, after what was there before.
    fn apply_newer(&mut self, seen: Seen<String, V>) {
        if let Seen::Changed(name, object) = &seen {
            let known = self.objects.get(name).filter(|known| known.uid() == object.uid());
            if known.is_some_and(|known| version(known) > version(object)) {
                return;
            }
        }
        self.apply(seen);
    }
}

/// Versions are numbers that grow, on every API server there is (and by contract since 1.35); one that is not is 0.
fn version(object: &impl ResourceExt) -> u64 {
    object
        .resource_version()
        .and_then(|version| version.parse().ok())
        .unwrap_or(0)
}

/// States of images, as the tier tells of them.
#[derive(Debug, Default)]
pub(crate) struct TierView {
    states: BTreeMap<Image, ImageState>,
    /// Images not yet told of again since the watch began from the beginning.
    doubtful: Option<BTreeMap<Image, ImageState>>,
    synced: bool,
}

impl TierView {
    fn apply(&mut self, changes: ImageChanges) {
        if changes.from_beginning && self.doubtful.is_none() {
            self.doubtful = Some(std::mem::take(&mut self.states));
        }
        for state in changes.changed {
            if let Ok(image) = Image::parse(&state.reference) {
                self.states.insert(image, state);
            }
        }
        for reference in &changes.removed {
            if let Ok(image) = Image::parse(reference) {
                self.states.remove(&image);
            }
        }
        if changes.synced {
            self.doubtful = None;
            self.synced = true;
        }
    }

    /// Whether the tier has told all it knows.
    pub(crate) fn is_synced(&self) -> bool {
        self.synced && self.doubtful.is_none()
    }

    pub(crate) fn get(&self, image: &Image) -> Option<&ImageState> {
        self.states.get(image).or_else(|| self.doubtful.as_ref()?.get(image))
    }
}

/// What the tier has been told and has confirmed.
#[derive(Debug, Default)]
pub(crate) struct Told {
    /// References, and whether each is retained; absent before a whole list was sent.
    pub(crate) desired: Option<BTreeMap<String, bool>>,
    pub(crate) platforms: Vec<String>,
    /// Private repositories by Kubernetes node; absent before a whole list was sent.
    pub(crate) places: Option<BTreeMap<String, BTreeSet<String>>>,
    /// Places it was told of before the whole list.
    pub(crate) early_places: BTreeMap<String, BTreeSet<String>>,
}

impl Told {
    /// The tier has confirmed this.
    pub(crate) fn heard(&mut self, request: ChangeDesiredRequest) {
        if request.replace {
            self.desired = Some(BTreeMap::new());
        }
        let desired = self.desired.get_or_insert_default();
        for reference in &request.drop {
            desired.remove(reference);
        }
        desired.extend(request.put.into_iter().map(|image| (image.reference, image.retain)));
        if request.replace || !request.platforms.is_empty() {
            self.platforms = request.platforms;
        }
    }

    /// Whether the tier has confirmed that a node runs pods of a repository.
    pub(crate) fn is_placed(&self, node: &str, repository: &str) -> bool {
        let places = self.places.as_ref().unwrap_or(&self.early_places);
        places.get(node).is_some_and(|placed| placed.contains(repository))
    }

    /// The tier has confirmed these places.
    pub(crate) fn heard_places(&mut self, request: PlaceRequest) {
        if request.replace {
            self.places = Some(BTreeMap::new());
            self.early_places.clear();
        }
        let places = self.places.as_mut().unwrap_or(&mut self.early_places);
        for placement in request.placements {
            if placement.repositories.is_empty() {
                places.remove(&placement.node);
            } else {
                places.insert(placement.node, placement.repositories.into_iter().collect());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watched() -> Watched<&'static str, u8> {
        let mut watched = Watched::default();
        watched.apply(Seen::ListBegins);
        watched.apply(Seen::Listed("a", 1));
        watched.apply(Seen::Listed("b", 1));
        watched
    }

    #[test]
    fn a_list_counts_when_it_is_whole() {
        let mut watched = watched();
        assert!(!watched.is_synced() && watched.iter().next().is_none());
        watched.apply(Seen::ListEnds);
        assert!(watched.is_synced() && watched.iter().count() == 2);
    }

    #[test]
    fn objects_that_went_while_nobody_watched_are_forgotten_by_the_next_list() {
        let mut watched = watched();
        watched.apply(Seen::ListEnds);
        watched.apply(Seen::ListBegins);
        watched.apply(Seen::Listed("a", 2));
        assert_eq!(watched.get(&"b"), Some(&1), "known until the list is whole");
        watched.apply(Seen::ListEnds);
        assert_eq!((watched.get(&"a"), watched.get(&"b")), (Some(&2), None));
    }

    fn changes(references: &[&str], from_beginning: bool, synced: bool) -> ImageChanges {
        let state = |reference: &&str| ImageState {
            reference: (*reference).to_owned(),
            ..ImageState::default()
        };
        ImageChanges {
            changed: references.iter().map(state).collect(),
            from_beginning,
            synced,
            ..ImageChanges::default()
        }
    }

    #[test]
    fn images_the_tier_no_longer_knows_are_forgotten_once_it_has_told_all() {
        let (a, b) = (Image::parse("a").unwrap(), Image::parse("b").unwrap());
        let mut view = TierView::default();
        view.apply(changes(
            &["docker.io/library/a:latest", "docker.io/library/b:latest"],
            true,
            true,
        ));
        assert!(view.is_synced() && view.get(&a).is_some());
        view.apply(changes(&["docker.io/library/a:latest"], true, false));
        assert!(!view.is_synced() && view.get(&b).is_some(), "in doubt, not gone");
        view.apply(changes(&[], true, true));
        assert!(view.is_synced() && view.get(&a).is_some() && view.get(&b).is_none());
    }
}
