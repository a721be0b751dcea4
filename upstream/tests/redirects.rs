//! Redirects, and addresses nobody configured. Contract: G-17, G-58.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

mod support;

use bytes::Bytes;
use futures::TryStreamExt;
use oci::{Digest, Repository};
use support::{Server, allow, client, config, reply, repository, tag};
use upstream::{Credential, ForbiddenKind, RegistryClient, UpstreamConfig, UpstreamError};

const BLOB: &[u8] = b"0123456789";

/// A content network as S3 is: an `Authorization` beside the signed query is an error.
async fn content_network() -> Server {
    Server::start(|seen| match (seen.header("authorization"), seen.header("range")) {
        (Some(_), _) => reply(400),
        (None, Some("bytes=4-")) => reply(206).header("content-range", "bytes 4-9/10").body(&BLOB[4..]),
        (None, _) => reply(200).body(BLOB),
    })
    .await
}

/// A registry that wants a password and sends blobs elsewhere.
async fn registry(location: String) -> Server {
    Server::start(move |seen| match seen.header("authorization") {
        Some(_) => reply(307).header("location", &location).body("moved"),
        None => reply(401).header("www-authenticate", "Basic realm=\"x\""),
    })
    .await
}

fn with_password(mut config: UpstreamConfig) -> UpstreamConfig {
    let credential = Credential::Basic {
        username: "user".into(),
        password: "secret".into(),
    };
    config
        .credentials
        .add("source.example".parse().unwrap(), "", credential);
    config
}

#[tokio::test]
async fn the_password_stays_behind_and_the_range_goes_along() {
    let cdn = content_network().await;
    let registry = registry(format!("{}/blob?sig=a%2Fb", cdn.url())).await;
    let mut config = with_password(config(&registry.url()));
    allow(&mut config, &cdn);
    let client = RegistryClient::new(config).unwrap();
    let blob = client.get_blob(&repository(), &Digest::sha256(BLOB), 4).await.unwrap();
    assert_eq!((blob.offset, blob.total_bytes), (4, Some(10)));
    let bytes: Vec<Bytes> = blob.stream.try_collect().await.unwrap();
    assert_eq!(bytes.concat(), &BLOB[4..]);
    let seen = cdn.seen();
    assert_eq!(
        (&*seen[0].path, seen[0].header("range")),
        ("/blob?sig=a%2Fb", Some("bytes=4-"))
    );
    assert_eq!(seen[0].header("accept-encoding"), Some("identity"));
}

#[tokio::test]
async fn an_expired_link_is_asked_for_again() {
    let asked = std::sync::atomic::AtomicUsize::new(0);
    let cdn = Server::start(move |_| match asked.fetch_add(1, std::sync::atomic::Ordering::SeqCst) {
        0 => reply(403),
        _ => reply(200).body(BLOB),
    })
    .await;
    let location = format!("{}/blob", cdn.url());
    let registry = Server::start(move |_| reply(302).header("location", &location)).await;
    let mut config = config(&registry.url());
    allow(&mut config, &cdn);
    let client = RegistryClient::new(config).unwrap();
    client.get_blob(&repository(), &Digest::sha256(BLOB), 0).await.unwrap();
    assert_eq!(registry.count("/blobs/"), 2);
}

#[tokio::test]
async fn redirects_end() {
    let registry = Server::start(|seen| reply(307).header("location", &seen.path)).await;
    let error = client(&registry.url())
        .get_blob(&repository(), &Digest::sha256(BLOB), 0)
        .await
        .unwrap_err();
    assert!(
        matches!(&error, UpstreamError::Protocol { detail, .. } if detail.contains("10 redirects")),
        "{error}"
    );
    assert_eq!(registry.count("/blobs/"), 11);
}

#[tokio::test]
async fn a_redirect_to_this_machine_is_refused_before_a_packet_is_sent() {
    let inside = Server::start(|_| reply(200).body("secret")).await;
    for location in [inside.url(), format!("http://localhost:{}/", inside.address.port())] {
        let registry = Server::start(move |_| reply(307).header("location", &location)).await;
        let error = client(&registry.url())
            .get_blob(&repository(), &Digest::sha256(BLOB), 0)
            .await
            .unwrap_err();
        assert!(matches!(&error, UpstreamError::Refused { .. }), "{error}");
    }
    assert!(inside.seen().is_empty());
}

#[tokio::test]
async fn hosts_nobody_configured_are_refused_where_they_must_not_be() {
    let client = RegistryClient::new(UpstreamConfig::default()).unwrap();
    let table = [
        ("127.0.0.1:6443", ForbiddenKind::Loopback),
        ("localhost:6443", ForbiddenKind::Loopback),
        ("[::1]:6443", ForbiddenKind::Loopback),
        ("169.254.169.254", ForbiddenKind::Metadata),
        ("[fd00:ec2::254]", ForbiddenKind::Metadata),
        ("0.0.0.0:80", ForbiddenKind::Unspecified),
        ("[::ffff:127.0.0.1]:80", ForbiddenKind::Loopback),
    ];
    for (host, kind) in table {
        let repository = Repository::new(host.parse().unwrap(), "team/app".parse().unwrap());
        let error = client.head_manifest(&repository, &tag("v1")).await.unwrap_err();
        assert!(
            matches!(&error, UpstreamError::Refused { source, .. } if source.kind == kind),
            "{host}: {error}"
        );
        assert!(error.to_string().contains(host), "{error}");
    }
}
