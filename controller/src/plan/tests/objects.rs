use proto::v1::ChangeDesiredRequest;

use super::*;

fn desired(cluster: &Cluster) -> Option<ChangeDesiredRequest> {
    cluster.plan().into_iter().find_map(|action| match action {
        Action::Desire(request) => Some(request),
        _ => None,
    })
}

fn references(request: &ChangeDesiredRequest) -> Vec<(&str, bool)> {
    request
        .put
        .iter()
        .map(|image| (image.reference.as_str(), image.retain))
        .collect()
}

#[test]
fn a_pods_image_gets_a_repository_then_an_object() {
    let cluster = Cluster::new().pod("p", "nginx:1.25");
    let repository = Action::CreateRepository {
        name: "docker.io-library-nginx".to_owned(),
        repository: "docker.io/library/nginx".to_owned(),
    };
    assert!(cluster.plan().contains(&repository));
    assert!(cluster.created().is_empty());
    let cluster = cluster.repository("docker.io-library-nginx", "docker.io/library/nginx");
    let expected = ("docker.io-library-nginx-1.25".to_owned(), "nginx:1.25".to_owned());
    assert_eq!(cluster.created(), [expected]);
}

#[test]
fn nothing_is_made_before_it_is_known_what_there_is() {
    let mut cluster = Cluster::new()
        .pod("p", "nginx")
        .repository("r", "docker.io/library/nginx");
    cluster.0.images = crate::state::Watched::default();
    assert!(cluster.created().is_empty() && desired(&cluster).is_none());
}

#[test]
fn an_object_that_exists_is_adopted_whatever_its_name() {
    let cluster = Cluster::new()
        .pod("p", "docker.io/library/nginx")
        .repository("r", "docker.io/library/nginx")
        .image("made-by-hand", "nginx");
    assert!(cluster.created().is_empty());
    let adopted = cluster.plan().into_iter().any(
        |action| matches!(action, Action::AdoptImage { name, owner } if name == "made-by-hand" && owner.uid == "uid-r"),
    );
    assert!(adopted);
}

// Defect 15 of v1: one object for two images, which overwrote each other.
#[test]
fn two_images_never_share_an_object() {
    let cluster = Cluster::new()
        .pod("p", "h.io/a/b-c:1")
        .pod("q", "h.io/a-b/c:1")
        .repository("one", "h.io/a/b-c")
        .repository("two", "h.io/a-b/c");
    let created = cluster.created();
    assert_eq!(created.len(), 2);
    assert_ne!(created[0].0, created[1].0);
    let after = cluster.image("h.io-a-b-c-1", "h.io/a/b-c:1").created();
    assert_eq!(after.len(), 1);
    assert!(after[0].1 == "h.io/a-b/c:1" && after[0].0 != "h.io-a-b-c-1");
}

#[test]
fn finalizers_of_v1_are_taken_off_and_others_stay() {
    let cluster = Cluster::new().image_with("i", "nginx", |object| {
        object.metadata.finalizers = Some(vec![FINALIZER_CACHED_IMAGE_V1.to_owned(), "other".to_owned()]);
        object.metadata.resource_version = Some("7".to_owned());
    });
    let expected = Action::RemoveFinalizers {
        object: ObjectKind::CachedImage,
        name: "i".to_owned(),
        version: "7".to_owned(),
        kept: vec!["other".to_owned()],
    };
    assert!(cluster.plan().contains(&expected));
}

#[test]
fn v1s_annotation_asks_for_a_check_at_the_source() {
    let annotated = |value: &str| {
        let value = value.to_owned();
        Cluster::new().image_with("i", "nginx", move |object| {
            object.metadata.annotations = Some([(ANNOTATION_FORCE_UPDATE.to_owned(), value)].into());
        })
    };
    let forced = |cluster: Cluster| {
        cluster
            .plan()
            .into_iter()
            .any(|action| matches!(action, Action::ForceUpdate { image, .. } if image == NGINX))
    };
    assert!(forced(annotated("true")) && !forced(annotated("false")));
}

#[test]
fn the_tier_is_told_of_pods_and_of_objects_made_by_hand() {
    let cluster = Cluster::new()
        .pod("p", "nginx")
        .image_with("kept", "quay.io/a/b:1", |object| {
            object.spec.retain = Some(true);
        });
    let request = desired(&cluster).unwrap();
    assert_eq!(references(&request), [(NGINX, false), ("quay.io/a/b:1", true)]);
    assert!(request.replace && request.last);
    assert_eq!(request.platforms, ["linux/amd64"]);
}

#[test]
fn the_tier_is_told_once_and_then_what_changed() {
    let mut cluster = Cluster::new().pod("p", "nginx").image("gone", "a:1");
    cluster.0.told.heard(desired(&cluster).unwrap());
    assert_eq!(desired(&cluster), None);
    cluster.0.apply(Change::Image(Seen::Gone("gone".to_owned())));
    let mut cluster = cluster.pod("q", "b:2");
    let request = desired(&cluster).unwrap();
    assert_eq!(references(&request), [("docker.io/library/b:2", false)]);
    assert_eq!(request.drop, ["docker.io/library/a:1"]);
    assert!(!request.replace && request.platforms.is_empty());
    cluster.0.told.heard(request);
    cluster
        .0
        .apply(Change::Node(Seen::Changed("arm".to_owned(), "linux/arm64".to_owned())));
    assert_eq!(desired(&cluster).unwrap().platforms, ["linux/amd64", "linux/arm64"]);
    cluster.0.apply(Change::TierLost);
    assert!(desired(&cluster).unwrap().replace, "another node may know less");
}

#[test]
fn a_long_list_is_sent_in_parts() {
    let put = (0..2500).map(|n| proto::v1::DesiredImage {
        reference: format!("h.io/{n}:1"),
        retain: false,
    });
    let request = ChangeDesiredRequest {
        put: put.collect(),
        replace: true,
        last: true,
        ..ChangeDesiredRequest::default()
    };
    let parts = parts(request);
    let flags: Vec<_> = parts
        .iter()
        .map(|part| (part.put.len(), part.replace, part.last))
        .collect();
    assert_eq!(flags, [(1000, true, false), (1000, false, false), (500, false, true)]);
}
