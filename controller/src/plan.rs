//! From what is known to what is to be done. Pure: no IO, no clock.
//!
//! A plan is made anew from everything that is known, never from what changed, so nothing is ever missed. What is missing
//! counts only once the watch that would have shown it is complete.

mod condition;
mod desired;
mod expiry;
mod grants;
mod image_status;
mod objects;
mod places;
mod repository_status;
mod restoring;
mod updates;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use kube::ResourceExt;

use crate::action::Action;
use crate::config::Architectures;
use crate::crd::CachedImage;
use crate::grant::GrantKey;
use crate::image::Image;
use crate::state::State;
use crate::usage::{Use, usage};

pub(crate) use desired::parts;

/// What plans depend on beside the state.
#[derive(Debug, Clone)]
pub(crate) struct Policy {
    pub(crate) expiry_delay: Duration,
    pub(crate) ignored_namespaces: BTreeSet<String>,
    pub(crate) architectures: Architectures,
    /// Whether pods that cannot pull get their original images back.
    pub(crate) restore: bool,
}

/// What is to be done.
pub(crate) struct Plan {
    /// The most urgent first.
    pub(crate) actions: Vec<Action>,
    /// Grants that pods use.
    pub(crate) used_grants: BTreeSet<GrantKey>,
}

/// Plans all that is to be done.
pub(crate) fn plan(state: &State, policy: &Policy, now: Timestamp) -> Plan {
    let objects = ObjectsByImage::new(state);
    let view = View {
        state,
        policy,
        usage: usage(state.pods.iter(), state.workloads.iter(), &policy.ignored_namespaces),
        demands: grants::demands(state, policy, &objects),
        objects,
        now,
    };
    // A kubelet waits for the first of these.
    let mut actions: Vec<Action> = places::plan(&view).into_iter().collect();
    actions.extend(restoring::plan(&view));
    actions.extend(desired::plan(&view));
    actions.extend(grants::plan(&view));
    actions.extend(objects::plan(&view));
    actions.extend(image_status::plan(&view));
    actions.extend(repository_status::plan(&view));
    actions.extend(updates::plan(&view));
    Plan {
        actions,
        used_grants: view.demands.into_keys().collect(),
    }
}

/// The state, and what every part of a plan derives from it.
struct View<'a> {
    state: &'a State,
    policy: &'a Policy,
    usage: BTreeMap<Image, Use>,
    demands: grants::Demands,
    objects: ObjectsByImage<'a>,
    now: Timestamp,
}

/// CachedImages by the image they name. People may make several for one image.
struct ObjectsByImage<'a> {
    by_image: BTreeMap<Image, Vec<&'a CachedImage>>,
    unreadable: Vec<&'a CachedImage>,
}

impl<'a> ObjectsByImage<'a> {
    fn new(state: &'a State) -> Self {
        let mut by_image: BTreeMap<Image, Vec<&'a CachedImage>> = BTreeMap::new();
        let mut unreadable = Vec::new();
        for (_, object) in state.images.iter() {
            match image_of(object) {
                Some(image) => by_image.entry(image).or_default().push(object),
                None => unreadable.push(object),
            }
        }
        Self { by_image, unreadable }
    }

    fn iter(&self) -> impl Iterator<Item = (&Image, &'a CachedImage)> {
        self.by_image
            .iter()
            .flat_map(|(image, objects)| objects.iter().map(move |object| (image, *object)))
    }
}

/// The image a CachedImage is about; v1's users also wrote it as rewritten.
fn image_of(object: &CachedImage) -> Option<Image> {
    let written = object.spec.source_image.as_str();
    Image::parse(oci::rewritten::strip(written).unwrap_or(written)).ok()
}

fn is_deleting(object: &impl ResourceExt) -> bool {
    object.meta().deletion_timestamp.is_some()
}

#[cfg(test)]
mod tests;
