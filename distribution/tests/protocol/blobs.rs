//! Blobs: framing, failures before and after the first byte, unknown lengths.

use std::io::ErrorKind;

use bytes::Bytes;
use oci::{Digest, ErrorCode};

use crate::memory::{MemoryRegistry, NAME, Step, blob_bytes, blob_path, nginx, script_path};
use crate::wire::{Wire, ask, get, head};

fn bytes(text: &'static str) -> Step {
    Step::Bytes(Bytes::from_static(text.as_bytes()))
}

// G-01
#[tokio::test]
async fn head_of_a_blob_carries_length_and_digest() {
    let served = nginx().serve().await;
    let answer = head(served.server.address(), &blob_path()).await;
    assert_eq!((answer.status, answer.header("content-length")), (200, Some("3000")));
    assert_eq!(answer.header("content-type"), Some("application/octet-stream"));
    assert_eq!(
        answer.header("docker-content-digest"),
        Some(Digest::sha256(&blob_bytes()).as_str())
    );
}

#[tokio::test]
async fn a_blob_is_sent_whole() {
    let served = nginx().serve().await;
    let answer = get(served.server.address(), &blob_path()).await;
    assert_eq!((answer.status, answer.cut), (200, false));
    assert_eq!(answer.header("accept-ranges"), Some("bytes"));
    assert_eq!(answer.body, blob_bytes());
}

// G-45
#[tokio::test]
async fn an_empty_blob_is_sent_whole() {
    let served = MemoryRegistry::default().blob("").serve().await;
    let answer = get(served.server.address(), &script_path(b"")).await;
    assert_eq!((answer.status, answer.header("content-length")), (200, Some("0")));
}

#[tokio::test]
async fn a_blob_of_unknown_length_is_chunked() {
    let steps = vec![bytes("ab"), bytes(""), bytes("cd")];
    let served = MemoryRegistry::default().script(b"x", None, steps).serve().await;
    let answer = get(served.server.address(), &script_path(b"x")).await;
    assert_eq!(
        (answer.status, answer.cut, answer.body.as_slice()),
        (200, false, &b"abcd"[..])
    );
    assert_eq!(answer.header("transfer-encoding"), Some("chunked"));
    let answer = head(served.server.address(), &script_path(b"x")).await;
    assert_eq!((answer.status, answer.header("content-length")), (200, None));
}

#[tokio::test]
async fn an_unknown_length_cut_short_has_no_clean_end() {
    let steps = vec![bytes("ab"), Step::Fail(ErrorKind::InvalidData)];
    let served = MemoryRegistry::default().script(b"x", None, steps).serve().await;
    let answer = get(served.server.address(), &script_path(b"x")).await;
    assert_eq!((answer.status, answer.cut), (200, true));
}

#[tokio::test]
async fn an_http_1_0_client_is_not_sent_a_body_whose_cut_it_could_not_see() {
    let served = MemoryRegistry::default()
        .script(b"x", None, vec![bytes("ab")])
        .serve()
        .await;
    let mut wire = Wire::connect(served.server.address()).await;
    wire.send(format!("GET {} HTTP/1.0\r\n\r\n", script_path(b"x")).as_bytes())
        .await;
    let answer = wire.answer().await;
    assert_eq!((answer.status, answer.error()), (503, ErrorCode::Unavailable));
}

// G-21, G-28
#[tokio::test]
async fn a_failure_before_the_first_byte_gets_a_status_of_its_own() {
    let cases = [
        (Step::Fail(ErrorKind::TimedOut), 504, ErrorCode::Unavailable),
        (Step::Fail(ErrorKind::NotFound), 404, ErrorCode::BlobUnknown),
        (Step::Fail(ErrorKind::ConnectionReset), 503, ErrorCode::Unavailable),
        (Step::Refuse, 403, ErrorCode::Denied),
    ];
    for (step, status, code) in cases {
        for size in [Some(10), None] {
            let steps = vec![bytes(""), step.clone()];
            let served = MemoryRegistry::default().script(b"x", size, steps).serve().await;
            let answer = get(served.server.address(), &script_path(b"x")).await;
            assert_eq!((answer.status, answer.error()), (status, code));
        }
    }
}

// G-28
#[tokio::test]
async fn a_length_without_a_byte_behind_it_is_never_announced() {
    let served = MemoryRegistry::default().script(b"x", Some(10), vec![]).serve().await;
    let answer = get(served.server.address(), &script_path(b"x")).await;
    assert_eq!((answer.status, answer.error()), (503, ErrorCode::Unavailable));
}

#[tokio::test]
async fn a_first_chunk_beyond_the_length_is_an_error_answer() {
    let served = MemoryRegistry::default()
        .script(b"x", Some(1), vec![bytes("ab")])
        .serve()
        .await;
    assert_eq!(get(served.server.address(), &script_path(b"x")).await.status, 503);
}

// G-24, G-28
#[tokio::test]
async fn a_body_that_goes_wrong_ends_short_and_takes_its_connection_along() {
    let endings = [
        vec![bytes("abcde")],
        vec![bytes("abcde"), Step::Fail(ErrorKind::InvalidData)],
        vec![bytes("abcde"), bytes("too long to fit")],
    ];
    for steps in endings {
        let served = MemoryRegistry::default().script(b"x", Some(10), steps).serve().await;
        let mut wire = Wire::connect(served.server.address()).await;
        wire.request("GET", &script_path(b"x"), &[]).await;
        let answer = wire.answer().await;
        assert_eq!(
            (answer.status, answer.header("content-length"), answer.cut),
            (200, Some("10"), true)
        );
        assert!(b"abcde".starts_with(&answer.body));
        assert!(wire.closed().await);
    }
}

#[tokio::test]
async fn what_the_client_has_already_is_not_sent_again() {
    let served = nginx().serve().await;
    let same = format!("if-none-match: \"{}\"", Digest::sha256(&blob_bytes()));
    assert_eq!(
        ask(served.server.address(), "GET", &blob_path(), &[&same]).await.status,
        304
    );
}

#[tokio::test]
async fn a_blob_larger_than_any_buffer_arrives_whole() {
    let chunk = Bytes::from(vec![7; 1 << 20]);
    let steps = vec![Step::Bytes(chunk); 24];
    let served = MemoryRegistry::default()
        .script(b"x", Some(24 << 20), steps)
        .serve()
        .await;
    let answer = get(served.server.address(), &script_path(b"x")).await;
    assert_eq!((answer.cut, answer.body.len()), (false, 24 << 20));
    assert!(answer.body.iter().all(|byte| *byte == 7));
}

// G-29
#[tokio::test]
async fn a_blob_digest_under_manifests_is_not_found() {
    let served = nginx().serve().await;
    let digest = Digest::sha256(&blob_bytes());
    assert_eq!(
        head(served.server.address(), &format!("/v2/{NAME}/manifests/{digest}"))
            .await
            .status,
        404
    );
}
