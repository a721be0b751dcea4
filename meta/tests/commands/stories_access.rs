//! Desired images, grants, placements, and the level that allows them.

use meta::{
    ChangeDesired, Command, CredentialId, DESIRED_AT_ONCE_MAX, DesiredImage, FeatureLevel, NodePlacement, NoteDesired,
    Outcome, PutGrant, Rejected, RepositoryItem, RevokeGrants, SetPlacements, SetVisibility, StateHash, Visibility,
    snapshot, view,
};
use oci::{ImageReference, Repository};

use crate::replica::{Replica, raising};
use crate::universe::repository;

fn images(count: usize, prefix: &str) -> Vec<DesiredImage> {
    let reference = |number| {
        format!("docker.io/team/{prefix}:{number}")
            .parse::<ImageReference>()
            .unwrap()
    };
    let images = (0..count).map(reference);
    images
        .map(|reference| DesiredImage {
            reference,
            retain: false,
        })
        .collect()
}

fn put(images: Vec<DesiredImage>, begin: bool, end: bool) -> Command {
    Command::ChangeDesired(ChangeDesired {
        put: images,
        begin,
        end,
        ..ChangeDesired::default()
    })
}

fn grant(namespace: &str, repository: &Repository, credential: u128) -> Command {
    Command::PutGrant(PutGrant {
        namespace: namespace.to_owned(),
        repository: repository.clone(),
        credential: CredentialId::new(credential),
        sealed: vec![7; 40],
        key_id: "k1".to_owned(),
        origin: format!("{namespace}/pull-secret"),
    })
}

fn n_desired(replica: &Replica) -> usize {
    view::list_desired(&replica.state, None, usize::MAX).unwrap().len()
}

#[test]
fn a_cluster_of_the_level_before_takes_them_once_every_node_understands() {
    let mut replica = Replica::formed();
    let expected = Rejected::FeatureLevelTooLow {
        required: FeatureLevel::ACCESS,
        cluster: FeatureLevel::FIRST,
    };
    assert_eq!(replica.refuse(put(images(1, "app"), false, false)), expected);
    for command in raising() {
        replica.accept(command);
    }
    replica.accept(put(images(1, "app"), false, false));
    assert_eq!(n_desired(&replica), 1);
}

#[test]
fn a_whole_list_in_parts_drops_what_no_part_named() {
    let mut replica = Replica::raised();
    replica.accept(put(images(3, "old"), false, false));
    replica.accept(put(images(2, "new"), true, false));
    replica.accept(put(images(1, "between"), false, false));
    assert_eq!(n_desired(&replica), 6);
    replica.accept(put(images(1, "last"), false, true));
    assert_eq!(n_desired(&replica), 4);
    replica.accept(put(Vec::new(), false, true));
    assert_eq!(n_desired(&replica), 4, "an end without a beginning drops nothing");
}

#[test]
fn the_end_of_a_long_list_takes_several_entries() {
    let mut replica = Replica::raised();
    for prefix in ["a", "b"] {
        replica.accept(put(images(DESIRED_AT_ONCE_MAX, prefix), false, false));
    }
    let over = replica.refuse(put(images(DESIRED_AT_ONCE_MAX + 1, "c"), false, false));
    assert!(matches!(over, Rejected::TooMany { .. }));
    replica.accept(put(images(1, "a"), true, false));
    let end = || put(Vec::new(), false, true);
    assert_eq!(replica.propose(end()), Outcome::DesiredChanged { pending: true });
    assert_eq!(replica.propose(end()), Outcome::DesiredChanged { pending: false });
    assert_eq!(n_desired(&replica), 1);
}

