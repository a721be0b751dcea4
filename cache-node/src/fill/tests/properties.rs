//! Whatever the sources do, a reader gets the blob's bytes or ends short.

use std::ops::Range;

use proptest::prelude::*;

use super::*;

const SIZE: usize = 600_000;

#[derive(Clone, Debug)]
enum Deed {
    Honest,
    DiesAt(usize),
    EndsAt(usize),
    FlipsAt(usize),
    SilentAt(usize),
    Refuses,
}

impl Deed {
    fn script(&self, content: &bytes::Bytes) -> Script {
        let script = Script::of(content);
        match *self {
            Self::Honest => script.rest(),
            Self::DiesAt(at) => script.send(at).fail(),
            Self::EndsAt(at) => script.send(at),
            Self::SilentAt(at) => script.send(at).sleep(100).rest(),
            Self::Refuses => Script::refusing(SourceError::NotFound),
            Self::FlipsAt(at) => {
                let mut flipped = content.to_vec();
                flipped[at] ^= 1;
                Script::of(&flipped.into()).rest()
            }
        }
    }
}

fn deed() -> impl Strategy<Value = Deed> {
    let at = || prop_oneof![0..SIZE, SIZE - 10..SIZE];
    prop_oneof![
        Just(Deed::Honest),
        at().prop_map(Deed::DiesAt),
        at().prop_map(Deed::EndsAt),
        at().prop_map(Deed::FlipsAt),
        at().prop_map(Deed::SilentAt),
        Just(Deed::Refuses),
    ]
}

fn part() -> impl Strategy<Value = Range<usize>> {
    (0..=SIZE, 0..=SIZE).prop_map(|(a, b)| a.min(b)..a.max(b))
}

async fn check(deeds: Vec<Deed>, parts: Vec<Range<usize>>, quota: Option<u64>, sized: bool) {
    let kit = Kit::new();
    kit.store.set_quota(quota);
    let content = content(SIZE);
    let scripts: Vec<_> = deeds.iter().map(|deed| deed.script(&content)).collect();
    let reads = parts.iter().map(|part| {
        let size = sized.then_some(SIZE as u64);
        let reader = kit.attach_sized(&content, size, scripts.clone()).unwrap();
        kit::read(reader.read(part.start as u64, Some(part.end as u64)))
    });
    let results = join_all(reads.collect::<Vec<_>>()).await;
    let good = deeds.iter().position(|deed| matches!(deed, Deed::Honest));
    let first_flip = deeds.iter().position(|deed| matches!(deed, Deed::FlipsAt(_)));
    for (part, (got, error)) in parts.iter().zip(results) {
        match error {
            None => assert!(got == content[part.clone()], "complete and wrong: {part:?}"),
            Some(_) => assert!(got.len() < part.len(), "complete and failed: {part:?}"),
        }
        if good.is_some() && first_flip.is_none() {
            assert_eq!(got.len(), part.len(), "an honest source was not used: {part:?}");
        }
    }
    kit.settled().await;
    for stat in kit.store.list(None, 10).await.unwrap() {
        assert!(get(&kit.store, &stat.key, 0..stat.size_bytes).await.unwrap() == content);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn readers_get_the_blob_or_end_short(
        deeds in proptest::collection::vec(deed(), 1..4),
        parts in proptest::collection::vec(part(), 1..4),
        quota in prop_oneof![Just(None), (0..SIZE as u64).prop_map(Some)],
        sized: bool,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(check(deeds, parts, quota, sized));
    }
}
