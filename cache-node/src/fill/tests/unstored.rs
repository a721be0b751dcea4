//! Fills of a node whose disk is full.

use super::*;

#[tokio::test(start_paused = true)]
async fn disk_that_fills_up_midway_ends_the_storing_and_not_the_pull() {
    let kit = Kit::new();
    kit.store.set_quota(Some(4 * MIB as u64));
    let content = content(20 * MIB);
    let script = Script::of(&content).send(3 * MIB).sleep(1).rest();
    let readers: Vec<_> = (0..5)
        .map(|_| kit.attach_sized(&content, None, [script.clone()]).unwrap())
        .collect();
    for got in join_all(readers.into_iter().map(|reader| read_all(reader.read(0, None)))).await {
        assert!(got.unwrap() == content);
    }
    kit.settled().await;
    assert_eq!(kit.store.list(None, 10).await.unwrap(), []);
    assert_eq!(kit.opens().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn flipped_byte_is_noticed_without_a_disk() {
    let kit = Kit::new();
    kit.store.set_quota(Some(0));
    let content = content(3 * MIB);
    let mut flipped = content.to_vec();
    flipped[5] ^= 1;
    let reader = kit.attach(&content, [Script::of(&flipped.into()).rest()]).unwrap();
    let (got, error) = read_until_error(reader.read(0, None)).await;
    assert!(matches!(error, FillError::Corrupt(_)), "{error}");
    assert!(got.len() as u64 <= content.len() as u64 - TAIL_BYTES);
}

#[tokio::test(start_paused = true)]
async fn who_comes_too_late_for_the_memory_of_it_gets_a_fetch_of_their_own() {
    let kit = Kit::new();
    kit.store.set_quota(Some(0));
    let content = content(30 * MIB);
    let script = Script::of(&content).send(25 * MIB).sleep(10).rest();
    let mut first = kit.attach(&content, [script.clone()]).unwrap().read(0, None);
    let mut got = 0;
    while got < 25 * MIB {
        got += first.next().await.unwrap().unwrap().len();
    }
    assert!(!kit.fills.status()[0].storing);
    let second = kit.attach(&content, [script]).unwrap();
    assert!(read_all(second.read(0, None)).await.unwrap() == content);
    assert_eq!(kit.opens().len(), 2);
    let rest = read_all(first).await.unwrap();
    assert!(rest == content[got..]);
}

#[tokio::test(start_paused = true)]
async fn stuck_reader_is_left_behind_but_a_lone_slow_one_is_not() {
    let kit = Kit::new();
    kit.store.set_quota(Some(0));
    let content = content(40 * MIB);
    let script = Script::of(&content).rest();
    let stuck = kit.attach(&content, [script.clone()]).unwrap().read(0, None);
    let moving = kit.attach(&content, [script.clone()]).unwrap();
    let started = tokio::time::Instant::now();
    assert!(read_all(moving.read(0, None)).await.unwrap() == content);
    assert!(started.elapsed() <= Duration::from_secs(10));
    let (_, error) = read_until_error(stuck).await;
    assert!(matches!(error, FillError::Lagged), "{error}");

    let mut slow = kit.attach(&content, [script]).unwrap().read(0, None);
    let mut got = slow.next().await.unwrap().unwrap().to_vec();
    tokio::time::sleep(Duration::from_secs(300)).await;
    got.extend(read_all(slow).await.unwrap());
    assert!(got == content);
}

#[tokio::test(start_paused = true)]
async fn what_is_neither_stored_nor_read_is_not_fetched() {
    let kit = Kit::new();
    kit.store.set_quota(Some(0));
    let content = content(10 * MIB);
    let script = Script::of(&content).send(MIB).sleep(20).rest();
    drop(kit.attach(&content, [script]).unwrap());
    kit.settled().await;
    assert_eq!(kit.store.list(None, 10).await.unwrap(), []);
    assert_eq!(kit.fills.status(), []);
}

#[tokio::test(start_paused = true)]
async fn full_disk_at_commit_is_no_error_for_readers() {
    let store = MemoryBlobStore::default();
    let kit = Kit::over(Arc::new(store.clone()), store, FillLimits::default());
    let content = content(2 * MIB);
    let script = Script::of(&content).send(2 * MIB - 1).sleep(1).rest();
    let reader = kit.attach(&content, [script]).unwrap();
    let (_, got) = tokio::join!(
        async {
            tokio::time::sleep(Duration::from_millis(500)).await;
            kit.store.set_quota(Some(0));
        },
        read_all(reader.read(0, None)),
    );
    assert!(got.unwrap() == content);
    kit.settled().await;
    assert_eq!(kit.store.list(None, 10).await.unwrap(), []);
}
