//! Which Kubernetes node runs pods that were admitted to which private repositories.

use std::collections::{BTreeMap, BTreeSet};

use proto::v1::{PlaceRequest, Placement};

use super::{View, grants};
use crate::action::Action;
use crate::grant::GrantKey;

/// What the tier is told next, if it has to be told anything.
///
/// Only what a pod was rewritten for counts, and only where its namespace holds a grant: a reference to the proxy that
/// someone wrote by hand opens nothing.
pub(super) fn plan(view: &View<'_>) -> Option<Action> {
    if !view.state.pods.is_synced() {
        return None;
    }
    let wanted = wanted(view);
    match &view.state.told.places {
        // A whole list takes places away: not before it is known what there is.
        None if grants::all_settled(view) => Some(whole(wanted)),
        // Cache nodes of an earlier release set what they should add.
        None if !view.state.grants.are_told() => None,
        // Until then nothing is taken away, and no kubelet waits for what others are still asked about.
        None => changes(&view.state.told.early_places, wanted, true),
        Some(told) => {
            let gone = told
                .keys()
                .filter(|node| !wanted.contains_key(*node))
                .map(|node| (node.clone(), BTreeSet::new()));
            let mut wanted_or_gone: Nodes = gone.collect();
            wanted_or_gone.extend(wanted);
            changes(told, wanted_or_gone, false)
        }
    }
}

/// Private repositories by node.
pub(crate) type Nodes = BTreeMap<String, BTreeSet<String>>;

fn wanted(view: &View<'_>) -> Nodes {
    let mut nodes = Nodes::new();
    for (key, pod) in view
        .state
        .pods
        .iter()
        .filter(|(_, pod)| !pod.finished && !pod.node.is_empty())
    {
        let rewritten = pod.images.iter().filter(|image| image.rewritten);
        for image in rewritten.filter_map(|image| image.image.as_ref()) {
            let grant = GrantKey::new(&key.namespace, image.repository());
            if view.state.grants.is_granted(&grant) {
                nodes.entry(pod.node.clone()).or_default().insert(grant.repository);
            }
        }
    }
    nodes
}

fn whole(wanted: Nodes) -> Action {
    Action::Place(PlaceRequest {
        placements: wanted.into_iter().map(placement).collect(),
        replace: true,
        add: false,
    })
}

/// Nodes of which the tier was told something else. With `add` it keeps what they have beside.
fn changes(told: &Nodes, wanted: Nodes, add: bool) -> Option<Action> {
    let changed = wanted
        .into_iter()
        .filter(|(node, repositories)| told.get(node) != Some(repositories));
    let placements: Vec<Placement> = changed.map(placement).collect();
    (!placements.is_empty()).then_some(Action::Place(PlaceRequest {
        placements,
        replace: false,
        add,
    }))
}

fn placement((node, repositories): (String, BTreeSet<String>)) -> Placement {
    Placement {
        node,
        repositories: repositories.into_iter().collect(),
    }
}
