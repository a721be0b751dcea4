//! What a task set promises about endings.

use std::future::pending;
use std::sync::mpsc;

use super::*;

fn recording_set() -> (TaskSet, mpsc::Receiver<TaskEnded>) {
    let (ended, endings) = mpsc::channel();
    let set = TaskSet::new(CancellationToken::new(), move |end| {
        ended.send(end).expect("the test holds the receiver");
    });
    (set, endings)
}

#[tokio::test(start_paused = true)]
async fn critical_task_that_returns_early_is_told_by_name() {
    let (set, endings) = recording_set();
    set.spawn_critical("listener", async {});
    tokio::task::yield_now().await;
    assert_eq!(endings.try_recv().unwrap(), TaskEnded::Returned { name: "listener" });
}

#[tokio::test(start_paused = true)]
async fn critical_panic_is_told_with_its_message() {
    let (set, endings) = recording_set();
    set.spawn_critical("writer", async { panic!("disk {}", "gone") });
    tokio::task::yield_now().await;
    let expected = TaskEnded::Panicked {
        name: "writer",
        message: "disk gone".to_owned(),
    };
    assert_eq!(endings.try_recv().unwrap(), expected);
}

#[tokio::test(start_paused = true)]
async fn critical_task_may_return_once_told_to_stop() {
    let (set, endings) = recording_set();
    let stop = set.stop_token();
    set.spawn_critical("listener", async move { stop.cancelled().await });
    set.stop(Duration::from_secs(1)).await.unwrap();
    assert!(endings.try_recv().is_err());
    assert!(set.is_empty());
}

#[tokio::test(start_paused = true)]
async fn ordinary_panic_ends_only_its_task() {
    let (set, endings) = recording_set();
    set.spawn("prefetch", async { panic!("no") });
    set.spawn_request(async { panic!("no") });
    set.stop(Duration::from_secs(1)).await.unwrap();
    assert!(endings.try_recv().is_err());
}

#[tokio::test(start_paused = true)]
async fn task_that_ignores_the_stop_is_named_and_then_aborted() {
    let (set, _endings) = recording_set();
    set.spawn("scrub", pending());
    set.spawn_request(pending());
    let still_running = set.stop(Duration::from_secs(5)).await.unwrap_err();
    assert_eq!(still_running.names, ["scrub"]);
    assert_eq!(still_running.count, 2);
    set.stop(Duration::from_secs(1)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn stop_waits_for_what_is_in_flight() {
    let (set, _endings) = recording_set();
    let (done, finished) = mpsc::channel();
    set.spawn_request(async move {
        tokio::time::sleep(Duration::from_secs(3)).await;
        done.send(()).expect("the test holds the receiver");
    });
    set.stop(Duration::from_secs(5)).await.unwrap();
    assert!(finished.try_recv().is_ok());
}
