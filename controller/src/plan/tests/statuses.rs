use super::*;

/// A cluster in which the status that was planned has been written.
fn written(cluster: Cluster) -> Cluster {
    let status = cluster.status("i").unwrap().0;
    cluster.image_with("i", "nginx", |object| object.status = Some(status))
}

fn with(state: ImageState) -> Cluster {
    Cluster::new().pod("p", "nginx").image("i", "nginx").tier(state)
}

fn condition<'a>(status: &'a CachedImageStatus, kind: &str) -> (&'a str, &'a str) {
    let found = status.conditions.iter().find(|one| one.type_ == kind).unwrap();
    (found.status.as_str(), found.reason.as_str())
}

#[test]
fn phases_are_those_of_v1() {
    let table = [
        (ImagePhase::Known, "Synchronizing", false),
        (ImagePhase::Filling, "Pulling", false),
        (ImagePhase::Complete, "Synchronizing", true),
        (ImagePhase::Ready, "Ready", true),
        (ImagePhase::Lost, "Pulling", false),
        (ImagePhase::Failed, "ErrImagePull", false),
    ];
    for (phase, expected, cached) in table {
        let status = with(tier_state(phase)).status("i").unwrap().0;
        assert_eq!(
            (status.phase.as_deref(), status.is_cached),
            (Some(expected), Some(cached)),
            "{phase:?}"
        );
    }
}

#[test]
fn a_ready_image_tells_all() {
    let (status, reasons) = with(tier_state(ImagePhase::Ready)).status("i").unwrap();
    assert_eq!(status.digest, Some("a".repeat(64)), "hexadecimal, as in v1");
    assert_eq!((status.up_to_date, status.available_upstream), (Some(true), Some(true)));
    assert_eq!(status.used_by.as_ref().unwrap().count, 1);
    assert_eq!(status.used_by.as_ref().unwrap().pods[0].namespaced_name, "n/p");
    assert_eq!(status.copies.as_deref(), Some("3/3"));
    assert_eq!(condition(&status, "Ready"), ("True", "Ready"));
    assert_eq!(condition(&status, "Cached"), ("True", "Cached"));
    assert_eq!(condition(&status, "UpToDate"), ("True", "UpToDate"));
    assert_eq!(reasons, ["Cached", "Serving"]);
}

#[test]
fn a_status_that_is_true_is_not_written_again() {
    let cluster = written(with(tier_state(ImagePhase::Ready)));
    assert_eq!(cluster.status("i"), None);
}

#[test]
fn a_check_at_the_source_alone_is_written_every_ten_minutes() {
    let cluster = written(with(tier_state(ImagePhase::Ready)));
    let later = |seconds: u64| {
        let state = tier_state(ImagePhase::Ready);
        ImageState {
            checked_at_ms: state.checked_at_ms + seconds * 1000,
            ..state
        }
    };
    let cluster = cluster.tier(later(599));
    assert_eq!(cluster.status("i"), None);
    assert!(cluster.tier(later(600)).status("i").is_some());
}

// Defect 6 of v1: after the cache was wiped the object went on saying that the image was there.
#[test]
fn lost_content_shows_at_once() {
    let cluster = written(with(tier_state(ImagePhase::Ready)));
    let (status, reasons) = cluster.tier(tier_state(ImagePhase::Lost)).status("i").unwrap();
    assert_eq!(
        (status.phase.as_deref(), status.is_cached),
        (Some("Pulling"), Some(false))
    );
    assert_eq!(condition(&status, "Ready"), ("False", "Lost"));
    assert_eq!(reasons, ["Caching", "Lost"]);

    let mut cluster = written(with(tier_state(ImagePhase::Ready)));
    cluster.0.apply(Change::Tier(ImageChanges {
        from_beginning: true,
        synced: true,
        ..ImageChanges::default()
    }));
    let status = cluster.status("i").unwrap().0;
    assert_eq!(
        (status.phase.as_deref(), status.is_cached),
        (Some("Synchronizing"), Some(false))
    );
}

#[test]
fn a_tier_that_says_nothing_changes_nothing() {
    let mut cluster = written(with(tier_state(ImagePhase::Ready)));
    cluster.0.apply(Change::Tier(ImageChanges {
        from_beginning: true,
        synced: false,
        ..ImageChanges::default()
    }));
    assert_eq!(cluster.status("i"), None);
}

