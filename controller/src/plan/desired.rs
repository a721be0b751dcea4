//! Which images the tier is to keep, and for which platforms.

use std::collections::{BTreeMap, BTreeSet};

use proto::v1::{ChangeDesiredRequest, DesiredImage};

use super::{View, is_deleting};
use crate::action::Action;
use crate::config::Architectures;

/// Images in one message: a reference is at most a few hundred bytes.
const IMAGES_PER_MESSAGE_MAX: usize = 1000;

/// The next message to the tier, if it has to be told anything.
pub(super) fn plan(view: &View<'_>) -> Option<Action> {
    let known = view.state.images.is_synced() && view.state.pods.is_synced() && view.state.nodes.is_synced();
    if !known {
        return None;
    }
    let wanted = wanted(view);
    let platforms = platforms(view);
    let told = &view.state.told;
    let request = match &told.desired {
        None => whole(&wanted, platforms),
        Some(before) => changed(before, &wanted, (told.platforms != platforms).then_some(platforms))?,
    };
    Some(Action::Desire(request))
}

fn wanted(view: &View<'_>) -> BTreeMap<String, bool> {
    let mut wanted: BTreeMap<String, bool> = BTreeMap::new();
    for (image, object) in view.objects.iter().filter(|(_, object)| !is_deleting(*object)) {
        *wanted.entry(image.to_string()).or_default() |= object.spec.retain == Some(true);
    }
    // A pod's image is on its way before there is an object for it.
    for image in view.usage.keys() {
        wanted.entry(image.to_string()).or_default();
    }
    wanted
}

fn platforms(view: &View<'_>) -> Vec<String> {
    match &view.policy.architectures {
        Architectures::Auto => {
            let all: BTreeSet<&String> = view.state.nodes.iter().map(|(_, platform)| platform).collect();
            all.into_iter().cloned().collect()
        }
        Architectures::Listed(listed) => {
            let full = |name: &String| {
                if name.contains('/') {
                    name.clone()
                } else {
                    format!("linux/{name}")
                }
            };
            listed.iter().map(full).collect()
        }
    }
}

/// A list that fits into one message replaces what the tier has; a longer one is sent by the shell in parts.
fn whole(wanted: &BTreeMap<String, bool>, platforms: Vec<String>) -> ChangeDesiredRequest {
    ChangeDesiredRequest {
        put: wanted.iter().map(desired).collect(),
        drop: Vec::new(),
        replace: true,
        last: true,
        platforms,
    }
}

fn changed(
    before: &BTreeMap<String, bool>,
    wanted: &BTreeMap<String, bool>,
    platforms: Option<Vec<String>>,
) -> Option<ChangeDesiredRequest> {
    let new = wanted
        .iter()
        .filter(|(reference, retain)| before.get(*reference) != Some(*retain));
    let gone = before.keys().filter(|reference| !wanted.contains_key(*reference));
    let request = ChangeDesiredRequest {
        put: new.map(desired).take(IMAGES_PER_MESSAGE_MAX).collect(),
        drop: gone.take(IMAGES_PER_MESSAGE_MAX).cloned().collect(),
        replace: false,
        last: false,
        platforms: platforms.unwrap_or_default(),
    };
    let says_something = !request.put.is_empty() || !request.drop.is_empty() || !request.platforms.is_empty();
    says_something.then_some(request)
}

fn desired((reference, retain): (&String, &bool)) -> DesiredImage {
    DesiredImage {
        reference: reference.clone(),
        retain: *retain,
    }
}

/// A whole list in parts that fit into messages.
pub(crate) fn parts(request: ChangeDesiredRequest) -> Vec<ChangeDesiredRequest> {
    if request.put.len() <= IMAGES_PER_MESSAGE_MAX {
        return vec![request];
    }
    let chunks: Vec<Vec<DesiredImage>> = request.put.chunks(IMAGES_PER_MESSAGE_MAX).map(<[_]>::to_vec).collect();
    let n_chunks = chunks.len();
    let part = |(index, put): (usize, Vec<DesiredImage>)| ChangeDesiredRequest {
        put,
        drop: Vec::new(),
        replace: request.replace && index == 0,
        last: request.last && index + 1 == n_chunks,
        platforms: request.platforms.clone(),
    };
    chunks.into_iter().enumerate().map(part).collect()
}
