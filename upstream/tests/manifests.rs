//! Manifests, tags, referrers, and how failures are told apart. Contract: G-02 to G-04, G-60 to G-62.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

mod support;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::Method;
use oci::{Digest, MANIFEST_SIZE_BYTES_MAX, ManifestReference};
use support::{INDEX, MANIFEST, Reply, Server, client, config, manifest, reply, repository, tag};
use tokio::time::Instant;
use upstream::{HostRule, RegistryClient, UpstreamError};

async fn get(reference: &ManifestReference, answer: fn() -> Reply) -> Result<oci::RawManifest, UpstreamError> {
    let registry = Server::start(move |_| answer()).await;
    client(&registry.url()).get_manifest(&repository(), reference).await
}

#[tokio::test]
async fn one_head_tells_what_a_tag_points_to() {
    let registry = Server::start(|_| manifest().header("etag", "\"e\"")).await;
    let head = client(&registry.url())
        .head_manifest(&repository(), &tag("v1"))
        .await
        .unwrap();
    assert_eq!(
        (head.digest, head.media_type.as_str()),
        (Digest::sha256(MANIFEST), INDEX)
    );
    assert_eq!(
        (head.size_bytes, head.etag.as_deref()),
        (Some(MANIFEST.len() as u64), Some("\"e\""))
    );
    assert!(head.manifest.is_none());
    let seen = registry.seen();
    assert_eq!(
        (seen.len(), &seen[0].method, &*seen[0].path),
        (1, &Method::HEAD, "/v2/team/app/manifests/v1")
    );
    assert_eq!(seen[0].header("accept"), Some(upstream::ACCEPT_ANY));
    assert_eq!(seen[0].header("accept-encoding"), Some("identity"));
    assert!(seen[0].header("user-agent").unwrap().starts_with("kube-image-keeper/"));
}

#[tokio::test]
async fn a_head_that_says_too_little_is_followed_by_a_get() {
    for status in [200, 405] {
        let registry = Server::start(move |seen| match seen.method {
            Method::HEAD => reply(status).header("content-type", INDEX),
            _ => manifest(),
        })
        .await;
        let head = client(&registry.url())
            .head_manifest(&repository(), &tag("v1"))
            .await
            .unwrap();
        assert_eq!(head.digest, Digest::sha256(MANIFEST));
        assert_eq!(head.manifest.unwrap().bytes(), MANIFEST);
    }
}

#[tokio::test]
async fn bytes_that_are_not_the_digests_are_corrupt() {
    let by_digest = ManifestReference::Digest(Digest::sha256(MANIFEST));
    assert_eq!(get(&by_digest, manifest).await.unwrap().bytes(), MANIFEST);
    let flipped = || reply(200).header("content-type", INDEX).body("{}");
    let error = get(&by_digest, flipped).await.unwrap_err();
    assert!(matches!(error, UpstreamError::Corrupt { .. }), "{error}");
    let mislabelled = || {
        reply(200)
            .header("content-type", INDEX)
            .header("docker-content-digest", Digest::sha256(b"x"))
            .body("{}")
    };
    let error = get(&tag("v1"), mislabelled).await.unwrap_err();
    assert!(matches!(error, UpstreamError::Corrupt { .. }), "{error}");
}

#[tokio::test]
async fn oversized_encoded_and_untyped_manifests_are_protocol_errors() {
    let answers: [fn() -> Reply; 4] = [
        || {
            reply(200)
                .header("content-type", INDEX)
                .body(vec![b' '; MANIFEST_SIZE_BYTES_MAX + 1])
        },
        || {
            let announced = reply(200)
                .header("content-type", INDEX)
                .header("content-length", MANIFEST_SIZE_BYTES_MAX + 1);
            announced.then_wait(Duration::from_secs(60))
        },
        || manifest().header("content-encoding", "gzip"),
        || reply(200).body("{}"),
    ];
    for answer in answers {
        let error = get(&tag("v1"), answer).await.unwrap_err();
        assert!(matches!(error, UpstreamError::Protocol { .. }), "{error}");
    }
}

#[tokio::test]
async fn failures_are_told_apart_by_what_can_be_done() {
    type Expected = fn(&UpstreamError) -> bool;
    let table: [(u16, Expected, usize); 8] = [
        (404, |error| matches!(error, UpstreamError::NotFound { .. }), 1),
        (
            401,
            |error| matches!(error, UpstreamError::Denied { status: 401, .. }),
            2,
        ),
        (
            403,
            |error| matches!(error, UpstreamError::Denied { status: 403, .. }),
            1,
        ),
        (
            429,
            |error| matches!(error, UpstreamError::RateLimited { after: None, .. }),
            1,
        ),
        (500, |error| matches!(error, UpstreamError::Unavailable { .. }), 3),
        (503, |error| matches!(error, UpstreamError::Unavailable { .. }), 3),
        (408, |error| matches!(error, UpstreamError::Unavailable { .. }), 3),
        (418, |error| matches!(error, UpstreamError::Protocol { .. }), 1),
    ];
    for (status, expected, n_requests) in table {
        let registry = Server::start(move |_| reply(status)).await;
        let error = client(&registry.url())
            .head_manifest(&repository(), &tag("v1"))
            .await
            .unwrap_err();
        assert!(expected(&error), "{status}: {error:?}");
        assert!(
            error.to_string().contains("manifest v1 of source.example/team/app"),
            "{error}"
        );
        assert_eq!(registry.seen().len(), n_requests, "{status}");
    }
}

