use std::collections::BTreeSet;

use proto::v1::{GrantInfo, PlaceRequest};

use super::*;
use crate::action::SecretName;
use crate::grant::{GrantKey, GrantResult};
use crate::pod::Waiting;

fn pod_with_secret(mut cluster: Cluster, name: &str, secret: Option<&str>) -> Cluster {
    let image = PodImage::new(Place::Container, "app", "quay.io/team/app:1".to_owned(), true);
    let facts = PodFacts {
        node: "node".to_owned(),
        images: vec![image],
        pull_secrets: secret.map(str::to_owned).into_iter().collect(),
        service_account: "default".to_owned(),
        ..PodFacts::default()
    };
    let key = PodKey {
        namespace: "n".to_owned(),
        name: name.to_owned(),
    };
    cluster.0.apply(Change::Pod(Seen::Changed(key, facts)));
    cluster
}

fn key() -> GrantKey {
    GrantKey {
        namespace: "n".to_owned(),
        repository: "quay.io/team/app".to_owned(),
    }
}

fn secrets(names: &[&str]) -> BTreeSet<SecretName> {
    names.iter().map(|name| SecretName::new("n", name)).collect()
}

/// Names of the secrets and accounts that are to be tried, `hours` after the start.
fn asked_after(cluster: &Cluster, hours: i64) -> Option<(Vec<String>, Vec<String>)> {
    let actions = plan(&cluster.0, &policy(), now() + hours.hours()).actions;
    actions.into_iter().find_map(|action| match action {
        Action::Grant { secrets, accounts, .. } => Some((secrets.iter().map(ToString::to_string).collect(), accounts)),
        _ => None,
    })
}

fn placed(cluster: &Cluster) -> Option<PlaceRequest> {
    cluster.plan().into_iter().find_map(|action| match action {
        Action::Place(request) => Some(request),
        _ => None,
    })
}

// Defect 14 of v1: the pull secrets of the last pod replaced those of all others.
#[test]
fn secrets_of_all_pods_of_a_namespace_are_tried() {
    let cluster = pod_with_secret(Cluster::new(), "p", Some("one"));
    let cluster = pod_with_secret(cluster, "q", Some("two"));
    let cluster = pod_with_secret(cluster, "r", None);
    let (secrets, accounts) = asked_after(&cluster, 0).unwrap();
    assert_eq!(secrets, ["n/one", "n/two"]);
    assert_eq!(accounts, ["default"]);
}

#[test]
fn a_grant_is_asked_for_once_then_hourly_and_when_secrets_change() {
    let mut cluster = pod_with_secret(Cluster::new(), "p", Some("one"));
    cluster
        .0
        .grants
        .heard(key(), GrantResult::Granted, secrets(&["one"]), now());
    assert_eq!(asked_after(&cluster, 0), None);
    assert!(asked_after(&cluster, 1).is_some());
    let cluster = pod_with_secret(cluster, "q", Some("two"));
    assert!(asked_after(&cluster, 0).is_some());
}

#[test]
fn a_source_that_does_not_answer_takes_no_grant_away() {
    let mut cluster = pod_with_secret(Cluster::new(), "p", Some("one"));
    cluster
        .0
        .grants
        .heard(key(), GrantResult::Granted, secrets(&["one"]), now());
    cluster
        .0
        .grants
        .heard(key(), GrantResult::Unreachable, secrets(&["one"]), now());
    assert!(cluster.0.grants.is_granted(&key()));
    cluster
        .0
        .grants
        .heard(key(), GrantResult::Refused, secrets(&["one"]), now());
    assert!(!cluster.0.grants.is_granted(&key()));
}

#[test]
fn a_secret_that_the_source_refuses_now_is_good_for_a_day() {
    let mut cluster = pod_with_secret(Cluster::new(), "p", Some("one"));
    let tried = secrets(&["one"]);
    cluster
        .0
        .grants
        .heard(key(), GrantResult::Granted, tried.clone(), now());
    for hours in [1, 23] {
        cluster
            .0
            .grants
            .heard(key(), GrantResult::Standing, tried.clone(), now() + hours.hours());
        assert_eq!(
            placed(&cluster).unwrap().placements[0].repositories,
            ["quay.io/team/app"]
        );
    }
    let revoked = |hours: i64| {
        let actions = plan(&cluster.0, &policy(), now() + hours.hours()).actions;
        actions.contains(&Action::Revoke { key: key() })
    };
    assert!(!revoked(23) && revoked(24));
}

