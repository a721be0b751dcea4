//! Sources that die, fall silent, lie or say no.

use super::*;

#[tokio::test(start_paused = true)]
async fn next_source_goes_on_from_the_bytes_in_hand() {
    let kit = Kit::new();
    let content = content(3 * MIB);
    let dies = Script::of(&content).send(MIB + 17).fail();
    let reader = kit.attach(&content, [dies, Script::of(&content).rest()]).unwrap();
    assert!(read_all(reader.read(0, None)).await.unwrap() == content);
    assert_eq!(
        kit.opens(),
        [("source-0".into(), 0), ("source-1".into(), MIB as u64 + 17)]
    );
    assert_eq!(kit.failures()[0].received_bytes, MIB as u64 + 17);
    assert_eq!(kit.committed().await.source, "source-1");
}

#[tokio::test(start_paused = true)]
async fn source_that_ends_early_is_followed_by_the_next() {
    let kit = Kit::new();
    let content = content(MIB);
    let short = Script::of(&content).send(1000);
    let reader = kit.attach(&content, [short, Script::of(&content).rest()]).unwrap();
    assert!(read_all(reader.read(0, None)).await.unwrap() == content);
    assert_eq!(kit.opens()[1], ("source-1".into(), 1000));
}

#[tokio::test(start_paused = true)]
async fn flipped_byte_cuts_every_reader_short_and_keeps_nothing() {
    let kit = Kit::new();
    let content = content(3 * MIB);
    let mut flipped = content.to_vec();
    flipped[2 * MIB] ^= 1;
    let script = Script::of(&flipped.into()).send(MIB).sleep(1).rest();
    let readers: Vec<_> = (0..8)
        .map(|_| {
            kit.attach(&content, [script.clone(), Script::of(&content).rest()])
                .unwrap()
        })
        .collect();
    for (got, error) in join_all(readers.into_iter().map(|reader| read_until_error(reader.read(0, None)))).await {
        assert!(matches!(error, FillError::Corrupt(_)), "{error}");
        assert!(got.len() as u64 <= content.len() as u64 - TAIL_BYTES);
    }
    kit.settled().await;
    assert_eq!(kit.store.list(None, 10).await.unwrap(), []);
    // It was not remembered either.
    let reader = kit.attach(&content, [Script::of(&content).rest()]).unwrap();
    assert!(read_all(reader.read(0, None)).await.unwrap() == content);
}

#[tokio::test(start_paused = true)]
async fn wrong_bytes_that_nobody_saw_are_replaced_by_the_next_source() {
    let kit = Kit::new();
    let content = content(TAIL_BYTES as usize);
    let wrong = Script::of(&vec![0; content.len()].into()).rest();
    let reader = kit.attach(&content, [wrong, Script::of(&content).rest()]).unwrap();
    assert!(read_all(reader.read(0, None)).await.unwrap() == content);
    assert_eq!(kit.opens(), [("source-0".into(), 0), ("source-1".into(), 0)]);
    assert_eq!(kit.committed().await.blob.size_bytes, TAIL_BYTES);
}

#[tokio::test(start_paused = true)]
async fn length_of_a_source_that_lied_does_not_bind_the_next() {
    let kit = Kit::new();
    let content = content(TAIL_BYTES as usize);
    let lies = Script::of(&vec![0; 5].into()).rest();
    let honest = Script::of(&content).rest();
    let reader = kit.attach_sized(&content, None, [lies, honest]).unwrap();
    assert!(read_all(reader.read(0, None)).await.unwrap() == content);
    assert_eq!(kit.opens(), [("source-0".into(), 0), ("source-1".into(), 0)]);
}

#[tokio::test(start_paused = true)]
async fn source_that_announces_another_length_is_not_used() {
    let kit = Kit::new();
    let content = content(MIB);
    let lies = Script::of(&content).total(Some(5)).rest();
    let reader = kit.attach(&content, [lies, Script::of(&content).rest()]).unwrap();
    assert!(read_all(reader.read(0, None)).await.unwrap() == content);
    let error = &kit.failures()[0].error;
    assert!(matches!(error, SourceError::Corrupt { .. }), "{error}");
    assert_eq!(kit.failures()[0].received_bytes, 0);
}

#[tokio::test(start_paused = true)]
async fn bytes_beyond_the_announced_length_are_cut() {
    let kit = Kit::new();
    let content = content(MIB);
    let mut longer = content.to_vec();
    longer.extend_from_slice(b"and more");
    let script = Script::of(&longer.into()).total(Some(MIB as u64)).rest();
    let reader = kit.attach(&content, [script]).unwrap();
    assert!(read_all(reader.read(0, None)).await.unwrap() == content);
}