#[test]
fn an_image_keeps_when_it_was_first_complete() {
    let mut replica = Replica::raised();
    replica.accept(put(images(1, "app"), false, false));
    let reference = images(1, "app").remove(0).reference;
    let note = |complete, error: Option<&str>| {
        Command::NoteDesired(NoteDesired {
            reference: reference.clone(),
            complete,
            error: error.map(str::to_owned),
        })
    };
    replica.accept(note(true, None));
    let first = replica.now_ms();
    replica.accept(note(true, Some("the source is away")));
    let record = view::desired(&replica.state, &reference).unwrap().unwrap();
    assert_eq!(record.completed_at_ms, Some(first));
    assert_eq!(record.error.as_deref(), Some("the source is away"));
}

#[test]
fn a_credential_lives_as_long_as_a_grant_rests_on_it() {
    let mut replica = Replica::raised();
    let repository = repository(0);
    let kept = |replica: &Replica| view::list_credentials(&replica.state, None, 10).unwrap().len();
    replica.accept(grant("a", &repository, 1));
    replica.accept(grant("b", &repository, 1));
    replica.accept(grant("b", &repository, 1));
    assert_eq!(kept(&replica), 1);
    replica.accept(grant("b", &repository, 2));
    assert_eq!(kept(&replica), 2);
    let revoke = |namespace: &str| {
        Command::RevokeGrants(RevokeGrants {
            namespace: namespace.to_owned(),
            repositories: vec![RepositoryItem(repository.clone())],
        })
    };
    replica.accept(revoke("a"));
    assert_eq!(kept(&replica), 1);
    replica.accept(revoke("b"));
    assert_eq!(kept(&replica), 0);
}

#[test]
fn a_grant_makes_private_what_was_public_and_nothing_else_forgets_since_when() {
    let mut replica = Replica::raised();
    let repository = repository(0);
    let see = |public| {
        Command::SetVisibility(SetVisibility {
            repository: repository.clone(),
            public,
        })
    };
    let seen = |replica: &Replica| view::visibility(&replica.state, &repository).unwrap().unwrap();
    replica.accept(see(true));
    let first = seen(&replica);
    replica.accept(see(true));
    assert_eq!(seen(&replica), first);
    replica.accept(grant("a", &repository, 1));
    assert!(matches!(seen(&replica), Visibility::Private { .. }));
}

#[test]
fn names_that_would_break_keys_are_refused() {
    let mut replica = Replica::raised();
    for namespace in ["", "a\0b", &"n".repeat(254)] {
        let refused = replica.refuse(grant(namespace, &repository(0), 1));
        assert!(matches!(refused, Rejected::FieldTooLong { .. }), "{namespace:?}");
    }
}

#[test]
fn a_node_without_private_repositories_is_forgotten() {
    let mut replica = Replica::raised();
    let place = |repositories| {
        Command::SetPlacements(SetPlacements {
            placements: vec![NodePlacement {
                node: "worker-1".to_owned(),
                repositories,
            }],
        })
    };
    replica.accept(place(vec![RepositoryItem(repository(0))]));
    let placed = view::placement(&replica.state, "worker-1").unwrap();
    assert!(placed.holds(&repository(0)) && !placed.holds(&repository(1)));
    replica.accept(place(Vec::new()));
    assert_eq!(view::placements(&replica.state).unwrap(), []);
}

#[test]
fn a_snapshot_of_the_level_before_is_read_and_goes_on() {
    let before = Replica::formed();
    let mut bytes = Vec::new();
    snapshot::write(&before.state, &mut bytes).unwrap();
    let mut restored = Replica::formed();
    restored.state = meta::MemoryState::new();
    restored.hash = snapshot::read(&mut bytes.as_slice(), |record| {
        restored.state.apply_mutations([record]);
        Ok(())
    })
    .unwrap();
    assert_eq!(restored.hash, before.hash);
    for command in raising() {
        restored.accept(command);
    }
    restored.accept(grant("a", &repository(0), 1));
    assert_eq!(restored.hash, StateHash::of(&restored.state).unwrap());
}

#[test]
fn a_sealed_credential_is_not_printed() {
    let printed = format!("{:?}", grant("a", &repository(0), 1));
    assert!(!printed.contains("7, 7"), "{printed}");
}
