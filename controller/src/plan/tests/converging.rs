//! Plans that are carried out come to an end, and what is there then is right.

use kube::Resource;
use proptest::prelude::*;

use super::*;
use crate::crd::{FINALIZER_REPOSITORY_V1, LABEL_REPOSITORY};
use crate::grant::GrantResult;
use crate::name::label_value;

/// More than the longest way: finalizer, repository, object, label, status, status of the repository.
const ROUNDS_MAX: usize = 10;

/// Carries out an action as the API server and the tier would.
fn carry_out(state: &mut State, action: Action, n_made: &mut u32) {
    match action {
        Action::CreateRepository { name, repository } => {
            assert!(state.repositories.get(&name).is_none(), "{name} is taken");
            *n_made += 1;
            let mut object = Repository::new(
                &name,
                RepositorySpec {
                    name: repository,
                    ..RepositorySpec::default()
                },
            );
            object.metadata.uid = Some(format!("repository-{n_made}"));
            state.apply(Change::Repository(Seen::Changed(name, object)));
        }
        Action::CreateImage {
            name,
            source_image,
            owner,
        } => {
            assert!(state.images.get(&name).is_none(), "{name} is taken");
            *n_made += 1;
            let mut object = CachedImage::new(
                &name,
                CachedImageSpec {
                    source_image,
                    ..CachedImageSpec::default()
                },
            );
            object.metadata.uid = Some(format!("image-{n_made}"));
            own(&mut object, &owner);
            state.apply(Change::Image(Seen::Changed(name, object)));
        }
        Action::AdoptImage { name, owner } => change_image(state, &name, |object| own(object, &owner)),
        Action::RemoveFinalizers {
            object: ObjectKind::CachedImage,
            name,
            kept,
            ..
        } => {
            change_image(state, &name, |object| object.metadata.finalizers = Some(kept));
        }
        Action::RemoveFinalizers {
            object: ObjectKind::Repository,
            name,
            kept,
            ..
        } => {
            change_repository(state, &name, |object| object.metadata.finalizers = Some(kept));
        }
        // Through JSON, as a time with a fraction of a second would be another one when it is read back.
        Action::ImageStatus { name, status, .. } => {
            let read = serde_json::from_value(serde_json::to_value(&status).unwrap()).unwrap();
            change_image(state, &name, |object| object.status = Some(read));
        }
        Action::RepositoryStatus { name, status } => {
            let read = serde_json::from_value(serde_json::to_value(&status).unwrap()).unwrap();
            change_repository(state, &name, |object| object.status = Some(read));
        }
        Action::DeleteImage { name, .. } => state.apply(Change::Image(Seen::Gone(name))),
        Action::ForceUpdate { name, .. } => change_image(state, &name, |object| object.metadata.annotations = None),
        Action::Desire(request) => state.told.heard(request),
        Action::Place(request) => state.told.heard_places(request),
        Action::Grant { key, secrets, .. } => {
            state
                .grants
                .heard(key, GrantResult::NoSecret, secrets.into_iter().collect(), now());
        }
        other => panic!("nobody asked for {other:?}"),
    }
}

fn own(object: &mut CachedImage, owner: &crate::action::Owner) {
    object
        .labels_mut()
        .insert(LABEL_REPOSITORY.to_owned(), label_value(&owner.name));
    let reference = serde_json::json!({"apiVersion": "kuik.enix.io/v1alpha1", "kind": "Repository", "name": owner.name, "uid": owner.uid});
    object
        .owner_references_mut()
        .push(serde_json::from_value(reference).unwrap());
}

fn change_image(state: &mut State, name: &str, change: impl FnOnce(&mut CachedImage)) {
    let mut object = state.images.get(&name.to_owned()).unwrap().clone();
    let before = object.spec.clone();
    change(&mut object);
    assert_eq!(object.spec, before);
    state.apply(Change::Image(Seen::Changed(name.to_owned(), object)));
}

