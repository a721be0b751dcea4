//! Blobs from any offset, however the source answers. Contract: G-24, G-21, G-65.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

mod support;

use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use oci::Digest;
use support::{Reply, Server, client, hang, reply, repository};
use upstream::{BlobStream, Patience, Phase, RetryPolicy, UpstreamError};

const BLOB: &[u8] = b"0123456789";

async fn fetch(offset: u64, answer: impl Fn() -> Reply + Send + Sync + 'static) -> Result<BlobStream, UpstreamError> {
    let registry = Server::start(move |_| answer()).await;
    client(&registry.url())
        .get_blob(&repository(), &Digest::sha256(BLOB), offset)
        .await
}

async fn bytes(blob: BlobStream) -> Result<Vec<u8>, UpstreamError> {
    let chunks: Vec<Bytes> = blob.stream.try_collect().await?;
    assert!(chunks.iter().all(|chunk| !chunk.is_empty()));
    Ok(chunks.concat())
}

#[tokio::test]
async fn a_whole_blob_comes_without_asking_for_a_range() {
    let registry = Server::start(|_| reply(200).header("content-length", 10).body(BLOB)).await;
    let blob = client(&registry.url())
        .get_blob(&repository(), &Digest::sha256(BLOB), 0)
        .await
        .unwrap();
    assert_eq!((blob.offset, blob.total_bytes), (0, Some(10)));
    assert_eq!(bytes(blob).await.unwrap(), BLOB);
    assert_eq!(registry.seen()[0].header("range"), None);
    assert_eq!(
        registry.seen()[0].path,
        format!("/v2/team/app/blobs/{}", Digest::sha256(BLOB))
    );
}

#[tokio::test]
async fn a_range_is_resumed_whatever_the_source_makes_of_it() {
    let answers: [fn() -> Reply; 4] = [
        || reply(206).header("content-range", "bytes 6-9/10").body(&BLOB[6..]),
        || reply(206).header("content-range", "bytes 4-9/10").body(&BLOB[4..]),
        || reply(200).header("content-length", 10).body(BLOB),
        || reply(200).body(&BLOB[..3]).body(&BLOB[3..7]).body(&BLOB[7..]),
    ];
    for answer in answers {
        let blob = fetch(6, answer).await.unwrap();
        assert_eq!(blob.offset, 6);
        assert_eq!(bytes(blob).await.unwrap(), &BLOB[6..]);
    }
}

#[tokio::test]
async fn the_very_end_is_an_empty_stream() {
    let blob = fetch(10, || reply(416).header("content-range", "bytes */10"))
        .await
        .unwrap();
    assert_eq!(blob.total_bytes, Some(10));
    assert_eq!(bytes(blob).await.unwrap(), b"");
}

#[tokio::test]
async fn answers_that_do_not_fit_the_offset_are_protocol_errors() {
    let answers: [fn() -> Reply; 5] = [
        || reply(206).header("content-range", "bytes 7-9/10").body(&BLOB[7..]),
        || reply(206).body(&BLOB[6..]),
        || {
            reply(206)
                .header("content-type", "multipart/byteranges; boundary=x")
                .body(BLOB)
        },
        || reply(200).header("content-length", 3).body(&BLOB[..3]),
        || reply(416).header("content-range", "bytes */3"),
    ];
    for answer in answers {
        let error = fetch(6, answer).await.unwrap_err();
        assert!(matches!(error, UpstreamError::Protocol { .. }), "{error}");
    }
}

#[tokio::test]
async fn a_body_that_breaks_off_ends_with_an_error_after_its_bytes() {
    let answers: [fn() -> Reply; 2] = [
        || {
            reply(200)
                .header("content-length", 10)
                .body(&BLOB[..5])
                .then_wait(Duration::from_millis(20))
                .then_break()
        },
        || {
            reply(200)
                .body(&BLOB[..5])
                .then_wait(Duration::from_millis(20))
                .then_break()
        },
    ];
    for answer in answers {
        let items: Vec<_> = fetch(0, answer).await.unwrap().stream.collect().await;
        let (last, before) = items.split_last().unwrap();
        assert!(matches!(last, Err(UpstreamError::Unavailable { .. })), "{last:?}");
        assert!(before.iter().all(Result::is_ok));
    }
}

#[tokio::test]
async fn silence_ends_headers_and_bodies_after_the_patience_given() {
    let short = Duration::from_millis(500);
    let patience = Patience {
        headers: short,
        no_progress: short,
        retry: RetryPolicy::NEVER,
    };
    let registry = Server::start(|seen| match seen.header("range") {
        None => hang(),
        Some(_) => reply(200)
            .header("content-length", 10)
            .body(BLOB[..5].to_vec())
            .then_wait(Duration::from_secs(60)),
    })
    .await;
    let client = client(&registry.url()).with_patience(patience);
    let digest = Digest::sha256(BLOB);
    let error = client.get_blob(&repository(), &digest, 0).await.unwrap_err();
    assert!(
        matches!(
            &error,
            UpstreamError::Timeout {
                phase: Phase::Headers,
                ..
            }
        ),
        "{error}"
    );
    let blob = client.get_blob(&repository(), &digest, 1).await.unwrap();
    let error = bytes(blob).await.unwrap_err();
    assert!(
        matches!(&error, UpstreamError::Timeout { phase: Phase::Body, .. }),
        "{error}"
    );
    assert!(error.to_string().contains("source.example"), "{error}");
}

#[tokio::test]
async fn the_size_is_asked_for_without_the_bytes() {
    let registry = Server::start(|_| reply(200).header("content-length", 10)).await;
    let head = client(&registry.url())
        .head_blob(&repository(), &Digest::sha256(BLOB))
        .await
        .unwrap();
    assert_eq!(head.size_bytes, Some(10));
    let missing = Server::start(|_| reply(404)).await;
    let error = client(&missing.url())
        .head_blob(&repository(), &Digest::sha256(BLOB))
        .await
        .unwrap_err();
    assert!(matches!(error, UpstreamError::NotFound { .. }), "{error}");
}
