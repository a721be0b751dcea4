use super::*;
use crate::config::PeerAddress;

const EVERYONE: Scope = Scope {
    present: false,
    owner: true,
    upstream: true,
    join: false,
};

/// What a node may do that has just come back.
const RETURNED: Scope = Scope { join: true, ..EVERYONE };

fn tier(own: Ordinal) -> Tier {
    let address = |ordinal| PeerAddress {
        ordinal,
        grpc: format!("http://127.0.0.1:{}", 5100 + ordinal),
        registry: format!("http://127.0.0.1:{}", 5000 + ordinal),
        admin: None,
    };
    let peers: Vec<_> = (0..3).map(address).collect();
    Tier::new(own, 3.try_into().unwrap(), &peers).unwrap()
}

fn digest() -> Digest {
    Digest::sha256(b"a blob")
}

fn progress() -> Progress {
    Progress::new()
}

fn failure(step: Step, received_bytes: u64, error: SourceError) -> SourceFailure {
    SourceFailure {
        label: format!("{step:?}"),
        received_bytes,
        silent_for: Duration::ZERO,
        error,
    }
}

fn broken() -> SourceError {
    SourceError::Unavailable {
        why: "connection reset".into(),
        after: None,
    }
}

#[tokio::test(start_paused = true)]
async fn the_owner_fetches_and_everyone_else_asks_the_owner() {
    let owner = tier(0).ranking(digest().as_str())[0];
    for own in 0..3 {
        let step = progress().step(&tier(own), &digest(), EVERYONE);
        let expected = if own == owner {
            Step::Upstream
        } else {
            Step::Owner(owner)
        };
        assert_eq!(step, Some(expected), "node {own}");
    }
}

#[tokio::test(start_paused = true)]
async fn when_the_owner_breaks_off_the_next_in_rank_fetches() {
    let ranking = tier(0).ranking(digest().as_str());
    let (first, second, third) = (ranking[0], ranking[1], ranking[2]);
    for (own, expected) in [(second, Step::Upstream), (third, Step::Owner(second))] {
        let mut progress = progress();
        progress.last = progress.step(&tier(own), &digest(), EVERYONE);
        assert!(progress.learn(&failure(Step::Owner(first), 1000, broken())));
        assert_eq!(
            progress.step(&tier(own), &digest(), EVERYONE),
            Some(expected),
            "node {own}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_owner_says_of_the_source_is_final() {
    for error in [
        SourceError::NotFound,
        SourceError::Denied { why: "401".into() },
        SourceError::NoProgress(Duration::from_secs(30)),
    ] {
        let mut progress = progress();
        progress.last = Some(Step::Owner(1));
        assert!(!progress.learn(&failure(Step::Owner(1), 0, error.clone())), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_present_is_asked_for_at_every_node_before_it_is_fetched_again() {
    let scope = Scope {
        present: true,
        owner: false,
        upstream: true,
        join: false,
    };
    let ranking = tier(0).ranking(digest().as_str());
    let own = ranking[0];
    let mut progress = progress();
    let mut steps = Vec::new();
    while let Some(step) = progress.step(&tier(own), &digest(), scope) {
        steps.push(step);
        progress.last = Some(step);
        let Step::Copy(peer) = step else { break };
        progress.asked_for_copies.insert(peer);
        assert!(progress.learn(&failure(step, 0, SourceError::NotFound)));
    }
    assert_eq!(steps, [Step::Copy(ranking[1]), Step::Copy(ranking[2]), Step::Upstream]);
}

#[tokio::test(start_paused = true)]
async fn an_owner_that_has_just_come_asks_who_may_be_fetching_already() {
    let ranking = tier(0).ranking(digest().as_str());
    let tier = tier(ranking[0]);
    let mut progress = progress();
    for peer in [ranking[1], ranking[2]] {
        let step = progress.step(&tier, &digest(), RETURNED);
        assert_eq!(step, Some(Step::Join(peer)));
        progress.last = step;
        progress.asked_for_copies.insert(peer);
        assert!(progress.learn(&failure(Step::Join(peer), 0, SourceError::NotFound)));
    }
    assert_eq!(progress.step(&tier, &digest(), RETURNED), Some(Step::Upstream));
}

#[tokio::test(start_paused = true)]
async fn one_silent_node_is_enough_to_ask_the_source() {
    let ranking = tier(0).ranking(digest().as_str());
    let tier = tier(ranking[0]);
    let mut progress = progress();
    progress.last = progress.step(&tier, &digest(), RETURNED);
    progress.asked_for_copies.insert(ranking[1]);
    let silence = SourceError::NoProgress(JOIN_PATIENCE);
    assert!(progress.learn(&failure(Step::Join(ranking[1]), 0, silence)));
    assert_eq!(progress.step(&tier, &digest(), RETURNED), Some(Step::Upstream));
}

#[tokio::test(start_paused = true)]
async fn nobody_is_asked_for_what_a_repository_is_not_proven_to_have() {
    let unproven = Scope {
        join: false,
        ..RETURNED
    };
    let owner = tier(tier(0).ranking(digest().as_str())[0]);
    assert_eq!(progress().step(&owner, &digest(), unproven), Some(Step::Upstream));
}

#[tokio::test(start_paused = true)]
async fn who_goes_on_for_a_dead_owner_waits_for_nobody_who_may_wait_for_it() {
    let ranking = tier(0).ranking(digest().as_str());
    let tier = tier(ranking[1]);
    let mut progress = progress();
    progress.last = progress.step(&tier, &digest(), RETURNED);
    assert_eq!(progress.last, Some(Step::Owner(ranking[0])));
    assert!(progress.learn(&failure(Step::Owner(ranking[0]), 1000, broken())));
    assert_eq!(progress.step(&tier, &digest(), RETURNED), Some(Step::Upstream));
}

#[tokio::test(start_paused = true)]
async fn a_source_that_breaks_off_is_tried_again_while_bytes_come() {
    let mut progress = progress();
    progress.last = Some(Step::Upstream);
    for n in 1..10 {
        assert!(progress.learn(&failure(Step::Upstream, n * 1000, broken())));
    }
    let fruitless = (0..).take_while(|_| progress.learn(&failure(Step::Upstream, 9000, broken())));
    assert_eq!(fruitless.count() as u32, FRUITLESS_MAX - 2);
}

#[tokio::test(start_paused = true)]
async fn after_half_a_minute_without_a_byte_nobody_else_is_asked() {
    let mut progress = progress();
    progress.last = Some(Step::Owner(1));
    // However far it came before: the owner waited that long for the source, and so would the next.
    let silent = SourceFailure {
        silent_for: SILENCE_MAX,
        ..failure(Step::Owner(1), 1000, broken())
    };
    assert!(!progress.learn(&silent));
}
