//! Manifests: who is asked, what a miss means, and that tags do not go back in time.

use distribution::{CacheIndex, Notes};
use oci::MediaType;

use super::*;

const BYTES: &[u8] = br#"{"schemaVersion":2}"#;

fn answer(index: Option<u64>) -> ManifestAnswer {
    let cache_index = index.map(|index| CacheIndex { epoch: 1, index });
    ManifestAnswer {
        media_type: MediaType::OCI_MANIFEST.parse().unwrap(),
        digest: Digest::sha256(BYTES),
        size: BYTES.len() as u64,
        bytes: Bytes::from_static(BYTES),
        notes: Notes {
            cache_index,
            ..Notes::from_source(Source::Local)
        },
    }
}

fn by_tag() -> ManifestAsk {
    let reference = ManifestReference::Tag("v1".parse().unwrap());
    ManifestAsk {
        repository: repository(),
        reference,
        head: false,
        cache_index: None,
    }
}

async fn get(pull: &Pull<ScriptedSupply>) -> Result<ManifestAnswer, Refusal> {
    pull.manifest(by_tag(), Patience::AsLongAsItTakes).await
}

fn nodes(pull: &Pull<ScriptedSupply>) -> Vec<Supplier> {
    pull.ring
        .order(b"quay.io/a/b:v1")
        .into_iter()
        .map(Supplier::Node)
        .collect()
}

#[tokio::test(start_paused = true)]
async fn with_the_tier_stopped_the_source_registry_answers() {
    let pull = pull();
    pull.supply.set(Supplier::Upstream, Behaviour::Answers(answer(None)));
    assert_eq!(get(&pull).await.unwrap().bytes, BYTES);
}

#[tokio::test(start_paused = true)]
async fn a_miss_counts_only_when_the_source_registry_confirms_it() {
    let pull = pull();
    pull.supply.set(nodes(&pull)[0], Behaviour::Fails(Failure::Missing));
    pull.supply.set(Supplier::Upstream, Behaviour::Answers(answer(None)));
    assert!(get(&pull).await.is_ok());
    pull.supply.set(Supplier::Upstream, Behaviour::Fails(Failure::Absent));
    assert_eq!(get(&pull).await.unwrap_err(), Refusal::NotFound);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_behind_is_passed_over() {
    let pull = pull();
    let nodes = nodes(&pull);
    pull.supply.set(nodes[0], Behaviour::Answers(answer(Some(7))));
    assert_eq!(get(&pull).await.unwrap().notes.cache_index.unwrap().index, 7);
    pull.supply.set(nodes[0], Behaviour::Answers(answer(Some(6))));
    pull.supply.set(nodes[1], Behaviour::Answers(answer(Some(8))));
    assert_eq!(get(&pull).await.unwrap().notes.cache_index.unwrap().index, 8);
}

#[tokio::test(start_paused = true)]
async fn when_nobody_knows_better_an_old_answer_says_that_it_is_stale() {
    let pull = pull();
    let nodes = nodes(&pull);
    pull.supply.set(nodes[0], Behaviour::Answers(answer(Some(7))));
    get(&pull).await.unwrap();
    pull.supply.set(nodes[0], Behaviour::Answers(answer(Some(6))));
    let stale = get(&pull).await.unwrap();
    assert_eq!(stale.notes.warning, Some(Warning::Stale));
}

#[tokio::test(start_paused = true)]
async fn a_silent_source_registry_is_not_waited_for_twice() {
    let pull = pull();
    pull.supply
        .set(nodes(&pull)[0], Behaviour::Fails(Failure::SourceSilent));
    pull.supply.set(Supplier::Upstream, Behaviour::Hangs);
    let started = tokio::time::Instant::now();
    assert_eq!(get(&pull).await.unwrap_err(), Refusal::TimedOut);
    assert_eq!(started.elapsed(), search::AFTER_SILENCE);
}

#[tokio::test(start_paused = true)]
async fn refusals_of_the_source_registry_keep_their_meaning() {
    for (failure, refusal) in [
        (Failure::Denied, Refusal::Denied),
        (Failure::Unable, Refusal::Unavailable),
        (Failure::SourceSilent, Refusal::TimedOut),
    ] {
        let pull = pull();
        pull.supply.set(Supplier::Upstream, Behaviour::Fails(failure));
        assert_eq!(get(&pull).await.unwrap_err(), refusal, "{failure:?}");
    }
}