fn change_repository(state: &mut State, name: &str, change: impl FnOnce(&mut Repository)) {
    let mut object = state.repositories.get(&name.to_owned()).unwrap().clone();
    change(&mut object);
    state.apply(Change::Repository(Seen::Changed(name.to_owned(), object)));
}

/// Few names, so that v1's would collide.
fn image() -> impl Strategy<Value = String> {
    "(h\\.io/)?[ab][/-][ab]([/_-][ab])?(:(1|V-1|v-1|v_1|1-))?"
}

fn cluster(pods: &[String], objects: &[(String, u8)], phase: i32) -> Cluster {
    let mut cluster = Cluster::new();
    for (n, image) in pods.iter().enumerate() {
        cluster = cluster.pod(&format!("p{n}"), image);
    }
    for (n, (image, kind)) in objects.iter().enumerate() {
        cluster = cluster.image_with(&format!("o{n}"), image, |object| {
            object.meta_mut().uid = Some(format!("object-{n}"));
            match kind % 4 {
                0 => object.metadata.finalizers = Some(vec![FINALIZER_CACHED_IMAGE_V1.to_owned()]),
                1 => object.spec.retain = Some(true),
                2 => unused_for(99)(object),
                _ => {
                    object.metadata.annotations = Some([(ANNOTATION_FORCE_UPDATE.to_owned(), "true".to_owned())].into())
                }
            }
        });
    }
    let all: BTreeSet<Image> = pods.iter().filter_map(|image| Image::parse(image).ok()).collect();
    for image in all {
        let phase = ImagePhase::try_from(phase).unwrap();
        cluster = cluster.tier(ImageState {
            reference: image.to_string(),
            ..tier_state(phase)
        });
    }
    cluster
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn plans_come_to_an_end_with_one_object_for_every_image(
        pods in proptest::collection::vec(image(), 0..8),
        objects in proptest::collection::vec((image(), any::<u8>()), 0..5),
        phase in 0..7,
    ) {
        let mut cluster = cluster(&pods, &objects, phase);
        let finalized = Repository::new("of-v1", RepositorySpec { name: "h.io/a/b".to_owned(), ..RepositorySpec::default() });
        cluster.0.apply(Change::Repository(Seen::Changed("of-v1".to_owned(), finalized)));
        change_repository(&mut cluster.0, "of-v1", |object| {
            object.metadata.uid = Some("uid-of-v1".to_owned());
            object.metadata.finalizers = Some(vec![FINALIZER_REPOSITORY_V1.to_owned()]);
        });
        let mut n_made = 0;
        let mut rounds = 0;
        loop {
            let actions = cluster.plan();
            if actions.is_empty() {
                break;
            }
            rounds += 1;
            prop_assert!(rounds <= ROUNDS_MAX, "never ends: {actions:?}");
            for action in actions {
                let gone = matches!(&action, Action::ImageStatus { name, .. } | Action::AdoptImage { name, .. }
                    if cluster.0.images.get(name).is_none());
                if !gone {
                    carry_out(&mut cluster.0, action, &mut n_made);
                }
            }
        }
        let used: BTreeSet<Image> = pods.iter().filter_map(|image| Image::parse(image).ok()).collect();
        let by_image = ObjectsByImage::new(&cluster.0).by_image;
        for image in &used {
            let objects = by_image.get(image).map(Vec::len).unwrap_or_default();
            prop_assert!(objects >= 1, "{image} has no object");
            let made = by_image[image].iter().filter(|object| object.metadata.uid.as_deref().unwrap().starts_with("image-"));
            prop_assert!(made.count() <= 1, "{image} has several");
        }
        let told: BTreeSet<String> = cluster.0.told.desired.clone().unwrap().into_keys().collect();
        let kept: BTreeSet<String> = by_image.keys().map(ToString::to_string).collect();
        prop_assert_eq!(told, kept, "the tier keeps what there are objects for");
    }
}
