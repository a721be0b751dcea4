//! Connections: kept, pipelined, full of garbage, with bodies nobody asked for.

use std::sync::Arc;

use distribution::{Body, Client, Routes, Server};
use http::request::Parts;
use hyper::body::Incoming;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

use crate::memory::{MANIFEST, NAME, blob_bytes, blob_path, nginx};
use crate::wire::{Wire, ask, get};

#[tokio::test]
async fn a_connection_is_kept_between_requests() {
    let served = nginx().serve().await;
    let mut wire = Wire::connect(served.server.address()).await;
    for target in [
        blob_path(),
        format!("/v2/{NAME}/manifests/latest"),
        "/v2/UPPER/manifests/x".to_owned(),
    ] {
        wire.request("GET", &target, &[]).await;
        let answer = wire.answer().await;
        assert_eq!(answer.header("connection"), None);
        wire.request("HEAD", &target, &[]).await;
        assert_eq!(wire.answer_to("HEAD").await.status, answer.status);
    }
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let served = nginx().serve().await;
    let mut wire = Wire::connect(served.server.address()).await;
    let blob = format!("GET {} HTTP/1.1\r\nhost: x\r\n\r\n", blob_path());
    let manifest = format!("GET /v2/{NAME}/manifests/latest HTTP/1.1\r\nhost: x\r\n\r\n");
    let missing = format!("GET /v2/{NAME}/manifests/other HTTP/1.1\r\nhost: x\r\n\r\n");
    wire.send([blob, manifest, missing].concat().repeat(20).as_bytes())
        .await;
    for _ in 0..20 {
        assert_eq!(wire.answer().await.body, blob_bytes());
        assert_eq!(wire.answer().await.body, MANIFEST);
        assert_eq!(wire.answer().await.status, 404);
    }
}

#[tokio::test]
async fn a_request_may_arrive_byte_by_byte() {
    let served = nginx().serve().await;
    let mut wire = Wire::connect(served.server.address()).await;
    wire.stream.set_nodelay(true).unwrap();
    for byte in format!("GET {} HTTP/1.1\r\nhost: x\r\n\r\n", blob_path()).bytes() {
        wire.send(&[byte]).await;
        tokio::task::yield_now().await;
    }
    assert_eq!(wire.answer().await.body, blob_bytes());
}

#[tokio::test]
async fn garbage_is_answered_with_400_and_a_closed_connection() {
    let served = nginx().serve().await;
    for garbage in [
        &b"\x00\x01\x02\x03\r\n\r\n"[..],
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"G ET / HTTP/1.1\r\n\r\n",
    ] {
        let mut wire = Wire::connect(served.server.address()).await;
        wire.send(garbage).await;
        assert_eq!(wire.answer().await.status, 400);
        assert!(wire.closed().await);
    }
}

#[tokio::test]
async fn half_a_request_harms_nobody() {
    let served = nginx().serve().await;
    let mut wire = Wire::connect(served.server.address()).await;
    wire.send(b"GET /v2/ HTTP/1.1\r\nhos").await;
    wire.stream.shutdown().await.unwrap();
    drop(wire);
    assert_eq!(get(served.server.address(), "/v2/").await.status, 200);
}

// G-12
#[tokio::test]
async fn a_small_unwanted_body_leaves_the_connection_usable() {
    let served = nginx().serve().await;
    let mut wire = Wire::connect(served.server.address()).await;
    wire.request("PUT", "/v2/not/there/manifests/x", &["content-length: 100000"])
        .await;
    wire.send(&vec![b'x'; 100_000]).await;
    assert_eq!(wire.answer().await.status, 405);
    wire.request(
        "PATCH",
        "/v2/not/there/blobs/uploads/x",
        &["transfer-encoding: chunked"],
    )
    .await;
    wire.send(b"5\r\nabcde\r\n0\r\n\r\n").await;
    assert_eq!(wire.answer().await.status, 405);
    wire.request("GET", &blob_path(), &[]).await;
    assert_eq!(wire.answer().await.body, blob_bytes());
}

// G-12
#[tokio::test]
async fn a_large_unwanted_body_ends_the_connection_after_the_answer() {
    let served = nginx().serve().await;
    let mut wire = Wire::connect(served.server.address()).await;
    wire.request("PUT", "/v2/not/there/manifests/x", &["content-length: 104857600"])
        .await;
    wire.send(&vec![b'x'; 3 << 20]).await;
    let answer = wire.answer().await;
    assert_eq!((answer.status, answer.header("connection")), (405, Some("close")));
    assert!(wire.closed().await);
}

// G-13
#[tokio::test]
async fn an_upload_that_waits_for_leave_is_refused_without_waiting() {
    let served = nginx().serve().await;
    let mut wire = Wire::connect(served.server.address()).await;
    let headers = ["content-length: 100", "expect: 100-continue"];
    wire.request("PUT", "/v2/not/there/manifests/x", &headers).await;
    let answer = wire.answer().await;
    assert_eq!((answer.status, answer.header("connection")), (405, Some("close")));
}

#[tokio::test]
async fn a_head_over_the_bound_is_431() {
    let served = nginx().serve().await;
    let header = format!("x-long: {}", "x".repeat(80 * 1024));
    assert_eq!(
        ask(served.server.address(), "GET", "/v2/", &[&header]).await.status,
        431
    );
    let header = format!("authorization: Bearer {}", "x".repeat(16 * 1024));
    assert_eq!(
        ask(served.server.address(), "GET", "/v2/", &[&header]).await.status,
        200
    );
}

struct Internal;

impl Routes for Internal {
    fn claims(&self, head: &Parts) -> bool {
        head.uri.path().starts_with("/kuik/")
    }

    async fn handle(&self, head: Parts, _body: Incoming, client: Client) -> http::Response<Body> {
        assert_eq!(client, Client::Plain);
        http::Response::new(Body::full(head.uri.path().to_owned()))
    }
}

#[tokio::test]
async fn claimed_requests_are_answered_by_the_routes() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = Server::new(Arc::new(nginx()))
        .routes(Arc::new(Internal))
        .start(listener)
        .unwrap();
    assert_eq!(get(server.address(), "/kuik/v1/x").await.body, b"/kuik/v1/x");
    assert_eq!(get(server.address(), &blob_path()).await.body, blob_bytes());
}