#[tokio::test(start_paused = true)]
async fn silence_of_a_living_source_opens_no_other() {
    let kit = Kit::new();
    let content = content(3 * MIB);
    let slow = Script::of(&content).send(MIB).sleep(20).send(2 * MIB).sleep(29).rest();
    let reader = kit.attach(&content, [slow, Script::of(&content).rest()]).unwrap();
    assert!(read_all(reader.read(0, None)).await.unwrap() == content);
    assert_eq!(kit.opens().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn silence_of_a_dead_source_leads_to_the_next_within_two_seconds() {
    let kit = Kit::new();
    let content = content(3 * MIB);
    let dies = Script::of(&content).send(MIB).sleep(600).dead();
    let started = tokio::time::Instant::now();
    let reader = kit.attach(&content, [dies, Script::of(&content).rest()]).unwrap();
    assert!(read_all(reader.read(0, None)).await.unwrap() == content);
    assert!(started.elapsed() <= Duration::from_secs(2), "{:?}", started.elapsed());
    assert_eq!(kit.failures()[0].error, SourceError::Dead);
}

#[tokio::test(start_paused = true)]
async fn thirty_seconds_without_progress_end_a_source_and_then_the_fill() {
    let kit = Kit::new();
    let content = content(3 * MIB);
    let stuck = Script::of(&content).send(MIB).sleep(600);
    let started = tokio::time::Instant::now();
    let reader = kit.attach(&content, [stuck.clone(), stuck]).unwrap();
    let (got, error) = read_until_error(reader.read(0, None)).await;
    assert!(got == content[..MIB]);
    let limit = Duration::from_secs(30);
    let no_progress = SourceError::NoProgress(limit);
    assert!(matches!(error, FillError::Source { error, .. } if error == no_progress));
    assert_eq!(started.elapsed().as_secs(), 60);
    assert_eq!(kit.opens()[1], ("source-1".into(), MIB as u64));
}

#[tokio::test(start_paused = true)]
async fn not_found_is_remembered_for_a_second_and_for_its_origin_only() {
    let kit = Kit::new();
    let content = content(MIB);
    let missing = || [Script::refusing(SourceError::NotFound)];
    let there = || [Script::of(&content).rest()];
    let error = kit.attach(&content, missing()).unwrap().first_byte().await.unwrap_err();
    assert!(error.is_not_found(), "{error}");
    let error = kit.attach(&content, there()).unwrap().size().await.unwrap_err();
    assert!(error.is_not_found(), "{error}");
    assert_eq!(kit.opens().len(), 1);

    let other = kit.attach_as("other", &content, there()).unwrap();
    assert!(read_all(other.read(0, None)).await.unwrap() == content);
    assert_eq!(kit.opens().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn not_found_is_asked_again_after_a_second_and_other_failures_at_once() {
    let kit = Kit::new();
    let content = content(MIB);
    let why = "503".to_owned();
    let down = SourceError::Unavailable { why, after: None };
    for error in [down, SourceError::NotFound] {
        let mut reader = kit.attach(&content, [Script::refusing(error)]).unwrap();
        reader.first_byte().await.unwrap_err();
    }
    assert_eq!(kit.opens().len(), 2);
    tokio::time::sleep(Duration::from_millis(1001)).await;
    let reader = kit.attach(&content, [Script::of(&content).rest()]).unwrap();
    assert!(read_all(reader.read(0, None)).await.unwrap() == content);
}

#[tokio::test(start_paused = true)]
async fn nobody_is_refused_for_what_another_repository_lacks() {
    let kit = Kit::new();
    let content = content(MIB);
    let missing = Script::of(&content).sleep(1).step(Step::Fail(SourceError::NotFound));
    let first = kit.attach_as("first", &content, [missing]).unwrap();
    let second = kit
        .attach_as("second", &content, [Script::of(&content).rest()])
        .unwrap();
    let (first, second) = tokio::join!(read_all(first.read(0, None)), read_all(second.read(0, None)));
    assert!(second.unwrap() == content);
    // The bytes are there, so the first gets them as well; whether it may is not the fill's question.
    assert!(first.unwrap() == content);
}

#[tokio::test(start_paused = true)]
async fn each_origin_is_told_what_its_own_sources_said() {
    let kit = Kit::new();
    let content = content(MIB);
    let missing = Script::of(&content).sleep(1).step(Step::Fail(SourceError::NotFound));
    let why = "401".to_owned();
    let denied = Script::refusing(SourceError::Denied { why: why.clone() });
    let mut first = kit.attach_as("first", &content, [missing]).unwrap();
    let mut second = kit.attach_as("second", &content, [denied]).unwrap();
    let (first, second) = tokio::join!(first.first_byte(), second.first_byte());
    assert!(first.unwrap_err().is_not_found());
    let denied = SourceError::Denied { why };
    assert!(matches!(second.unwrap_err(), FillError::Source { error, .. } if error == denied));
}

#[tokio::test(start_paused = true)]
async fn a_plan_without_sources_and_a_digest_nobody_can_check_fail_at_once() {
    let kit = Kit::new();
    let error = kit.attach(&content(10), []).unwrap().first_byte().await.unwrap_err();
    assert!(matches!(error, FillError::NoSource), "{error}");
    let unknown: Digest = "blake3:abcdef".parse().unwrap();
    let sources = kit.sources([Script::of(&content(10)).rest()]);
    let plan = FillPlan {
        origin: "origin".into(),
        size_bytes: None,
        sources,
    };
    let error = kit.fills.attach(&unknown, plan).unwrap().size().await.unwrap_err();
    assert!(matches!(error, FillError::Unsupported(_)), "{error}");
}
