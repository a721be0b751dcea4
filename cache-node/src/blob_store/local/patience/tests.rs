use std::sync::mpsc;

use super::*;

const SHORT: Duration = Duration::from_millis(20);

/// Begins a job that is given up. It ends when something is sent.
async fn give_up(patience: &Arc<Patience>) -> mpsc::Sender<()> {
    let (release, released) = mpsc::channel::<()>();
    let waited = patience.run(SHORT, move || released.recv().is_ok()).await;
    assert_eq!(waited.unwrap_err().kind(), io::ErrorKind::TimedOut);
    assert!(patience.is_lost());
    release
}

#[tokio::test]
async fn who_waits_for_a_disk_that_hangs_is_let_go_and_nobody_follows_until_it_answers() {
    let patience = Arc::new(Patience::default());
    let release = give_up(&patience).await;

    let refused = patience.run(COMMIT, || unreachable!("the disk hangs")).await;

    assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::TimedOut);
    release.send(()).unwrap();
    assert_eq!(patience.run(COMMIT, || 7).await.unwrap(), 7);
    assert!(!patience.is_lost());
}

#[tokio::test]
async fn a_disk_that_was_only_slow_refuses_nobody() {
    let patience = Arc::new(Patience::default());
    let release = give_up(&patience).await;

    let follows = patience.run(COMMIT, || 7);
    let ends = async {
        tokio::task::yield_now().await;
        release.send(()).unwrap();
    };

    assert_eq!(tokio::join!(follows, ends).0.unwrap(), 7);
}

#[tokio::test]
async fn a_disk_that_hangs_for_long_costs_nobody_a_wait() {
    let patience = Arc::new(Patience::default());
    let _release = give_up(&patience).await;
    let aged = |lost: &mut Lost| lost.since = lost.since.and_then(|since| since.checked_sub(SLOW_MAX));
    patience.lost.send_modify(aged);

    let refused = timeout(GRACE / 2, patience.run(COMMIT, || unreachable!("the disk hangs"))).await;

    let refused = refused.expect("an answer at once");
    assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::TimedOut);
}

#[test]
fn waiting_for_a_thread_is_no_sign_of_a_disk_that_hangs() {
    let one_thread = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .max_blocking_threads(1)
        .build()
        .unwrap();
    one_thread.block_on(async {
        let patience = Arc::new(Patience::default());
        let (release, released) = mpsc::channel::<()>();
        let other = spawn_blocking(move || released.recv().is_ok());

        let waited = patience
            .run(SHORT, || unreachable!("nobody waits for it any more"))
            .await;

        assert_eq!(waited.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert!(!patience.is_lost());
        // A thread that comes late leaves the work all the time it has.
        let late = patience.run(COMMIT, || 7);
        let freed = async { release.send(()).unwrap() };
        assert_eq!(tokio::join!(late, freed).0.unwrap(), 7);
        assert!(other.await.unwrap());
        assert_eq!(patience.lost.borrow().n, 0);
    });
}
