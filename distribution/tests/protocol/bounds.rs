//! Clients that stall, dribble or crowd are shown the door; slow ones that get on are not.

use std::time::Duration;

use bytes::Bytes;
use distribution::Limits;
use oci::ErrorCode;
use tokio::io::AsyncReadExt;
use tokio::time::{sleep, timeout};

use crate::memory::{MemoryRegistry, Step, nginx, script_path};
use crate::wire::{DEADLINE, Wire, get};

const SHORT: Duration = Duration::from_millis(200);

fn large() -> MemoryRegistry {
    let steps = vec![Step::Bytes(Bytes::from(vec![0; 1 << 20])); 64];
    MemoryRegistry::default().script(b"large", Some(64 << 20), steps)
}

#[tokio::test]
async fn an_idle_connection_is_closed() {
    let served = nginx()
        .serve_within(Limits {
            idle: SHORT,
            ..Limits::default()
        })
        .await;
    let mut wire = Wire::connect(served.server.address()).await;
    wire.request("GET", "/v2/", &[]).await;
    assert_eq!(wire.answer().await.status, 200);
    assert!(wire.closed().await);
}

#[tokio::test]
async fn a_head_that_never_ends_is_given_up() {
    let served = nginx()
        .serve_within(Limits {
            header_read: SHORT,
            ..Limits::default()
        })
        .await;
    let mut wire = Wire::connect(served.server.address()).await;
    wire.send(b"GET /v2/ HTTP/1.1\r\nhost: ").await;
    assert!(wire.closed().await);
}

#[tokio::test]
async fn a_client_that_stops_reading_is_cut() {
    let served = large()
        .serve_within(Limits {
            write_stall: SHORT,
            ..Limits::default()
        })
        .await;
    let mut wire = Wire::connect(served.server.address()).await;
    wire.request("GET", &script_path(b"large"), &[]).await;
    // The server has nobody to tell: wait until it has dropped the connection, then find the body short.
    sleep(5 * SHORT).await;
    let mut n_bytes = 0;
    let mut buffer = vec![0; 1 << 20];
    let reading = async {
        while let Ok(n) = wire.stream.read(&mut buffer).await
            && n > 0
        {
            n_bytes += n;
        }
    };
    timeout(DEADLINE, reading).await.expect("an end in time");
    assert!(n_bytes < 64 << 20, "{n_bytes}");
}

#[tokio::test]
async fn a_client_that_reads_slowly_is_not_cut() {
    let served = large()
        .serve_within(Limits {
            write_stall: 3 * SHORT,
            ..Limits::default()
        })
        .await;
    let mut wire = Wire::connect(served.server.address()).await;
    wire.request("GET", &script_path(b"large"), &[]).await;
    assert_eq!(wire.head().await.status, 200);
    let mut n_bytes = wire.buffered();
    let mut buffer = vec![0; 8 << 20];
    for _ in 0..6 {
        sleep(SHORT).await;
        let mut left = 6 << 20;
        while left > 0 {
            let n = timeout(DEADLINE, wire.stream.read(&mut buffer[..left]))
                .await
                .unwrap()
                .unwrap();
            assert!(n > 0, "cut after {n_bytes} bytes");
            (n_bytes, left) = (n_bytes + n, left - n);
        }
    }
    let reading = async {
        while n_bytes < 64 << 20 {
            n_bytes += wire.stream.read(&mut buffer).await.unwrap();
        }
    };
    timeout(DEADLINE, reading).await.expect("the rest in time");
}

#[tokio::test]
async fn an_answer_that_never_comes_is_given_up() {
    let registry = MemoryRegistry::default().script(b"x", Some(10), vec![Step::Hang]);
    let served = registry
        .serve_within(Limits {
            silence: SHORT,
            ..Limits::default()
        })
        .await;
    let mut wire = Wire::connect(served.server.address()).await;
    wire.request("GET", &script_path(b"x"), &[]).await;
    assert!(wire.closed().await);
}

#[tokio::test]
async fn work_for_a_client_that_went_away_is_dropped() {
    for steps in [
        vec![Step::Hang],
        vec![Step::Bytes(Bytes::from_static(b"abc")), Step::Hang],
    ] {
        let served = MemoryRegistry::default().script(b"x", Some(10), steps).serve().await;
        let mut wire = Wire::connect(served.server.address()).await;
        wire.request("GET", &script_path(b"x"), &[]).await;
        let until = |hanging: bool| {
            let registry = &served.registry;
            async move {
                while (registry.hanging() > 0) != hanging {
                    sleep(Duration::from_millis(5)).await;
                }
            }
        };
        timeout(DEADLINE, until(true)).await.expect("the reader hangs");
        drop(wire);
        timeout(DEADLINE, until(false)).await.expect("the reader is dropped");
    }
}

#[tokio::test]
async fn a_connection_too_many_is_told_to_go_elsewhere() {
    let served = nginx()
        .serve_within(Limits {
            connections_max: 1,
            ..Limits::default()
        })
        .await;
    let mut first = Wire::connect(served.server.address()).await;
    first.request("GET", "/v2/", &[]).await;
    assert_eq!(first.answer().await.status, 200);

    let mut second = Wire::connect(served.server.address()).await;
    let answer = second.answer().await;
    assert_eq!(
        (answer.status, answer.error(), answer.cut),
        (503, ErrorCode::Unavailable, false)
    );
    assert!(second.closed().await);

    drop(first);
    let freed = async { while get(served.server.address(), "/v2/").await.status != 200 {} };
    timeout(DEADLINE, freed).await.expect("a place becomes free");
}
