//! Every failure has its status, its code and its document, and none is a 429.

use oci::ErrorCode;

use crate::memory::{MANIFEST, NAME, nginx};
use crate::wire::{ask, get, head};

// G-39
#[tokio::test]
async fn each_failure_of_the_registry_has_its_status_and_code() {
    let served = nginx().serve().await;
    for (name, status, code) in [
        ("fails/unavailable", 503, ErrorCode::Unavailable),
        ("fails/timeout", 504, ErrorCode::Unavailable),
        ("fails/denied", 403, ErrorCode::Denied),
        ("fails/unauthorized", 401, ErrorCode::Unauthorized),
        ("fails/name", 400, ErrorCode::NameInvalid),
        ("fails/unknown", 404, ErrorCode::NameUnknown),
        ("fails/internal", 500, ErrorCode::Unknown),
        ("not/there", 404, ErrorCode::ManifestUnknown),
    ] {
        let target = format!("/v2/{name}/manifests/latest");
        let answer = get(served.server.address(), &target).await;
        assert_eq!((answer.status, answer.error()), (status, code), "{name}");
        assert_eq!(answer.header("docker-distribution-api-version"), Some("registry/2.0"));
        let headed = head(served.server.address(), &target).await;
        assert_eq!(
            (headed.status, headed.header("content-length")),
            (status, answer.header("content-length"))
        );
    }
}

// G-19, G-22, G-34
#[tokio::test]
async fn a_limited_source_is_503_with_its_time_rounded_up() {
    let served = nginx().serve().await;
    let answer = get(served.server.address(), "/v2/fails/unavailable/manifests/latest").await;
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("2")));
}

// G-22
#[tokio::test]
async fn no_answer_challenges_for_credentials() {
    let served = nginx().serve().await;
    let answer = get(served.server.address(), "/v2/fails/unauthorized/manifests/latest").await;
    assert_eq!((answer.status, answer.header("www-authenticate")), (401, None));
}

#[tokio::test]
async fn causes_inside_the_process_are_not_shown() {
    let served = nginx().serve().await;
    let answer = get(served.server.address(), "/v2/fails/internal/manifests/latest").await;
    assert!(!String::from_utf8(answer.body).unwrap().contains("secret"));
}

// G-54
#[tokio::test]
async fn malformed_targets_are_refused_by_the_part_that_is_wrong() {
    let served = nginx().serve().await;
    let long = "a".repeat(300);
    for (target, status, code) in [
        ("/v2/UPPER/manifests/latest".to_owned(), 400, ErrorCode::NameInvalid),
        (format!("/v2/{long}/manifests/latest"), 400, ErrorCode::NameInvalid),
        (
            format!("/v2/{NAME}/manifests/sha256:baddigeststring"),
            400,
            ErrorCode::DigestInvalid,
        ),
        (
            format!("/v2/{NAME}/blobs/sha256:baddigeststring"),
            400,
            ErrorCode::DigestInvalid,
        ),
        (format!("/v2/{NAME}/blobs/latest"), 400, ErrorCode::DigestInvalid),
        (
            format!("/v2/{NAME}/manifests/.INVALID_MANIFEST_NAME"),
            404,
            ErrorCode::ManifestUnknown,
        ),
        (format!("/v2/{NAME}/tags/list?n=many"), 400, ErrorCode::Unsupported),
        ("/v2/_catalog".to_owned(), 404, ErrorCode::Unsupported),
        ("/v1/search".to_owned(), 404, ErrorCode::Unsupported),
        ("/".to_owned(), 404, ErrorCode::Unsupported),
        ("*".to_owned(), 404, ErrorCode::Unsupported),
    ] {
        let answer = get(served.server.address(), &target).await;
        assert_eq!((answer.status, answer.error()), (status, code), "{target}");
        assert_eq!(answer.header("docker-distribution-api-version"), Some("registry/2.0"));
    }
    assert!(served.registry.seen().is_empty());
}

#[tokio::test]
async fn writes_are_refused_as_unsupported() {
    let served = nginx().serve().await;
    let digest = oci::Digest::sha256(MANIFEST);
    for (method, target) in [
        ("PUT", format!("/v2/{NAME}/manifests/latest")),
        ("DELETE", format!("/v2/{NAME}/manifests/{digest}")),
        ("DELETE", format!("/v2/{NAME}/blobs/{digest}")),
        ("POST", format!("/v2/{NAME}/blobs/uploads/")),
        ("GET", format!("/v2/{NAME}/blobs/uploads/session")),
        ("PATCH", format!("/v2/{NAME}/blobs/uploads/session")),
        ("POST", "/v2/".to_owned()),
        ("OPTIONS", "/v2/".to_owned()),
        ("BREW", "/v2/".to_owned()),
    ] {
        let answer = ask(served.server.address(), method, &target, &["content-length: 0"]).await;
        assert_eq!(
            (answer.status, answer.error()),
            (405, ErrorCode::Unsupported),
            "{method} {target}"
        );
        assert_eq!(answer.header("allow"), Some("GET, HEAD"));
    }
}
