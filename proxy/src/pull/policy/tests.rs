//! The table of steps, and what holds for every order of failures.

use proptest::prelude::*;

use super::*;

const FRESH: SourceFact = SourceFact::Untried { suspect: false };
const SUSPECT: SourceFact = SourceFact::Untried { suspect: true };
const DEAD: SourceFact = SourceFact::Failed(Failure::Unreachable);

fn facts(nodes: &[SourceFact], upstream: SourceFact) -> Facts {
    Facts {
        nodes: nodes.to_vec(),
        upstream,
        next_host: false,
        elapsed: Duration::ZERO,
        limit: None,
    }
}

#[test]
fn sources_are_asked_in_order() {
    let table = [
        (facts(&[FRESH, FRESH, FRESH], FRESH), Step::Node(0)),
        (facts(&[DEAD, FRESH, FRESH], FRESH), Step::Node(1)),
        (facts(&[SUSPECT, DEAD, FRESH], FRESH), Step::Node(2)),
        (facts(&[SUSPECT, DEAD, DEAD], FRESH), Step::Upstream),
        (facts(&[SUSPECT, DEAD, DEAD], DEAD), Step::Node(0)),
        (facts(&[SUSPECT, DEAD, DEAD], SUSPECT), Step::Node(0)),
        (facts(&[DEAD, DEAD, DEAD], SUSPECT), Step::Upstream),
        (facts(&[], FRESH), Step::Upstream),
    ];
    for (facts, step) in table {
        assert_eq!(next(&facts), step, "{facts:?}");
    }
}

#[test]
fn a_miss_of_a_node_alone_is_not_a_miss() {
    let missing = SourceFact::Failed(Failure::Missing);
    assert_eq!(
        next(&facts(&[missing, FRESH], FRESH)),
        Step::Upstream,
        "who knows is asked before who may not"
    );
    assert_eq!(next(&facts(&[missing, FRESH], SUSPECT)), Step::Node(1));
    assert_eq!(
        next(&facts(&[missing, FRESH], DEAD)),
        Step::Node(1),
        "another node may have a copy"
    );
    assert_eq!(
        next(&facts(&[missing, missing], DEAD)),
        Step::Answer(Refusal::Unavailable)
    );
    let denied = SourceFact::Failed(Failure::Denied);
    assert_eq!(
        next(&facts(&[missing, missing], denied)),
        Step::Answer(Refusal::NotFound),
        "nodes have credentials"
    );
}

#[test]
fn a_miss_of_the_source_registry_ends_the_search_whoever_reports_it() {
    let absent = SourceFact::Failed(Failure::Absent);
    assert_eq!(
        next(&facts(&[DEAD, absent, FRESH], FRESH)),
        Step::Answer(Refusal::NotFound)
    );
    assert_eq!(next(&facts(&[DEAD, SUSPECT], absent)), Step::Answer(Refusal::NotFound));
}

#[test]
fn the_last_word_names_the_cause() {
    let table = [
        (Failure::Denied, Refusal::Denied),
        (Failure::Unreachable, Refusal::Unavailable),
        (Failure::Unable, Refusal::Unavailable),
        (Failure::Wrong, Refusal::Unavailable),
        (Failure::SourceSilent, Refusal::TimedOut),
    ];
    for (failure, refusal) in table {
        assert_eq!(
            next(&facts(&[DEAD], SourceFact::Failed(failure))),
            Step::Answer(refusal),
            "{failure:?}"
        );
    }
}

#[test]
fn a_forbidden_host_leaves_the_word_to_the_nodes() {
    let table = [
        (vec![SourceFact::Failed(Failure::Denied)], Refusal::Denied),
        (vec![SourceFact::Failed(Failure::Missing)], Refusal::NotFound),
        (vec![DEAD], Refusal::Unavailable),
        (vec![], Refusal::Denied),
    ];
    for (nodes, refusal) in table {
        let facts = facts(&nodes, SourceFact::Failed(Failure::Forbidden));
        assert_eq!(next(&facts), Step::Answer(refusal), "{nodes:?}");
    }
}

