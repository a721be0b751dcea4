//! The client between our own parts: headers, and telling a slow node from a dead one.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

mod support;

use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt;
use http::Method;
use oci::{Digest, Repository};
use support::{INDEX, MANIFEST, Reply, Server, hang, manifest, reply, tag};
use tokio::time::Instant;
use upstream::{NodeCall, NodeClient, NodeTransport, NodeUrl, SilencePolicy, UpstreamError};

const BLOB: &[u8] = b"0123456789";
const QUIET: Duration = Duration::from_millis(50);
/// Long enough for a busy machine to answer, short beside a test.
const PING: Duration = Duration::from_millis(800);

fn client() -> NodeClient {
    let silence = SilencePolicy {
        quiet_after: QUIET,
        ping_deadline: PING,
        progress_deadline: Duration::from_secs(20),
    };
    NodeClient::new(NodeTransport {
        silence,
        connect_timeout: Duration::from_secs(5),
        ..NodeTransport::default()
    })
}

fn url(server: &Server) -> NodeUrl {
    server.url().parse().unwrap()
}

fn repository() -> Repository {
    Repository::new("registry.corp:5000".parse().unwrap(), "team/app".parse().unwrap())
}

fn call() -> NodeCall {
    NodeCall {
        hop: 2,
        cache_index: Some("3:17".into()),
    }
}

/// A node that answers pings at once and everything else as told.
async fn node(answer: impl Fn() -> Reply + Send + Sync + 'static) -> Server {
    Server::start(move |seen| if seen.path == "/v2/" { reply(200) } else { answer() }).await
}

async fn fetch(node: &Server, offset: u64) -> Result<Vec<u8>, UpstreamError> {
    let digest = Digest::sha256(BLOB);
    let found = client()
        .get_blob(&url(node), &repository(), &digest, offset, &call())
        .await?;
    let chunks: Vec<Bytes> = found.blob.stream.try_collect().await?;
    Ok(chunks.concat())
}

#[tokio::test]
async fn what_travels_between_parts_arrives_and_comes_back() {
    let node = node(|| {
        manifest()
            .header("x-cache-index", "3:18")
            .header("x-kuik-source", "peer")
            .header("warning", r#"110 - "Response is Stale""#)
    })
    .await;
    let found = client()
        .manifest(&url(&node), Method::GET, &repository(), &tag("v1"), &call())
        .await
        .unwrap();
    assert_eq!(
        (found.bytes.as_ref(), found.digest, found.media_type.as_str()),
        (MANIFEST, Digest::sha256(MANIFEST), INDEX)
    );
    assert_eq!(
        (found.notes.cache_index.as_deref(), found.notes.source.as_deref()),
        (Some("3:18"), Some("peer"))
    );
    assert!(found.notes.stale);
    let seen = &node.seen()[0];
    assert_eq!(seen.path, "/v2/team/app/manifests/v1?ns=registry%2Ecorp%3A5000");
    assert_eq!(
        (seen.header("x-kuik-hop"), seen.header("x-cache-index")),
        (Some("2"), Some("3:17"))
    );
}

#[tokio::test]
async fn a_head_brings_size_and_digest_without_bytes() {
    let node = node(manifest).await;
    let found = client()
        .manifest(&url(&node), Method::HEAD, &repository(), &tag("v1"), &call())
        .await
        .unwrap();
    assert_eq!((found.size_bytes, found.bytes.len()), (Some(MANIFEST.len() as u64), 0));
    assert!(!found.notes.stale);
}

#[tokio::test]
async fn a_blob_is_resumed_on_another_node() {
    let node = node(|| reply(206).header("content-range", "bytes 6-9/10").body(&BLOB[6..])).await;
    assert_eq!(fetch(&node, 6).await.unwrap(), &BLOB[6..]);
    assert_eq!(node.seen()[0].header("range"), Some("bytes=6-"));
}

#[tokio::test]
async fn a_slow_node_that_answers_pings_is_waited_for() {
    let slow_headers = node(|| reply(200).body(BLOB).after(10 * QUIET)).await;
    assert_eq!(fetch(&slow_headers, 0).await.unwrap(), BLOB);
    assert!(slow_headers.count("/v2/") > 2, "it was asked whether it lives");
    let slow_body = node(|| reply(200).body(&BLOB[..5]).then_wait(10 * QUIET).body(&BLOB[5..])).await;
    assert_eq!(fetch(&slow_body, 0).await.unwrap(), BLOB);
}

#[tokio::test]
async fn a_node_that_answers_nothing_is_left_quickly() {
    let frozen = Server::start(|seen| match &*seen.path {
        path if path.contains("/blobs/") && seen.header("range").is_some() => reply(206)
            .header("content-range", "bytes 1-9/10")
            .body(&BLOB[1..3])
            .then_wait(Duration::from_secs(60)),
        _ => hang(),
    })
    .await;
    for offset in [0, 1] {
        let started = Instant::now();
        let error = fetch(&frozen, offset).await.unwrap_err();
        assert!(matches!(error, UpstreamError::Unavailable { .. }), "{error}");
        assert!(started.elapsed() < Duration::from_secs(10));
    }
}

#[tokio::test]
async fn a_node_that_is_gone_is_unavailable_at_once() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let gone: NodeUrl = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    drop(listener);
    assert!(!client().ping(&gone).await);
    let error = client()
        .head_blob(&gone, &repository(), &Digest::sha256(BLOB), &call())
        .await
        .unwrap_err();
    assert!(matches!(error, UpstreamError::Unavailable { .. }), "{error}");
}

#[tokio::test]
async fn a_nodes_refusals_are_told_apart() {
    for (status, expected) in [(404, "not found"), (503, "unavailable"), (403, "denied")] {
        let node = node(move || reply(status)).await;
        let error = fetch(&node, 0).await.unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    }
}

#[test]
fn both_ends_write_the_same_headers() {
    assert_eq!(distribution::header::X_KUIK_HOP, upstream::X_KUIK_HOP);
    assert_eq!(distribution::header::X_CACHE_INDEX, upstream::X_CACHE_INDEX);
    assert_eq!(distribution::header::X_KUIK_SOURCE, upstream::X_KUIK_SOURCE);
    assert!(distribution::Warning::Stale.as_str().starts_with("110 "));
}