#[tokio::test]
async fn a_registry_that_recovers_is_not_noticed() {
    let asked = AtomicUsize::new(0);
    let registry = Server::start(move |_| match asked.fetch_add(1, Ordering::SeqCst) {
        0 => reply(502),
        1 => reply(200)
            .header("content-type", INDEX)
            .body("{")
            .then_wait(Duration::from_millis(5))
            .then_break(),
        _ => manifest(),
    })
    .await;
    let found = client(&registry.url())
        .get_manifest(&repository(), &tag("v1"))
        .await
        .unwrap();
    assert_eq!(found.bytes(), MANIFEST);
}

#[tokio::test]
async fn nobody_listening_is_unavailable() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let error = client(&url).head_manifest(&repository(), &tag("v1")).await.unwrap_err();
    assert!(matches!(error, UpstreamError::Unavailable { .. }), "{error}");
}

#[tokio::test]
async fn the_budget_follows_what_the_registry_says() {
    let asked = AtomicUsize::new(0);
    let registry = Server::start(move |_| match asked.fetch_add(1, Ordering::SeqCst) {
        left @ 0..2 => manifest()
            .header("ratelimit-limit", "2;w=21600")
            .header("ratelimit-remaining", format!("{};w=21600", 1 - left)),
        _ => reply(429).header("retry-after", 120),
    })
    .await;
    let client = client(&registry.url());
    let host = "source.example".parse().unwrap();
    let now = Instant::now();
    assert_eq!(client.budget(&host).remaining(now), None);
    for left in [1, 0] {
        client.head_manifest(&repository(), &tag("v1")).await.unwrap();
        assert_eq!(client.budget(&host).remaining(now), Some(left));
    }
    let error = client.head_manifest(&repository(), &tag("v1")).await.unwrap_err();
    assert!(matches!(error, UpstreamError::RateLimited { after: Some(after), .. } if after.as_secs() == 120));
    let blocked = client.budget(&host).blocked_until(now).unwrap() - now;
    assert!((119..=121).contains(&blocked.as_secs()), "{blocked:?}");
}

#[tokio::test]
async fn a_mirrors_path_stands_before_or_within_the_api() {
    let registry = Server::start(|_| manifest()).await;
    for (path, expected) in [("/base", "/base/v2/team/app/"), ("/v2/hub", "/v2/hub/team/app/")] {
        let mut config = config(&registry.url());
        let url = format!("{}{path}", registry.url()).parse().unwrap();
        config
            .hosts
            .insert("source.example".parse().unwrap(), HostRule::at(url));
        let client = RegistryClient::new(config).unwrap();
        client.head_manifest(&repository(), &tag("v1")).await.unwrap();
        assert_eq!(registry.count(expected), 1, "{expected}");
    }
}

#[tokio::test]
async fn tags_come_in_pages() {
    let registry = Server::start(|_| {
        reply(200)
            .header("link", r#"</v2/team/app/tags/list?n=2&last=b>; rel="next""#)
            .body(r#"{"name": "team/app", "tags": ["a", "b"]}"#)
    })
    .await;
    let start = "0".parse().unwrap();
    let page = client(&registry.url())
        .list_tags(&repository(), Some(2), Some(&start))
        .await
        .unwrap();
    assert_eq!(page.tags, ["a".parse().unwrap(), "b".parse().unwrap()]);
    let next = page.next.unwrap();
    assert_eq!((next.n, next.last.as_str()), (Some(2), "b"));
    assert_eq!(registry.seen()[0].path, "/v2/team/app/tags/list?n=2&last=0");
}

#[tokio::test]
async fn referrers_say_whether_they_were_filtered() {
    let registry = Server::start(|_| manifest().header("oci-filters-applied", "artifactType")).await;
    let subject = Digest::sha256(b"subject");
    let page = client(&registry.url())
        .referrers(&repository(), &subject, Some("a/b+c"))
        .await
        .unwrap();
    assert!(page.filtered && !page.has_more);
    assert_eq!(page.index.bytes(), MANIFEST);
    assert!(
        registry.seen()[0].path.ends_with("?artifactType=a/b%2Bc"),
        "{}",
        registry.seen()[0].path
    );
    let without = Server::start(|_| reply(200).header("content-type", "text/html").body("<html>")).await;
    let error = client(&without.url())
        .referrers(&repository(), &subject, None)
        .await
        .unwrap_err();
    assert!(matches!(error, UpstreamError::NotFound { .. }), "{error}");
}
