use proptest::prelude::*;
use proto::pod::Place;

use super::*;
use crate::action::{Restoration, RestoredImage, SecretName};
use crate::grant::{GrantKey, GrantResult};
use crate::pod::Waiting;

/// A pod on `node` with one rewritten container.
fn waiting(cluster: Cluster, node: &str, waiting: Waiting) -> Cluster {
    let mut image = PodImage::new(Place::Container, "app", "nginx".to_owned(), true);
    image.waiting = waiting;
    let facts = PodFacts {
        node: node.to_owned(),
        images: vec![image],
        ..PodFacts::default()
    };
    with_pod(cluster, "p", facts)
}

fn proxy(cluster: Cluster, node: &str, ready: bool) -> Cluster {
    let facts = PodFacts {
        node: node.to_owned(),
        ready,
        is_proxy: true,
        ..PodFacts::default()
    };
    with_pod(cluster, &format!("proxy-{node}"), facts)
}

fn with_pod(mut cluster: Cluster, name: &str, facts: PodFacts) -> Cluster {
    let key = PodKey {
        namespace: "n".to_owned(),
        name: name.to_owned(),
    };
    cluster.0.apply(Change::Pod(Seen::Changed(key, facts)));
    cluster
}

/// What is restored `seconds` after the cluster was first looked at.
fn restored_after(cluster: &mut Cluster, seconds: i64) -> Vec<Restoration> {
    cluster.0.proxies.observe(cluster.0.pods.iter(), now());
    let later = now() + seconds.seconds();
    cluster.0.proxies.observe(cluster.0.pods.iter(), later);
    let restored = plan(&cluster.0, &policy(), later)
        .actions
        .into_iter()
        .filter_map(|action| match action {
            Action::Restore(restoration) => Some(restoration),
            _ => None,
        });
    restored.collect()
}

#[test]
fn a_pod_that_cannot_pull_without_a_proxy_gets_its_image_back() {
    let mut cluster = waiting(Cluster::new(), "a", Waiting::PullFailed);
    assert!(
        restored_after(&mut cluster, 9).is_empty(),
        "a proxy that is being replaced is waited for"
    );
    let restored = restored_after(&mut cluster, 10);
    let expected = RestoredImage {
        place: Place::Container,
        container: "app".to_owned(),
        image: "nginx".to_owned(),
    };
    assert_eq!(restored[0].images, [expected]);
    assert!(restored[0].reason.contains("node a"));
}

#[test]
fn only_the_proxy_of_its_own_node_counts() {
    let elsewhere = proxy(waiting(Cluster::new(), "a", Waiting::PullFailed), "b", true);
    let not_ready = proxy(waiting(Cluster::new(), "a", Waiting::PullFailed), "a", false);
    let ready = proxy(waiting(Cluster::new(), "a", Waiting::PullFailed), "a", true);
    for (mut cluster, expected) in [(elsewhere, 1), (not_ready, 1), (ready, 0)] {
        assert_eq!(restored_after(&mut cluster, 10).len(), expected);
    }
}

#[test]
fn a_container_that_is_only_being_made_gets_more_time() {
    let mut cluster = waiting(Cluster::new(), "a", Waiting::Creating);
    assert!(restored_after(&mut cluster, 59).is_empty());
    assert_eq!(restored_after(&mut cluster, 60).len(), 1);
}

#[test]
fn containers_that_do_not_wait_are_never_touched() {
    let mut broken = PodImage::new(Place::InitContainer, "init", "busybox".to_owned(), true);
    broken.waiting = Waiting::PullFailed;
    let running = PodImage::new(Place::Container, "app", "nginx".to_owned(), true);
    let mut own = PodImage::new(Place::Container, "own", "redis".to_owned(), false);
    own.waiting = Waiting::PullFailed;
    let mut volume = PodImage::new(Place::Volume, "model", "m".to_owned(), true);
    volume.waiting = Waiting::PullFailed;
    let facts = PodFacts {
        node: "a".to_owned(),
        images: vec![broken, running, own, volume],
        ..PodFacts::default()
    };
    let restored = restored_after(&mut with_pod(Cluster::new(), "p", facts), 10);
    let containers: Vec<&str> = restored[0]
        .images
        .iter()
        .map(|image| image.container.as_str())
        .collect();
    assert_eq!(containers, ["init"]);
}

#[test]
fn a_private_image_without_a_grant_is_pulled_directly() {
    let private = ImageState {
        private: true,
        ..tier_state(ImagePhase::Ready)
    };
    let cluster = proxy(waiting(Cluster::new(), "a", Waiting::PullFailed), "a", true);
    let mut cluster = cluster.tier(private);
    assert!(
        restored_after(&mut cluster, 60).is_empty(),
        "not before it was asked for a grant"
    );
    let key = GrantKey {
        namespace: "n".to_owned(),
        repository: "docker.io/library/nginx".to_owned(),
    };
    for (result, expected) in [
        (GrantResult::Granted, 0),
        (GrantResult::Unreachable, 0),
        (GrantResult::NoSecret, 1),
        (GrantResult::Refused, 1),
    ] {
        cluster.0.grants.forget(&key);
        cluster
            .0
            .grants
            .heard(key.clone(), result, BTreeSet::<SecretName>::new(), now());
        assert_eq!(restored_after(&mut cluster, 60).len(), expected, "{result:?}");
    }
}