#[test]
fn a_refusal_of_one_node_is_that_of_the_tier_and_the_source_is_asked_once() {
    let denied = SourceFact::Failed(Failure::Denied);
    assert_eq!(next(&facts(&[denied, FRESH, SUSPECT], FRESH)), Step::Upstream);
    assert_eq!(next(&facts(&[denied, FRESH], SUSPECT)), Step::Upstream);
    for upstream in [denied, DEAD, SourceFact::Failed(Failure::SourceSilent)] {
        let facts = facts(&[DEAD, denied, FRESH], upstream);
        assert_eq!(next(&facts), Step::Answer(Refusal::Denied), "{upstream:?}");
    }
}

#[test]
fn a_silent_source_is_waited_for_once_and_not_once_per_node() {
    let silent = SourceFact::Failed(Failure::SourceSilent);
    assert_eq!(next(&facts(&[silent, FRESH, SUSPECT], FRESH)), Step::Upstream);
    assert_eq!(
        next(&facts(&[silent, FRESH, SUSPECT], DEAD)),
        Step::Answer(Refusal::TimedOut)
    );
}

#[test]
fn a_client_with_a_next_host_is_not_kept_waiting() {
    let limit = Some(Duration::from_secs(3));
    let late = Facts {
        elapsed: Duration::from_secs(3),
        limit,
        next_host: true,
        ..facts(&[DEAD, FRESH], FRESH)
    };
    assert_eq!(next(&late), Step::Answer(Refusal::TimedOut));
    let known_down = Facts {
        next_host: true,
        limit,
        ..facts(&[DEAD], SUSPECT)
    };
    assert_eq!(next(&known_down), Step::Answer(Refusal::Unavailable));
}

fn failure() -> impl Strategy<Value = Failure> {
    prop::sample::select(vec![
        Failure::Unreachable,
        Failure::Unable,
        Failure::SourceSilent,
        Failure::Behind,
        Failure::Missing,
        Failure::Absent,
        Failure::Denied,
        Failure::Forbidden,
        Failure::Wrong,
    ])
}

proptest! {
    #[test]
    fn every_search_ends_and_respects_the_breakers(
        suspects in prop::collection::vec(any::<bool>(), 0..8),
        suspect_upstream: bool,
        next_host: bool,
        failures in prop::collection::vec(failure(), 9),
    ) {
        let nodes: Vec<_> = suspects.iter().map(|suspect| SourceFact::Untried { suspect: *suspect }).collect();
        let mut facts = facts(&nodes, SourceFact::Untried { suspect: suspect_upstream });
        facts.next_host = next_host;
        for _ in 0..=nodes.len() + 1 {
            match next(&facts) {
                Step::Node(position) => {
                    let SourceFact::Untried { suspect } = facts.nodes[position] else {
                        return Err(TestCaseError::fail("asked twice"));
                    };
                    prop_assert!(!suspect || !facts.nodes.contains(&FRESH), "an open breaker before a closed one");
                    facts.nodes[position] = SourceFact::Failed(failures[position]);
                }
                Step::Upstream => {
                    prop_assert!(matches!(facts.upstream, SourceFact::Untried { .. }), "asked twice");
                    facts.upstream = SourceFact::Failed(failures[8]);
                }
                Step::Answer(refusal) => {
                    let asked_upstream = matches!(facts.upstream, SourceFact::Failed(_));
                    let told_absent = facts.any(Failure::Absent);
                    prop_assert!(asked_upstream || told_absent || (next_host && suspect_upstream));
                    prop_assert!(!told_absent || refusal == Refusal::NotFound);
                    return Ok(());
                }
            }
        }
        Err(TestCaseError::fail("did not end"))?;
    }
}
