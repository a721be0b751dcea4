//! The status of a Repository: how many images it has and how they fare.

use std::collections::BTreeMap;

use kube::Resource;

use super::condition::{Finding, condition};
use super::{View, is_deleting};
use crate::action::Action;
use crate::crd::{CachedImage, Repository, RepositoryStatus};

pub(super) fn plan(view: &View<'_>) -> Vec<Action> {
    if !view.state.images.is_synced() {
        return Vec::new();
    }
    let mut images: BTreeMap<String, Vec<&CachedImage>> = BTreeMap::new();
    for (image, object) in view.objects.iter() {
        images.entry(image.repository().to_string()).or_default().push(object);
    }
    let all = view.state.repositories.iter();
    let changed = all.filter_map(|(name, object)| {
        let of_it = images.get(&object.spec.name).map(Vec::as_slice).unwrap_or_default();
        let after = status(view, object, of_it);
        (object.status.as_ref() != Some(&after)).then(|| Action::RepositoryStatus {
            name: name.clone(),
            status: Box::new(after),
        })
    });
    changed.collect()
}

fn status(view: &View<'_>, object: &Repository, images: &[&CachedImage]) -> RepositoryStatus {
    let before = object.status.clone().unwrap_or_default();
    let in_phase = |phase: &str| {
        let matching = images.iter().filter(|image| {
            let status = image.status.as_ref();
            status.and_then(|status| status.phase.as_deref()) == Some(phase)
        });
        matching.count()
    };
    let (failed, ready) = (in_phase("ErrImagePull"), in_phase("Ready"));
    let (reason, message) = if is_deleting(object) {
        ("Terminating", "being deleted".to_owned())
    } else if failed > 0 {
        (
            "ErrImagePull",
            format!("{failed} of {} images cannot be pulled", images.len()),
        )
    } else if ready < images.len() {
        ("Pulling", format!("{ready} of {} images are ready", images.len()))
    } else {
        ("UpToDate", format!("{ready} images are ready"))
    };
    let finding = Finding {
        kind: "Ready",
        holds: Some(reason == "UpToDate"),
        reason,
        message,
    };
    let phase = if reason == "UpToDate" { "Ready" } else { reason };
    RepositoryStatus {
        images: Some(i64::try_from(images.len()).unwrap_or(i64::MAX)),
        phase: Some(phase.to_owned()),
        last_update: before.last_update,
        conditions: vec![condition(
            finding,
            &before.conditions,
            object.meta().generation,
            view.now,
        )],
    }
}