#[test]
fn a_granted_image_that_cannot_be_placed_is_pulled_directly() {
    let cluster = proxy(waiting(Cluster::new(), "a", Waiting::PullFailed), "a", true);
    let mut cluster = waiting(cluster, "a", Waiting::PullFailed);
    let key = GrantKey {
        namespace: "n".to_owned(),
        repository: "docker.io/library/nginx".to_owned(),
    };
    let none = BTreeSet::<SecretName>::new;
    cluster.0.grants.heard(key.clone(), GrantResult::Granted, none(), now());
    assert!(restored_after(&mut cluster, 60).is_empty(), "no plan was made yet");
    cluster.0.placing.plan(true, now());
    cluster.0.placing.settle(false);
    cluster.0.placing.plan(true, now() + 5.seconds());
    assert!(restored_after(&mut cluster, 9).is_empty());
    let restored = restored_after(&mut cluster, 10);
    assert!(restored[0].reason.contains("cannot be told"), "{}", restored[0].reason);
    let placed = cluster.plan().into_iter().find_map(|action| match action {
        Action::Place(request) => Some(request),
        _ => None,
    });
    cluster.0.told.heard_places(placed.unwrap());
    assert!(
        restored_after(&mut cluster, 10).is_empty(),
        "the kubelet will be served"
    );
}

#[test]
fn it_can_be_switched_off() {
    let mut cluster = waiting(Cluster::new(), "a", Waiting::PullFailed);
    restored_after(&mut cluster, 0);
    let off = Policy {
        restore: false,
        ..policy()
    };
    let actions = plan(&cluster.0, &off, now() + 1.hour()).actions;
    assert!(!actions.iter().any(|action| matches!(action, Action::Restore(_))));
}

#[test]
fn many_pods_are_restored_a_few_at_a_time() {
    let mut cluster = Cluster::new();
    for n in 0..100 {
        let mut image = PodImage::new(Place::Container, "app", "nginx".to_owned(), true);
        image.waiting = Waiting::PullFailed;
        let facts = PodFacts {
            node: "a".to_owned(),
            images: vec![image],
            ..PodFacts::default()
        };
        cluster = with_pod(cluster, &format!("p{n}"), facts);
    }
    assert_eq!(restored_after(&mut cluster, 10).len(), 20);
}

#[test]
fn v1s_finalizer_is_taken_off_pods_and_others_stay() {
    let finalizers = vec!["pod.kuik.enix.io/finalizer".to_owned(), "other".to_owned()];
    let facts = PodFacts {
        finalizers,
        version: "3".to_owned(),
        ..PodFacts::default()
    };
    let expected = Action::ReleasePod {
        pod: PodKey {
            namespace: "n".to_owned(),
            name: "p".to_owned(),
        },
        version: "3".to_owned(),
        kept: vec!["other".to_owned()],
    };
    assert!(with_pod(Cluster::new(), "p", facts).plan().contains(&expected));
}

proptest! {
    #[test]
    fn what_does_not_wait_or_was_not_rewritten_is_never_changed(
        images in proptest::collection::vec((0..3_u8, any::<bool>(), 0..4_u8), 0..6),
        ready in any::<bool>(),
        seconds in 0_i64..200,
    ) {
        let image = |(n, (waiting, rewritten, place)): (usize, &(u8, bool, u8))| {
            let place = [Place::Container, Place::InitContainer, Place::EphemeralContainer, Place::Volume][usize::from(*place)];
            let mut image = PodImage::new(place, &n.to_string(), "nginx".to_owned(), *rewritten);
            image.waiting = [Waiting::No, Waiting::Creating, Waiting::PullFailed][usize::from(*waiting)];
            image
        };
        let all: Vec<PodImage> = images.iter().enumerate().map(image).collect();
        let facts = PodFacts { node: "a".to_owned(), images: all.clone(), ..PodFacts::default() };
        let mut cluster = proxy(with_pod(Cluster::new(), "p", facts), "a", ready);
        for restored in restored_after(&mut cluster, seconds).into_iter().flat_map(|one| one.images) {
            prop_assert!(!ready);
            let of = &all[restored.container.parse::<usize>().unwrap()];
            prop_assert!(of.rewritten && of.waiting != Waiting::No && of.place == restored.place);
        }
    }
}

#[test]
fn an_image_that_the_tier_cannot_fetch_is_pulled_directly() {
    let failed = ImageState {
        digest: String::new(),
        error: "the source says no".to_owned(),
        ..tier_state(ImagePhase::Failed)
    };
    let cluster = proxy(waiting(Cluster::new(), "a", Waiting::PullFailed), "a", true);
    let restored = restored_after(&mut cluster.tier(failed), 0);
    assert!(restored[0].reason.contains("the source says no"));
    let served = tier_state(ImagePhase::Failed);
    assert!(!served.digest.is_empty(), "something older is served");
    let cluster = proxy(waiting(Cluster::new(), "a", Waiting::PullFailed), "a", true);
    assert!(restored_after(&mut cluster.tier(served), 0).is_empty());
}