#[test]
fn a_controller_that_has_not_heard_the_tier_yet_changes_nothing() {
    let mut cluster = written(with(tier_state(ImagePhase::Ready)));
    cluster.0.tier = crate::state::TierView::default();
    assert_eq!(cluster.status("i"), None);
    let status = Cluster::new()
        .pod("p", "nginx")
        .image("i", "nginx")
        .status("i")
        .unwrap()
        .0;
    assert_eq!(
        (status.phase.as_deref(), status.is_cached),
        (Some("Synchronizing"), Some(false))
    );
}

#[test]
fn a_stale_tag_says_which_digest_it_serves_and_why() {
    let cluster = written(with(tier_state(ImagePhase::Ready)));
    let stale = ImageState {
        stale: true,
        error: "connection refused".to_owned(),
        ..tier_state(ImagePhase::Ready)
    };
    let (status, reasons) = cluster.tier(stale).status("i").unwrap();
    assert_eq!(status.available_upstream, Some(false));
    assert_eq!(condition(&status, "UpToDate"), ("Unknown", "SourceUnavailable"));
    assert_eq!(
        condition(&status, "Ready"),
        ("True", "Ready"),
        "it is served all the same"
    );
    assert_eq!(reasons, ["ServingStale"]);
}

#[test]
fn the_time_of_a_condition_is_that_of_its_last_change() {
    let cluster = written(with(tier_state(ImagePhase::Complete)));
    let later = now() + 1.hour();
    let actions = plan(&cluster.tier(tier_state(ImagePhase::Ready)).0, &policy(), later).actions;
    let status = actions.into_iter().find_map(|action| match action {
        Action::ImageStatus { status, .. } => Some(status),
        _ => None,
    });
    let conditions = status.unwrap().conditions;
    let since = |kind: &str| {
        conditions
            .iter()
            .find(|one| one.type_ == kind)
            .unwrap()
            .last_transition_time
            .0
    };
    assert_eq!((since("Ready"), since("Cached")), (later, now()));
}

#[test]
fn an_object_that_names_no_image_says_so() {
    let status = Cluster::new().image("i", "NOT AN IMAGE").status("i").unwrap().0;
    assert_eq!(status.phase.as_deref(), Some("ErrImagePull"));
    assert_eq!(condition(&status, "Ready"), ("False", "InvalidImage"));
}

#[test]
fn a_failure_is_told_with_its_reason() {
    let failed = ImageState {
        error: "no such\ntag".to_owned(),
        digest: String::new(),
        ..tier_state(ImagePhase::Failed)
    };
    let cluster = with(failed);
    let (status, reasons) = cluster.status("i").unwrap();
    assert_eq!(reasons, ["CacheFailed"]);
    assert_eq!(condition(&status, "Ready"), ("False", "ErrImagePull"));
    let message = &status
        .conditions
        .iter()
        .find(|one| one.type_ == "Ready")
        .unwrap()
        .message;
    assert_eq!(message, "no such tag", "on one line");
}

#[test]
fn a_repository_tells_how_its_images_fare() {
    let repository = |phases: &[&str]| {
        let mut cluster = Cluster::new().repository("r", "docker.io/library/nginx");
        for (n, phase) in phases.iter().enumerate() {
            cluster = cluster.image_with(&format!("i{n}"), &format!("nginx:{n}"), |object| {
                let phase = Some((*phase).to_owned());
                object.status = Some(CachedImageStatus {
                    phase,
                    ..CachedImageStatus::default()
                });
            });
        }
        let status = cluster.plan().into_iter().find_map(|action| match action {
            Action::RepositoryStatus { status, .. } => Some(status),
            _ => None,
        });
        let status = status.unwrap();
        (
            status.images.unwrap(),
            status.phase.clone().unwrap(),
            status.conditions[0].reason.clone(),
        )
    };
    assert_eq!(repository(&[]), (0, "Ready".to_owned(), "UpToDate".to_owned()));
    assert_eq!(
        repository(&["Ready", "Pulling"]),
        (2, "Pulling".to_owned(), "Pulling".to_owned())
    );
    let failed = "ErrImagePull".to_owned();
    assert_eq!(repository(&["Ready", "ErrImagePull"]), (2, failed.clone(), failed));
}