#[test]
fn a_secret_that_is_gone_is_good_for_a_day_and_one_that_cannot_be_read_for_ever() {
    for (heard, expected) in [
        (GrantResult::NoSecret, true),
        (GrantResult::Unread, false),
        (GrantResult::Unreachable, false),
    ] {
        let mut cluster = pod_with_secret(Cluster::new(), "p", Some("one"));
        let tried = secrets(&["one"]);
        cluster
            .0
            .grants
            .heard(key(), GrantResult::Granted, tried.clone(), now());
        for hours in [1, 12, 23] {
            cluster
                .0
                .grants
                .heard(key(), heard, tried.clone(), now() + hours.hours());
            assert!(cluster.0.grants.is_granted(&key()), "{heard:?}");
        }
        let revoked = |hours: i64| {
            let actions = plan(&cluster.0, &policy(), now() + hours.hours()).actions;
            actions.contains(&Action::Revoke { key: key() })
        };
        assert_eq!((revoked(23), revoked(24)), (false, expected), "{heard:?}");
    }
    let mut grants = crate::grant::Grants::default();
    grants.heard(key(), GrantResult::Unread, secrets(&["one"]), now());
    let asked_in_vain = grants.get(&key()).unwrap().result;
    assert_eq!(asked_in_vain, GrantResult::NoSecret, "its pods pull directly");
}

#[test]
fn a_grant_that_no_pod_used_for_a_day_is_taken_back() {
    let mut cluster = Cluster::new();
    cluster
        .0
        .grants
        .heard(key(), GrantResult::Granted, secrets(&["one"]), now());
    let revoked = |cluster: &Cluster, hours: i64| {
        let actions = plan(&cluster.0, &policy(), now() + hours.hours()).actions;
        actions.contains(&Action::Revoke { key: key() })
    };
    assert!(!revoked(&cluster, 23) && revoked(&cluster, 24));
    let workloads = std::mem::take(&mut cluster.0.workloads);
    assert!(!revoked(&cluster, 24), "a workload without pods may not be known yet");
    cluster.0.workloads = workloads;
    let cluster = pod_with_secret(cluster, "p", Some("one"));
    assert!(!revoked(&cluster, 24));
}

// v1 wrote the secrets of whichever pod came last into the Repository, and every namespace pulled with them.
#[test]
fn secrets_of_a_repository_count_for_their_own_namespace() {
    let mut cluster = Cluster::new().image("warm", "quay.io/team/app:1");
    let spec = RepositorySpec {
        name: "quay.io/team/app".to_owned(),
        pull_secret_names: vec!["s".to_owned()],
        pull_secrets_namespace: Some("secrets".to_owned()),
        ..RepositorySpec::default()
    };
    cluster.0.apply(Change::Repository(Seen::Changed(
        "r".to_owned(),
        Repository::new("r", spec),
    )));
    assert_eq!(asked_after(&cluster, 0).unwrap().0, ["secrets/s"]);
    let granted: Vec<String> = cluster
        .plan()
        .into_iter()
        .filter_map(|action| match action {
            Action::Grant { key, .. } => Some(key.namespace),
            _ => None,
        })
        .collect();
    assert_eq!(granted, ["secrets"]);
}

#[test]
fn a_node_is_told_of_once_a_pod_with_a_grant_is_on_it() {
    let mut cluster = pod_with_secret(Cluster::new(), "p", Some("one"));
    assert_eq!(placed(&cluster), None, "a whole list waits for what is asked");
    cluster
        .0
        .grants
        .heard(key(), GrantResult::Granted, secrets(&["one"]), now());
    let request = placed(&cluster).unwrap();
    assert!(request.replace);
    assert_eq!(request.placements[0].node, "node");
    assert_eq!(request.placements[0].repositories, ["quay.io/team/app"]);
    cluster.0.told.heard_places(request);
    assert_eq!(placed(&cluster), None);
}

