//! Objects: made for every image that a pod uses, adopted from others, deleted when they expired.

use std::collections::{BTreeMap, BTreeSet};

use kube::{Resource, ResourceExt};

use super::expiry::Expiry;
use super::{View, image_of, is_deleting};
use crate::action::{Action, Notice, ObjectKind, Owner};
use crate::crd::{
    ANNOTATION_FORCE_UPDATE, CachedImage, FINALIZER_CACHED_IMAGE_V1, FINALIZER_REPOSITORY_V1, LABEL_REPOSITORY,
    Repository,
};
use crate::image::Image;
use crate::name::{label_value, object_name};

pub(super) fn plan(view: &View<'_>) -> Vec<Action> {
    let mut actions = finalizers(view);
    if !view.state.images.is_synced() || !view.state.repositories.is_synced() {
        return actions;
    }
    let owners = owners(view);
    actions.extend(missing_repositories(view, &owners));
    actions.extend(missing_images(view, &owners));
    for (image, object) in view.objects.iter().filter(|(_, object)| !is_deleting(*object)) {
        actions.extend(owned(image, object, &owners));
        actions.extend(forced(image, object));
        actions.extend(expired(view, image, object));
    }
    actions
}

/// v1's finalizers would keep objects from going once v1 itself is gone.
fn finalizers(view: &View<'_>) -> Vec<Action> {
    let images = view
        .state
        .images
        .iter()
        .filter_map(|(name, object)| without(object, FINALIZER_CACHED_IMAGE_V1, ObjectKind::CachedImage, name));
    let repositories = view
        .state
        .repositories
        .iter()
        .filter_map(|(name, object)| without(object, FINALIZER_REPOSITORY_V1, ObjectKind::Repository, name));
    images.chain(repositories).collect()
}

fn without(object: &impl ResourceExt, finalizer: &str, kind: ObjectKind, name: &str) -> Option<Action> {
    let finalizers = object.finalizers();
    finalizers
        .iter()
        .any(|one| one == finalizer)
        .then(|| Action::RemoveFinalizers {
            object: kind,
            name: name.to_owned(),
            version: object.resource_version().unwrap_or_default(),
            kept: finalizers.iter().filter(|one| *one != finalizer).cloned().collect(),
        })
}

/// Repository objects by `host/name`.
fn owners<'a>(view: &View<'a>) -> BTreeMap<&'a str, Owner> {
    let living = view
        .state
        .repositories
        .iter()
        .filter(|(_, object)| !is_deleting(*object));
    let named = living.map(|(name, object): (&String, &Repository)| {
        let uid = object.uid().unwrap_or_default();
        (
            object.spec.name.as_str(),
            Owner {
                name: name.clone(),
                uid,
            },
        )
    });
    named.collect()
}

fn missing_repositories(view: &View<'_>, owners: &BTreeMap<&str, Owner>) -> Vec<Action> {
    let used = view.usage.keys().chain(view.objects.by_image.keys());
    let wanted: BTreeSet<String> = used.map(|image| image.repository().to_string()).collect();
    let mut taken = BTreeSet::new();
    let mut actions = Vec::new();
    for repository in wanted
        .into_iter()
        .filter(|repository| !owners.contains_key(repository.as_str()))
    {
        let name = object_name(&repository, |name| {
            taken.contains(name) || view.state.repositories.get(&name.to_owned()).is_some()
        });
        taken.insert(name.clone());
        actions.push(Action::CreateRepository { name, repository });
    }
    actions
}

fn missing_images(view: &View<'_>, owners: &BTreeMap<&str, Owner>) -> Vec<Action> {
    let mut taken = BTreeSet::new();
    let mut actions = Vec::new();
    for (image, used) in &view.usage {
        if view.objects.by_image.contains_key(image) {
            continue;
        }
        let Some(owner) = owners.get(image.repository().to_string().as_str()) else {
            continue;
        };
        let name = object_name(&image.to_string(), |name| {
            taken.contains(name) || view.state.images.get(&name.to_owned()).is_some()
        });
        taken.insert(name.clone());
        actions.push(Action::CreateImage {
            name,
            source_image: used.source_image.clone(),
            owner: owner.clone(),
        });
    }
    actions
}

fn owned(image: &Image, object: &CachedImage, owners: &BTreeMap<&str, Owner>) -> Option<Action> {
    let owner = owners.get(image.repository().to_string().as_str())?;
    let labelled = object.labels().get(LABEL_REPOSITORY) == Some(&label_value(&owner.name));
    let owned = object
        .owner_references()
        .iter()
        .any(|reference| reference.uid == owner.uid);
    (!labelled || !owned).then(|| Action::AdoptImage {
        name: object.name_any(),
        owner: owner.clone(),
    })
}

fn forced(image: &Image, object: &CachedImage) -> Option<Action> {
    let asked = object.annotations().get(ANNOTATION_FORCE_UPDATE)?;
    (asked == "true").then(|| Action::ForceUpdate {
        name: object.name_any(),
        image: image.to_string(),
    })
}

fn expired(view: &View<'_>, image: &Image, object: &CachedImage) -> Option<Action> {
    debug_assert_eq!(image_of(object).as_ref(), Some(image));
    let Expiry { at: Some(at), .. } = Expiry::of(view, image, object)? else {
        return None;
    };
    (at <= view.now).then(|| Action::DeleteImage {
        name: object.name_any(),
        uid: object.meta().uid.clone().unwrap_or_default(),
        version: object.resource_version().unwrap_or_default(),
        notice: Notice::normal(
            "Expired",
            format!("nothing has used {image} and it was kept until {at}"),
        ),
    })
}
