//! What the tier is asked beside content, and that nothing waits for it.

use proto::access::{SourceAuthorization, TierFacts};
use tokio::time::Instant;

use super::*;
use crate::facts::Facts;

fn blob_ask(body: &Bytes) -> BlobAsk {
    BlobAsk {
        repository: repository(),
        digest: Digest::sha256(body),
    }
}

#[tokio::test(start_paused = true)]
async fn facts_are_kept_while_the_tier_is_away() {
    let pull = pull();
    let facts = Facts::default();
    let host = "reg.corp:5000".parse().unwrap();
    let told = TierFacts {
        hosts_with_port: vec!["reg.corp:5000".to_owned()],
    };
    let story = async {
        tokio::time::sleep(Duration::from_secs(6)).await;
        assert!(!facts.knows(&host));
        *pull.supply.facts.lock().unwrap() = Some(told);
        tokio::time::sleep(Duration::from_secs(6)).await;
        assert!(facts.knows(&host));
        *pull.supply.facts.lock().unwrap() = None;
        tokio::time::sleep(Duration::from_secs(600)).await;
        assert!(facts.knows(&host));
    };
    tokio::select! {
        never = facts.run(&pull) => match never {},
        () = story => (),
    }
}

#[tokio::test(start_paused = true)]
async fn a_source_that_refuses_is_asked_again_with_what_the_tier_lends_and_only_then() {
    let body = content(10);
    for lent in [true, false] {
        let pull = pull();
        pull.supply.set(Supplier::Upstream, Behaviour::Fails(Failure::Denied));
        let answer = SourceAuthorization {
            authorization: lent.then(|| "Bearer t".to_owned()),
            seconds: 60,
        };
        *pull.supply.lent.lock().unwrap() = Some(Ok(answer));
        // Alive and without the content, as after a loss.
        for node in 0..NODES {
            pull.supply.set(Supplier::Node(node), Behaviour::Fails(Failure::Unable));
        }
        let found = pull.stat(&blob_ask(&body), Patience::AsLongAsItTakes).await;
        assert_eq!(found.unwrap_err(), Refusal::Denied);
        let asked = pull.supply.asked();
        let n_upstream = asked
            .iter()
            .filter(|(supplier, _)| *supplier == Supplier::Upstream)
            .count();
        assert_eq!(n_upstream, if lent { 2 } else { 1 });
        assert_eq!(pull.supply.lenders_asked.lock().unwrap().len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_that_hangs_holds_a_refused_pull_up_for_a_second_at_most() {
    let pull = pull();
    pull.supply.set(Supplier::Upstream, Behaviour::Fails(Failure::Denied));
    let started = Instant::now();
    let found = pull.stat(&blob_ask(&content(10)), Patience::AsLongAsItTakes).await;
    assert_eq!(found.unwrap_err(), Refusal::Denied);
    assert!(started.elapsed() <= Duration::from_secs(1), "{:?}", started.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_refusal_of_the_tier_ends_the_search_within_seconds_whatever_the_source_does() {
    let body = content(10);
    let pull = pull();
    for node in 0..NODES {
        pull.supply.set(Supplier::Node(node), Behaviour::Fails(Failure::Denied));
    }
    pull.supply.set(Supplier::Upstream, Behaviour::Hangs);
    let started = Instant::now();
    let found = pull.stat(&blob_ask(&body), Patience::AsLongAsItTakes).await;
    assert_eq!(found.unwrap_err(), Refusal::Denied);
    assert!(started.elapsed() <= Duration::from_secs(5), "{:?}", started.elapsed());
    assert_eq!(pull.supply.asked().len(), 2, "one node, and the source");
}