#[test]
fn a_reference_to_the_proxy_written_by_hand_opens_nothing() {
    let mut cluster = pod_with_secret(Cluster::new(), "p", None);
    cluster
        .0
        .grants
        .heard(key(), GrantResult::NoSecret, secrets(&[]), now());
    assert_eq!(placed(&cluster).unwrap().placements, []);
}

#[test]
fn a_node_whose_last_such_pod_went_is_emptied() {
    let mut cluster = pod_with_secret(Cluster::new(), "p", Some("one"));
    cluster
        .0
        .grants
        .heard(key(), GrantResult::Granted, secrets(&["one"]), now());
    cluster.0.told.heard_places(placed(&cluster).unwrap());
    cluster.0.apply(Change::Pod(Seen::Gone(PodKey {
        namespace: "n".to_owned(),
        name: "p".to_owned(),
    })));
    let request = placed(&cluster).unwrap();
    assert!(!request.replace && request.placements[0].repositories.is_empty());
    cluster.0.told.heard_places(request);
    assert_eq!(placed(&cluster), None);
}

#[test]
fn a_new_leader_adds_what_it_knows_takes_no_place_away_and_says_nothing_twice() {
    let on = |mut cluster: Cluster, namespace: &str, node: &str, image: &str| {
        let facts = PodFacts {
            node: node.to_owned(),
            images: vec![PodImage::new(Place::Container, "app", image.to_owned(), true)],
            pull_secrets: vec!["one".to_owned()],
            ..PodFacts::default()
        };
        let key = PodKey {
            namespace: namespace.to_owned(),
            name: format!("{node}-{namespace}"),
        };
        cluster.0.apply(Change::Pod(Seen::Changed(key, facts)));
        cluster
    };
    let cluster = on(Cluster::new(), "n", "known", "quay.io/team/app:1");
    let cluster = on(cluster, "n", "open", "quay.io/team/app:1");
    let mut cluster = on(cluster, "other", "open", "quay.io/team/slow:1");
    cluster
        .0
        .grants
        .heard(key(), GrantResult::Granted, secrets(&["one"]), now());
    let request = placed(&cluster).unwrap();
    assert!(
        !request.replace && request.add,
        "a node may have a place that is not known yet"
    );
    let nodes: Vec<&str> = request.placements.iter().map(|place| place.node.as_str()).collect();
    assert_eq!(nodes, ["known", "open"], "no pod waits for another's source");
    cluster.0.told.heard_places(request);
    assert_eq!(placed(&cluster), None);
}

#[test]
fn a_tier_that_cannot_list_grants_loses_none_and_is_sent_a_whole_list_alone() {
    let mut cluster = pod_with_secret(Cluster::new(), "p", Some("one"));
    cluster
        .0
        .grants
        .heard(key(), GrantResult::Granted, secrets(&["one"]), now());
    let mut cluster = with_image(cluster, "q", "quay.io/team/slow:1", Waiting::No);
    assert!(placed(&cluster).unwrap().add);
    cluster.0.grants.doubt();
    assert_eq!(placed(&cluster), None, "it may be another tier");
    cluster.0.grants.answered(None, now(), 1);
    assert!(cluster.0.grants.is_granted(&key()));
    assert!(
        !cluster.plan().contains(&Action::ListGrants { doubts: 1 }),
        "not asked again and again"
    );
    assert_eq!(placed(&cluster), None, "it would set what it should add");
    let mut settled = cluster;
    let another = GrantKey {
        repository: "quay.io/team/slow".to_owned(),
        ..key()
    };
    settled
        .0
        .grants
        .heard(another, GrantResult::Public, secrets(&["one"]), now());
    assert!(placed(&settled).unwrap().replace);
}

