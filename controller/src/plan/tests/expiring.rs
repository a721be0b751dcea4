use proptest::prelude::*;

use super::*;

#[test]
fn an_image_expires_when_it_was_unused_for_long() {
    assert!(
        Cluster::new()
            .image_with("i", "nginx", unused_for(29))
            .deleted()
            .is_empty()
    );
    assert_eq!(Cluster::new().image_with("i", "nginx", unused_for(30)).deleted(), ["i"]);
}

#[test]
fn nothing_expires_before_it_is_known_which_pods_there_are() {
    assert!(
        Cluster::without_pods()
            .image_with("i", "nginx", unused_for(99))
            .deleted()
            .is_empty()
    );
}

#[test]
fn a_retained_image_never_expires() {
    let cluster = Cluster::new().image_with("i", "nginx", |object| {
        unused_for(99)(object);
        object.spec.retain = Some(true);
    });
    assert!(cluster.deleted().is_empty());
    assert_eq!(cluster.status("i").unwrap().0.expires_at, None);
}

// Defect 25 of v1: a date that had passed while nobody looked deleted an image that was in use or retained.
#[test]
fn a_used_image_never_expires_whatever_date_its_object_holds() {
    let past = |object: &mut CachedImage| {
        unused_for(99)(object);
        object.spec.expires_at = Some(Time(now() - 48.hours()));
    };
    let used = Cluster::new().image_with("i", "nginx", past).pod("p", "nginx");
    assert!(used.deleted().is_empty());
    let (status, _) = used.status("i").unwrap();
    assert_eq!((status.expires_at, status.unused_since), (None, None));
    let retained = Cluster::new().image_with("i", "nginx", |object| {
        past(object);
        object.spec.retain = Some(true);
    });
    assert!(retained.deleted().is_empty());
}

// Defect 20 of v1: the controller wrote spec.expiresAt, which whoever applied the object took out again.
#[test]
fn the_date_is_told_in_the_status_and_no_action_writes_the_specification() {
    let cluster = Cluster::new().image("i", "nginx");
    let (status, reasons) = cluster.status("i").unwrap();
    assert_eq!(status.expires_at, Some(Time(now() + (30 * 24).hours())));
    assert_eq!(status.unused_since, Some(Time(now())));
    assert!(reasons.contains(&"Expiring"));
}

#[test]
fn a_date_that_a_user_set_counts_once_the_image_is_unused() {
    let dated = |hours: i64| {
        Cluster::new().image_with("i", "nginx", move |object| {
            unused_for(1)(object);
            object.spec.expires_at = Some(Time(now() + hours.hours()));
        })
    };
    assert_eq!(dated(-1).deleted(), ["i"]);
    assert!(dated(1).deleted().is_empty());
    assert_eq!(dated(1).status("i").unwrap().0.expires_at, Some(Time(now() + 1.hour())));
    let before_it_was_unused = dated(-48);
    assert!(before_it_was_unused.deleted().is_empty(), "left over from v1");
}

proptest! {
    #[test]
    fn what_is_used_or_retained_or_not_known_is_never_deleted(
        used in any::<bool>(),
        retain in any::<Option<bool>>(),
        synced in any::<bool>(),
        unused_days in 0_i64..100,
        spec_hours in proptest::option::of(-2000_i64..2000),
    ) {
        let cluster = if synced { Cluster::new() } else { Cluster::without_pods() };
        let cluster = cluster.image_with("i", "nginx", |object| {
            unused_for(unused_days)(object);
            object.spec.retain = retain;
            object.spec.expires_at = spec_hours.map(|hours| Time(now() + hours.hours()));
        });
        let cluster = if used { cluster.pod("p", "nginx") } else { cluster };
        if used || retain == Some(true) || !synced {
            prop_assert!(cluster.deleted().is_empty());
        }
    }
}
