//! Tags: they serve only what can be pulled whole.

use meta::{
    Candidate, Command, Outcome, PutManifest, Rejected, SetCandidate, TAG_HISTORY_MAX, TagCheck, TagChecked, view,
};
use oci::Digest;

use crate::replica::{Replica, promote, put};
use crate::universe::{Sample, image, index, repository, tag};

fn candidate(digest: &Digest, expected_serving: Option<&Digest>) -> Command {
    Command::SetCandidate(SetCandidate {
        repository: repository(0),
        tag: tag(0),
        digest: digest.clone(),
        upstream_etag: Some("\"e\"".to_owned()),
        expected_serving: expected_serving.cloned(),
    })
}

fn promotion(digest: &Digest) -> Command {
    promote(&repository(0), &tag(0), digest, &[])
}

fn check(at_ms: u64, check: TagCheck) -> Command {
    Command::TagChecked(TagChecked {
        repository: repository(0),
        tag: tag(0),
        at_ms,
        check,
    })
}

fn confirmed(digest: &Digest) -> TagCheck {
    TagCheck::Confirmed {
        digest: digest.clone(),
        upstream_etag: None,
    }
}

fn serving(replica: &mut Replica, sample: &Sample, before: Option<&Digest>) -> u64 {
    replica.store_whole(&repository(0), sample);
    replica.accept(candidate(&sample.digest, before));
    match replica.accept(promotion(&sample.digest)) {
        Outcome::TagPromoted { serving_index } => serving_index,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_tag_serves_its_candidate_once_that_is_complete() {
    let mut replica = Replica::formed();
    let (old, new) = (image(&[0]), image(&[1]));
    let first = serving(&mut replica, &old, None);
    replica.accept(put(&repository(0), &new));
    replica.accept(candidate(&new.digest, Some(&old.digest)));
    assert_eq!(replica.refuse(promotion(&new.digest)), Rejected::NotComplete);
    assert_eq!(replica.tag(&repository(0), &tag(0)).serving, Some(old.digest.clone()));

    replica.store_whole(&repository(0), &new);
    replica.accept(promotion(&new.digest));
    let record = replica.tag(&repository(0), &tag(0));
    assert_eq!((record.serving, record.candidate), (Some(new.digest.clone()), None));
    assert_eq!(record.history[0].digest, old.digest);
    assert!(record.serving_index > first);
    let again = replica.propose(promotion(&new.digest));
    assert_eq!(
        again,
        Outcome::TagPromoted {
            serving_index: record.serving_index
        }
    );
}

#[test]
fn an_index_is_promoted_for_the_children_asked_for() {
    let mut replica = Replica::formed();
    let (amd64, arm64) = (image(&[0]), image(&[1]));
    let both = index(&[&amd64.digest, &arm64.digest]);
    replica.store_whole(&repository(0), &amd64);
    replica.accept(put(&repository(0), &both));
    replica.accept(crate::replica::complete(
        &both.digest,
        std::slice::from_ref(&amd64.digest),
    ));
    replica.accept(candidate(&both.digest, None));
    let ask = |child: &Digest| promote(&repository(0), &tag(0), &both.digest, std::slice::from_ref(child));
    assert_eq!(replica.refuse(ask(&arm64.digest)), Rejected::NotComplete);
    replica.accept(ask(&amd64.digest));
}

#[test]
fn a_candidate_names_a_stored_and_linked_manifest_and_what_it_replaces() {
    let mut replica = Replica::formed();
    let (old, new) = (image(&[0]), image(&[1]));
    let digest = new.digest.clone();
    assert_eq!(
        replica.refuse(candidate(&new.digest, None)),
        Rejected::UnknownManifest { digest }
    );
    replica.accept(put(&repository(1), &new));
    assert_eq!(replica.refuse(candidate(&new.digest, None)), Rejected::NotLinked);
    replica.accept(put(&repository(0), &new));
    serving(&mut replica, &old, None);
    let serving = Some(old.digest);
    assert_eq!(
        replica.refuse(candidate(&new.digest, None)),
        Rejected::ServingChanged { serving }
    );
}

#[test]
fn a_manifest_may_bring_its_tag() {
    let mut replica = Replica::formed();
    let sample = image(&[0]);
    replica.accept(Command::PutManifest(PutManifest {
        repository: repository(0),
        digest: sample.digest.clone(),
        media_type: sample.media_type.clone(),
        content: sample.content.clone(),
        candidate_of: Some(Candidate {
            tag: tag(0),
            upstream_etag: Some("x".repeat(5000)),
        }),
    }));
    let record = replica.tag(&repository(0), &tag(0));
    assert_eq!((record.candidate, record.upstream_etag), (Some(sample.digest), None));
    assert_eq!(record.checked_at_ms, replica.now_ms());
}

#[test]
fn upstream_going_back_to_the_serving_digest_drops_the_candidate() {
    let mut replica = Replica::formed();
    let (old, new) = (image(&[0]), image(&[1]));
    serving(&mut replica, &old, None);
    replica.accept(put(&repository(0), &new));
    replica.accept(candidate(&new.digest, Some(&old.digest)));
    replica.accept(candidate(&old.digest, Some(&old.digest)));
    assert_eq!(replica.tag(&repository(0), &tag(0)).candidate, None);
    assert!(matches!(
        replica.refuse(promotion(&new.digest)),
        Rejected::CandidateChanged { .. }
    ));
}

#[test]
fn a_tag_is_stale_from_the_first_failed_check_to_the_next_good_one() {
    let mut replica = Replica::formed();
    let sample = image(&[0]);
    serving(&mut replica, &sample, None);
    let now_ms = replica.now_ms();
    replica.accept(check(now_ms, TagCheck::Failed));
    replica.accept(check(u64::MAX, TagCheck::Failed));
    assert_eq!(replica.tag(&repository(0), &tag(0)).stale_since_ms, Some(now_ms));
    replica.accept(check(u64::MAX, confirmed(&sample.digest)));
    let record = replica.tag(&repository(0), &tag(0));
    assert_eq!((record.stale_since_ms, record.checked_at_ms), (None, replica.now_ms()));
}

#[test]
fn a_report_from_before_the_latest_check_changes_nothing() {
    let mut replica = Replica::formed();
    let (old, new) = (image(&[0]), image(&[1]));
    serving(&mut replica, &old, None);
    let early = replica.now_ms();
    replica.accept(put(&repository(0), &new));
    replica.accept(candidate(&new.digest, Some(&old.digest)));
    let before = replica.tag(&repository(0), &tag(0));
    replica.accept(check(early, confirmed(&old.digest)));
    replica.accept(check(early, TagCheck::Failed));
    assert_eq!(replica.tag(&repository(0), &tag(0)), before);
}

#[test]
fn confirming_another_digest_or_an_unknown_tag_is_refused() {
    let mut replica = Replica::formed();
    let (old, new) = (image(&[0]), image(&[1]));
    assert_eq!(replica.refuse(check(0, TagCheck::Failed)), Rejected::UnknownTag);
    assert_eq!(replica.refuse(promotion(&old.digest)), Rejected::UnknownTag);
    serving(&mut replica, &old, None);
    let serving = Some(old.digest);
    assert_eq!(
        replica.refuse(check(0, confirmed(&new.digest))),
        Rejected::ServingChanged { serving }
    );
}

#[test]
fn history_is_bounded_and_newest_first() {
    let mut replica = Replica::formed();
    let samples: Vec<Sample> = (0..TAG_HISTORY_MAX + 3).map(|number| image(&[number])).collect();
    let mut before = None;
    for sample in &samples {
        serving(&mut replica, sample, before);
        before = Some(&sample.digest);
    }
    let history = replica.tag(&repository(0), &tag(0)).history;
    assert_eq!(history.len(), TAG_HISTORY_MAX);
    assert_eq!(history[0].digest, samples[samples.len() - 2].digest);
    assert!(history.is_sorted_by(|newer, older| newer.replaced_at_ms > older.replaced_at_ms));
}

#[test]
fn tags_and_images_are_listed_page_by_page() {
    let mut replica = Replica::formed();
    let sample = image(&[0]);
    for (place, name) in [(0, 0), (0, 1), (1, 0)] {
        replica.accept(put(&repository(place), &sample));
        let Command::SetCandidate(command) = candidate(&sample.digest, None) else {
            unreachable!()
        };
        replica.accept(Command::SetCandidate(SetCandidate {
            repository: repository(place),
            tag: tag(name),
            ..command
        }));
    }
    let first = view::repository_id(&replica.state, &repository(0)).unwrap().unwrap();
    let page = |after: Option<&oci::Tag>| {
        let tags = view::list_tags(&replica.state, first, after, 1).unwrap();
        tags.into_iter().next().map(|(tag, _)| tag)
    };
    assert_eq!(page(None), Some(tag(1)));
    assert_eq!(page(Some(&tag(1))), Some(tag(0)));
    assert_eq!(page(Some(&tag(0))), None);

    let mut seen = Vec::new();
    let mut cursor = None;
    while let Some(image) = view::list_images(&replica.state, cursor.as_ref(), 1).unwrap().pop() {
        seen.push((image.repository, image.tag));
        cursor = Some(image.cursor);
    }
    assert_eq!(
        seen,
        [
            (repository(0), tag(1)),
            (repository(0), tag(0)),
            (repository(1), tag(0))
        ]
    );
}