fn with_image(mut cluster: Cluster, name: &str, image: &str, waiting: Waiting) -> Cluster {
    let mut image = PodImage::new(Place::Container, "app", image.to_owned(), true);
    image.waiting = waiting;
    let facts = PodFacts {
        images: vec![image],
        pull_secrets: vec!["one".to_owned()],
        ..PodFacts::default()
    };
    let key = PodKey {
        namespace: "n".to_owned(),
        name: name.to_owned(),
    };
    cluster.0.apply(Change::Pod(Seen::Changed(key, facts)));
    cluster
}

fn images_tried(cluster: &Cluster) -> Vec<String> {
    let tried = cluster.plan().into_iter().find_map(|action| match action {
        Action::Grant { images, .. } => Some(images),
        _ => None,
    });
    tried.unwrap()
}

#[test]
fn a_tag_that_one_pod_misspells_decides_for_no_other() {
    let cluster = with_image(Cluster::new(), "a", "quay.io/team/app:1", Waiting::Creating);
    let cluster = with_image(cluster, "z", "quay.io/team/app:typo", Waiting::PullFailed);
    assert_eq!(images_tried(&cluster), ["quay.io/team/app:1", "quay.io/team/app:typo"]);
}

#[test]
fn the_likeliest_images_are_tried_first_and_few_of_many() {
    let seen = ImageState {
        reference: "quay.io/team/app:seen".to_owned(),
        seen_at_source_ms: 1,
        ..ImageState::default()
    };
    let mut cluster = Cluster::new().tier(seen);
    for (name, tag, waiting) in [
        ("a", "typo", Waiting::PullFailed),
        ("b", "few", Waiting::No),
        ("c", "many", Waiting::No),
        ("d", "many", Waiting::No),
        ("e", "seen", Waiting::PullFailed),
    ] {
        cluster = with_image(cluster, name, &format!("quay.io/team/app:{tag}"), waiting);
    }
    let tried = images_tried(&cluster);
    assert_eq!(
        tried,
        ["seen", "many", "few"].map(|tag| format!("quay.io/team/app:{tag}"))
    );
}

fn found(verified_hours_ago: i64) -> GrantInfo {
    let verified_at = now() - verified_hours_ago.hours();
    GrantInfo {
        namespace: "n".to_owned(),
        repository: "quay.io/team/app".to_owned(),
        verified_at_ms: u64::try_from(verified_at.as_millisecond()).unwrap(),
        ..GrantInfo::default()
    }
}

#[test]
fn a_new_leader_asks_the_tier_for_grants_before_it_asks_any_source() {
    let mut cluster = pod_with_secret(Cluster::new(), "p", Some("one"));
    cluster.0.grants.doubt();
    assert!(cluster.plan().contains(&Action::ListGrants { doubts: 1 }));
    assert_eq!(asked_after(&cluster, 0), None);
    cluster.0.grants.answered(Some(Vec::new()), now(), 0);
    assert!(!cluster.0.grants.is_listed(), "asked before the tier was doubted");
    cluster.0.grants.answered(Some(vec![found(0)]), now(), 1);
    assert_eq!(asked_after(&cluster, 0), None, "what stands is not asked for again");
    assert!(asked_after(&cluster, 1).is_some());
    let placed = placed(&cluster).unwrap();
    assert!(placed.replace && placed.placements[0].repositories == ["quay.io/team/app"]);
}

#[test]
fn a_grant_whose_last_pod_went_before_this_leader_began_is_taken_back() {
    let revoked = |cluster: &Cluster, hours: i64| {
        let actions = plan(&cluster.0, &policy(), now() + hours.hours()).actions;
        actions.contains(&Action::Revoke { key: key() })
    };
    // (verified hours ago, taken back after, not yet after)
    for (verified, after, not_yet) in [(0, 24, 23), (6, 18, 17), (48, 12, 11)] {
        let mut cluster = Cluster::new();
        cluster.0.grants.answered(Some(vec![found(verified)]), now(), 0);
        assert!(!revoked(&cluster, not_yet) && revoked(&cluster, after), "{verified}");
        let used = pod_with_secret(cluster, "p", Some("one"));
        assert!(!revoked(&used, after), "{verified}");
    }
}
