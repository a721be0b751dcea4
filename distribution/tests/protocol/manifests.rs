//! Manifests: exact bytes, exact headers, HEAD like GET, conditional requests, namespaces.

use distribution::{CacheIndex, Client, Notes, Source, Warning};
use oci::{Digest, ErrorCode, MediaType};

use crate::memory::{MANIFEST, MemoryRegistry, NAME, nginx};
use crate::wire::{Answer, ask, get, head};

fn assert_manifest_headers(answer: &Answer) {
    assert_eq!(answer.status, 200);
    assert_eq!(
        answer.header("content-length"),
        Some(MANIFEST.len().to_string().as_str())
    );
    assert_eq!(answer.header("content-type"), Some(MediaType::OCI_MANIFEST));
    let digest = Digest::sha256(MANIFEST).to_string();
    assert_eq!(answer.header("docker-content-digest"), Some(digest.as_str()));
    assert_eq!(answer.header("etag"), Some(format!("\"{digest}\"").as_str()));
    assert_eq!(answer.header("docker-distribution-api-version"), Some("registry/2.0"));
}

// G-01
#[tokio::test]
async fn head_carries_length_type_and_digest_and_no_body() {
    let served = nginx().serve().await;
    for reference in ["latest".to_owned(), Digest::sha256(MANIFEST).to_string()] {
        let answer = head(served.server.address(), &format!("/v2/{NAME}/manifests/{reference}")).await;
        assert_manifest_headers(&answer);
    }
}

// G-05, G-06
#[tokio::test]
async fn manifest_bytes_and_type_are_served_exactly() {
    let served = nginx().serve().await;
    let answer = get(served.server.address(), &format!("/v2/{NAME}/manifests/latest")).await;
    assert_manifest_headers(&answer);
    assert_eq!(answer.body, MANIFEST);
}

// G-02
#[tokio::test]
async fn nothing_is_content_encoded() {
    let served = nginx().serve().await;
    let accept = ["accept-encoding: zstd;q=1.0, gzip;q=0.8, deflate;q=0.5"];
    let answer = ask(
        served.server.address(),
        "GET",
        &format!("/v2/{NAME}/manifests/latest"),
        &accept,
    )
    .await;
    assert_eq!(answer.header("content-encoding"), None);
    assert_manifest_headers(&answer);
    assert_eq!(answer.body, MANIFEST);
}

// G-03, G-04
#[tokio::test]
async fn accept_headers_do_not_choose_what_is_served() {
    let served = nginx().serve().await;
    let accept = [
        "accept: application/vnd.docker.distribution.manifest.v2+json",
        "accept: text/plain",
    ];
    let answer = ask(
        served.server.address(),
        "GET",
        &format!("/v2/{NAME}/manifests/latest"),
        &accept,
    )
    .await;
    assert_manifest_headers(&answer);
}

// G-08
#[tokio::test]
async fn repositories_may_be_named_like_routes() {
    let deep = vec!["d"; 20].join("/");
    for name in ["blobs/uploads", "x/tags/list", "a/manifests/b", deep.as_str()] {
        let registry = MemoryRegistry::default().manifest(name, "v1", MediaType::OCI_INDEX, MANIFEST);
        let served = registry.serve().await;
        let answer = get(served.server.address(), &format!("/v2/{name}/manifests/v1")).await;
        assert_eq!((answer.status, answer.body.as_slice()), (200, MANIFEST), "{name}");
    }
}

// G-09
#[tokio::test]
async fn digests_may_be_percent_encoded() {
    let served = nginx().serve().await;
    let encoded = Digest::sha256(MANIFEST).to_string().replace(':', "%3A");
    assert_manifest_headers(&get(served.server.address(), &format!("/v2/{NAME}/manifests/{encoded}")).await);
}

// G-15
#[tokio::test]
async fn namespace_reaches_the_registry_and_is_echoed() {
    let served = nginx().serve().await;
    for ns in ["docker.io", "quay.io:443", "[::1]:5000"] {
        let target = format!("/v2/{NAME}/manifests/latest?ns={ns}");
        let answer = head(served.server.address(), &target).await;
        assert_eq!(answer.header("oci-namespace"), Some(ns));
        assert_eq!(served.registry.seen().pop().unwrap().ns.unwrap().as_str(), ns);
    }
    let missing = get(
        served.server.address(),
        &format!("/v2/{NAME}/manifests/other?ns=docker.io"),
    )
    .await;
    assert_eq!(
        (missing.status, missing.header("oci-namespace")),
        (404, Some("docker.io"))
    );
}

// G-15
#[tokio::test]
async fn a_namespace_that_is_no_host_is_refused() {
    let served = nginx().serve().await;
    for ns in ["", "a%20b", "http%3A%2F%2Fdocker.io", "%00"] {
        let answer = get(served.server.address(), &format!("/v2/{NAME}/manifests/latest?ns={ns}")).await;
        assert_eq!((answer.status, answer.error()), (400, ErrorCode::NameInvalid), "{ns}");
    }
    assert!(served.registry.seen().is_empty());
}

#[tokio::test]
async fn what_the_client_has_already_is_not_sent_again() {
    let served = nginx().serve().await;
    let target = format!("/v2/{NAME}/manifests/latest");
    let digest = Digest::sha256(MANIFEST);
    let same = format!("if-none-match: \"{digest}\"");
    for method in ["GET", "HEAD"] {
        let answer = ask(served.server.address(), method, &target, &[&same]).await;
        assert_eq!((answer.status, answer.header("content-length")), (304, None));
        assert_eq!(answer.header("docker-content-digest"), Some(digest.as_str()));
    }
    let other = format!("if-none-match: \"{}\"", Digest::sha256(b"other"));
    assert_eq!(
        ask(served.server.address(), "GET", &target, &[&other]).await.status,
        200
    );
}

#[tokio::test]
async fn headers_of_our_own_parts_are_read() {
    let served = nginx().serve().await;
    let headers = ["x-kuik-hop: 2", "x-cache-index: 3:17"];
    ask(
        served.server.address(),
        "GET",
        &format!("/v2/{NAME}/manifests/latest"),
        &headers,
    )
    .await;
    let context = served.registry.seen().pop().unwrap();
    assert_eq!((context.hop, context.client), (2, Client::Plain));
    assert_eq!(context.cache_index, Some(CacheIndex { epoch: 3, index: 17 }));
}

#[tokio::test]
async fn unreadable_headers_of_our_own_parts_count_as_absent() {
    let served = nginx().serve().await;
    let headers = ["x-kuik-hop: 300", "x-cache-index: soon"];
    ask(
        served.server.address(),
        "GET",
        &format!("/v2/{NAME}/manifests/latest"),
        &headers,
    )
    .await;
    let context = served.registry.seen().pop().unwrap();
    assert_eq!((context.hop, context.cache_index), (0, None));
}

#[tokio::test]
async fn notes_become_headers() {
    let notes = Notes {
        cache_index: Some(CacheIndex { epoch: 1, index: 42 }),
        warning: Some(Warning::Stale),
        source: Some(Source::Peer),
    };
    let served = nginx().notes(notes).serve().await;
    let answer = head(served.server.address(), &format!("/v2/{NAME}/manifests/latest")).await;
    assert_eq!(answer.header("x-cache-index"), Some("1:42"));
    assert_eq!(answer.header("warning"), Some("110 - \"Response is Stale\""));
    assert_eq!(answer.header("x-kuik-source"), Some("peer"));
}
