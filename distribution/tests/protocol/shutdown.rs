//! Shutdown: refuse new connections first, finish what is in flight, cut what does not finish.

use std::io::ErrorKind;
use std::time::Duration;

use bytes::Bytes;
use distribution::Limits;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use crate::memory::{MemoryRegistry, Step, nginx, script_path};
use crate::wire::{DEADLINE, Wire};

const SIZE: usize = 32 << 20;

fn large() -> MemoryRegistry {
    let steps = vec![Step::Bytes(Bytes::from(vec![9; 1 << 20])); SIZE >> 20];
    MemoryRegistry::default().script(b"large", Some(SIZE as u64), steps)
}

// G-20
#[tokio::test]
async fn new_connections_are_refused_while_answers_in_flight_finish() {
    let served = large().serve().await;
    let address = served.server.address();
    let mut wire = Wire::connect(address).await;
    wire.request("GET", &script_path(b"large"), &[]).await;
    let mut first = [0];
    wire.stream.read_exact(&mut first).await.unwrap();

    let shutdown = tokio::spawn(served.server.shutdown());
    let refused = async {
        while !matches!(TcpStream::connect(address).await, Err(err) if err.kind() == ErrorKind::ConnectionRefused) {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(DEADLINE, refused).await.expect("the listener is closed");
    assert!(!shutdown.is_finished());

    let mut rest = Vec::new();
    timeout(DEADLINE, wire.stream.read_to_end(&mut rest))
        .await
        .unwrap()
        .unwrap();
    assert!(rest.len() > SIZE);
    drop(wire);
    timeout(DEADLINE, shutdown).await.expect("shutdown ends").unwrap();
}

#[tokio::test]
async fn idle_connections_do_not_hold_up_shutdown() {
    let served = nginx().serve().await;
    let fresh = Wire::connect(served.server.address()).await;
    let mut used = Wire::connect(served.server.address()).await;
    used.request("GET", "/v2/", &[]).await;
    assert_eq!(used.answer().await.status, 200);
    let start = Instant::now();
    served.server.shutdown().await;
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    drop((fresh, used));
}

#[tokio::test]
async fn a_connection_that_was_accepted_gets_its_answer_and_is_closed() {
    let served = nginx().serve().await;
    let mut fresh = Wire::connect(served.server.address()).await;
    // Answered, so what connected before it is accepted.
    let mut used = Wire::connect(served.server.address()).await;
    used.request("GET", "/v2/", &[]).await;
    assert_eq!(used.answer().await.status, 200);
    let address = served.server.address();
    let shutdown = tokio::spawn(served.server.shutdown());
    let refused = async {
        while TcpStream::connect(address).await.is_ok() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(DEADLINE, refused).await.expect("the listener is closed");
    fresh.request("GET", "/v2/", &[]).await;
    let answer = fresh.answer().await;
    assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
    assert_eq!(fresh.stream.read(&mut [0]).await.unwrap(), 0, "closed");
    timeout(DEADLINE, shutdown).await.expect("shutdown ends").unwrap();
}

#[tokio::test]
async fn what_outlives_the_grace_period_is_cut() {
    let limits = Limits {
        grace: Duration::from_millis(100),
        ..Limits::default()
    };
    let steps = vec![Step::Bytes(Bytes::from_static(b"abc")), Step::Hang];
    let served = MemoryRegistry::default()
        .script(b"x", Some(10), steps)
        .serve_within(limits)
        .await;
    let mut wire = Wire::connect(served.server.address()).await;
    wire.request("GET", &script_path(b"x"), &[]).await;
    let mut first = [0; 12];
    wire.stream.read_exact(&mut first).await.unwrap();
    timeout(DEADLINE, served.server.shutdown())
        .await
        .expect("shutdown ends");
    let mut rest = Vec::new();
    let _ = timeout(DEADLINE, wire.stream.read_to_end(&mut rest))
        .await
        .expect("the connection ends");
    assert!(rest.ends_with(b"abc"));
}
