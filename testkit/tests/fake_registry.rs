//! The fake registry does each wrong thing exactly as told, and the pull client notices each.

#![allow(clippy::unwrap_used)]

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use http::header::{AUTHORIZATION, RANGE};
use oci::Digest;
use testkit::{
    Auth, FakeRegistry, Fault, Image, On, Pull, PullError, Route, Stage, eventually, image, random_bytes, serve,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

const NAME: &str = "library/nginx";
const DEADLINE: Duration = Duration::from_secs(10);
const SHORT: Duration = Duration::from_millis(300);
const LAYER_BYTES: usize = 300_000;

fn nginx() -> Image {
    image(NAME)
        .platform("linux/amd64")
        .random_layer(LAYER_BYTES, 1)
        .platform("linux/arm64")
        .layer("arm")
        .attested()
        .build()
}

async fn start() -> (FakeRegistry, Image, Digest) {
    let (registry, image) = (FakeRegistry::start().await, nginx());
    registry.push(&image);
    let layer = image.largest_blob().0.clone();
    (registry, image, layer)
}

fn pull(registry: &FakeRegistry) -> Pull {
    Pull::new(registry.url(), NAME, "latest").within(DEADLINE)
}

/// Everything a connection answers to one request before it ends; an error if that end is a reset.
async fn raw(address: SocketAddr, method: &str, target: &str, headers: &str) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("{method} {target} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    timeout(DEADLINE, stream.read_to_end(&mut answer))
        .await
        .expect("an end in time")?;
    Ok(answer)
}

fn body(answer: &[u8]) -> &[u8] {
    let end = answer
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .expect("a whole head");
    &answer[end + 4..]
}

fn head(answer: &[u8]) -> String {
    String::from_utf8(answer[..answer.len() - body(answer).len()].to_vec())
        .unwrap()
        .to_ascii_lowercase()
}

#[tokio::test]
async fn a_whole_image_can_be_pulled() {
    let (registry, image, _) = start().await;
    let pulled = pull(&registry).run().await.unwrap();
    assert_eq!(pulled.root.as_ref(), Some(image.root()));
    assert!(pulled.manifests.keys().eq(image.manifests().keys()));
    assert!(pulled.blobs.keys().eq(image.blobs().keys()));
}

#[tokio::test]
async fn one_platform_can_be_pulled_alone() {
    let (registry, image, layer) = start().await;
    let pulled = pull(&registry).platform("linux/arm64").run().await.unwrap();
    assert_eq!((pulled.manifests.len(), pulled.blobs.len()), (2, 2));
    assert!(pulled.manifests.contains_key(image.child("linux/arm64")));
    assert_eq!(registry.count(&On::blob(&layer)), 0);
}

#[tokio::test]
async fn requests_and_bytes_are_counted() {
    let (registry, image, layer) = start().await;
    pull(&registry).run().await.unwrap();
    assert_eq!(registry.count(&On::blob(&layer).method(Method::GET)), 1);
    assert_eq!(registry.count(&On::manifest("latest").method(Method::HEAD)), 1);
    assert_eq!(registry.count(&On::manifest("latest").method(Method::GET)), 0);
    assert_eq!(
        registry.count(&On::route(Route::Manifest(image.root().to_string().parse().unwrap()))),
        1
    );
    assert_eq!(registry.count(&On::everything().repository("another/one")), 0);
    assert_eq!(registry.bytes_sent(&layer), LAYER_BYTES as u64);
    registry.forget_requests();
    assert_eq!((registry.count(&On::everything()), registry.bytes_sent(&layer)), (0, 0));
}

#[tokio::test]
async fn a_tag_can_move() {
    let (registry, image, _) = start().await;
    let newer = crate::image(NAME).tag("next").layer("newer").build();
    registry.push(&newer);
    registry.tag(NAME, "latest", newer.root());
    assert_eq!(pull(&registry).run().await.unwrap().root.as_ref(), Some(newer.root()));
    registry.tag(NAME, "latest", image.root());
    assert_eq!(pull(&registry).run().await.unwrap().root.as_ref(), Some(image.root()));
    registry.remove(NAME);
    assert_eq!(pull(&registry).run().await.unwrap_err().status().unwrap(), 404);
}

#[tokio::test]
async fn a_stopped_registry_refuses_and_a_restarted_one_remembers() {
    let (mut registry, _, _) = start().await;
    registry.stop().await;
    assert_eq!(
        TcpStream::connect(registry.address()).await.unwrap_err().kind(),
        ErrorKind::ConnectionRefused
    );
    registry.restart().await.unwrap();
    pull(&registry).run().await.unwrap();
}

#[tokio::test]
async fn images_can_be_served_in_one_call() {
    let registry = serve(([127, 0, 0, 1], 0).into(), &[nginx()]).await.unwrap();
    pull(&registry).run().await.unwrap();
}

#[tokio::test]
async fn a_hang_before_the_head_lasts_until_it_is_lifted() {
    let (registry, _, layer) = start().await;
    let fault = registry.fault(On::blob(&layer), Fault::Hang(Stage::Headers));
    let pulling = tokio::time::timeout(DEADLINE, async { pull(&registry).run().await });
    let lifting = async {
        eventually(DEADLINE, "the fault is met", || async {
            (fault.hits() == 1).then_some(())
        })
        .await;
        tokio::time::sleep(SHORT).await;
        fault.lift();
    };
    let start = Instant::now();
    let (pulled, ()) = tokio::join!(pulling, lifting);
    pulled.unwrap().unwrap();
    assert!(start.elapsed() >= SHORT);
}

#[tokio::test]
async fn a_hang_in_the_body_lets_exactly_the_bytes_before_it_through() {
    let (registry, image, layer) = start().await;
    registry.fault(On::blob(&layer), Fault::Hang(Stage::Body { after_bytes: 100_001 }));
    let mut stream = TcpStream::connect(registry.address()).await.unwrap();
    let request = format!("GET /v2/{NAME}/blobs/{layer} HTTP/1.1\r\nhost: x\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while timeout(SHORT, stream.read_buf(&mut answer))
        .await
        .is_ok_and(|read| read.unwrap() > 0)
    {}
    assert_eq!(body(&answer), &image.blobs()[&layer][..100_001]);
    assert_eq!(registry.bytes_sent(&layer), 100_001);
    registry.lift_all();
    timeout(DEADLINE, async {
        while body(&answer).len() < LAYER_BYTES {
            stream.read_buf(&mut answer).await.unwrap();
        }
    })
    .await
    .expect("the rest in time");
    assert_eq!(body(&answer), image.blobs()[&layer]);
}

#[tokio::test]
async fn a_hang_at_the_first_byte_comes_after_the_head() {
    let (registry, _, layer) = start().await;
    registry.fault(On::blob(&layer), Fault::Hang(Stage::FirstByte));
    let mut stream = TcpStream::connect(registry.address()).await.unwrap();
    let request = format!("GET /v2/{NAME}/blobs/{layer} HTTP/1.1\r\nhost: x\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while timeout(SHORT, stream.read_buf(&mut answer))
        .await
        .is_ok_and(|read| read.unwrap() > 0)
    {}
    assert!(head(&answer).starts_with("http/1.1 200"));
    assert!(body(&answer).is_empty());
}

#[tokio::test]
async fn a_pause_ends_by_itself() {
    let (registry, _, layer) = start().await;
    let fault = registry.fault(On::blob(&layer), Fault::Pause(Stage::Body { after_bytes: 1 }, SHORT));
    let start = Instant::now();
    pull(&registry).run().await.unwrap();
    assert!(start.elapsed() >= SHORT);
    assert_eq!(fault.hits(), 1);
}

#[tokio::test]
async fn a_truncated_body_ends_exactly_there() {
    let (registry, image, layer) = start().await;
    registry.fault(On::blob(&layer).times(1), Fault::Truncate { after_bytes: 1000 });
    let answer = raw(registry.address(), "GET", &format!("/v2/{NAME}/blobs/{layer}"), "")
        .await
        .unwrap();
    assert!(head(&answer).contains(&format!("content-length: {LAYER_BYTES}\r\n")));
    assert_eq!(body(&answer), &image.blobs()[&layer][..1000]);
    pull(&registry).run().await.unwrap();
}

#[tokio::test]
async fn a_truncated_body_fails_a_pull() {
    let (registry, _, layer) = start().await;
    registry.fault(On::blob(&layer), Fault::Truncate { after_bytes: 1000 });
    assert!(matches!(pull(&registry).run().await, Err(PullError::Broken { .. })));
}

#[tokio::test]
async fn a_flipped_byte_is_complete_and_wrong() {
    let (registry, image, layer) = start().await;
    registry.fault(On::blob(&layer), Fault::FlipByte { at: 70_000 });
    let answer = raw(registry.address(), "GET", &format!("/v2/{NAME}/blobs/{layer}"), "")
        .await
        .unwrap();
    let truth = &image.blobs()[&layer];
    let wrong: Vec<usize> = (0..LAYER_BYTES).filter(|i| body(&answer)[*i] != truth[*i]).collect();
    assert_eq!(wrong, [70_000]);
    assert!(matches!(pull(&registry).run().await, Err(PullError::Wrong { .. })));
}

#[tokio::test]
async fn a_flipped_byte_of_a_manifest_is_noticed() {
    let (registry, _, _) = start().await;
    registry.fault(On::manifests().method(Method::GET), Fault::FlipByte { at: 5 });
    assert!(matches!(pull(&registry).run().await, Err(PullError::Wrong { .. })));
}

#[tokio::test]
async fn a_length_can_be_a_lie_both_ways() {
    let (registry, _, layer) = start().await;
    for (delta, announced, sent) in [
        (-10, LAYER_BYTES - 10, LAYER_BYTES - 10),
        (10, LAYER_BYTES + 10, LAYER_BYTES),
    ] {
        let fault = registry.fault(On::blob(&layer), Fault::LieLength { delta });
        for (method, sent) in [("GET", sent), ("HEAD", 0)] {
            let answer = raw(registry.address(), method, &format!("/v2/{NAME}/blobs/{layer}"), "")
                .await
                .unwrap();
            assert!(
                head(&answer).contains(&format!("content-length: {announced}\r\n")),
                "{}",
                head(&answer)
            );
            assert_eq!(body(&answer).len(), sent);
        }
        assert!(pull(&registry).run().await.is_err());
        fault.lift();
    }
}

#[tokio::test]
async fn headers_can_be_left_out() {
    let (registry, _, layer) = start().await;
    registry.fault(On::blobs(), Fault::OmitHeaders(vec!["content-length"]));
    registry.fault(
        On::manifest("latest"),
        Fault::OmitHeaders(vec!["docker-content-digest"]),
    );
    let answer = raw(registry.address(), "GET", &format!("/v2/{NAME}/blobs/{layer}"), "")
        .await
        .unwrap();
    assert!(head(&answer).contains("transfer-encoding: chunked"));
    let answer = raw(registry.address(), "HEAD", &format!("/v2/{NAME}/manifests/latest"), "")
        .await
        .unwrap();
    assert!(!head(&answer).contains("docker-content-digest"));
}

#[tokio::test]
async fn any_status_can_be_answered() {
    let (registry, _, _) = start().await;
    for status in [401, 403, 404, 408, 429, 500, 503] {
        let fault = registry.fault(On::manifest("latest"), Fault::Status(status));
        assert_eq!(pull(&registry).run().await.unwrap_err().status().unwrap(), status);
        fault.lift();
    }
    let headers = vec![("retry-after", "7".to_owned())];
    registry.fault(On::everything(), Fault::StatusWith(429, headers));
    let answer = raw(registry.address(), "GET", "/v2/", "").await.unwrap();
    assert!(head(&answer).starts_with("http/1.1 429") && head(&answer).contains("retry-after: 7\r\n"));
}

#[tokio::test]
async fn faults_can_be_for_the_first_requests_alone() {
    let (registry, _, _) = start().await;
    let fault = registry.fault(On::manifest("latest").times(2), Fault::Status(500));
    for _ in 0..2 {
        assert_eq!(pull(&registry).run().await.unwrap_err().status().unwrap(), 500);
    }
    pull(&registry).run().await.unwrap();
    assert_eq!(fault.hits(), 2);
}

#[tokio::test]
async fn a_connection_can_be_reset_at_each_stage() {
    let (registry, _, layer) = start().await;
    for stage in [Stage::Headers, Stage::FirstByte, Stage::Body { after_bytes: 1000 }] {
        let fault = registry.fault(On::blob(&layer), Fault::Reset(stage));
        let err = raw(registry.address(), "GET", &format!("/v2/{NAME}/blobs/{layer}"), "")
            .await
            .unwrap_err();
        assert_eq!(err.kind(), ErrorKind::ConnectionReset, "{stage:?}");
        fault.lift();
    }
    pull(&registry).run().await.unwrap();
}

#[tokio::test]
async fn connections_can_be_kept_from_coming_about() {
    let (registry, _, _) = start().await;
    let hang = registry.hang_connects().await;
    assert!(timeout(SHORT, TcpStream::connect(registry.address())).await.is_err());
    hang.lift();
    pull(&registry).run().await.unwrap();
}

#[tokio::test]
async fn bytes_can_be_paced_for_one_answer_and_for_all() {
    let (registry, _, layer) = start().await;
    let fault = registry.fault(
        On::blob(&layer),
        Fault::Rate {
            bytes_per_second: 1_000_000,
        },
    );
    let start = Instant::now();
    pull(&registry).blob(&layer).await.unwrap();
    assert!(
        start.elapsed() >= SHORT && start.elapsed() < 10 * SHORT,
        "{:?}",
        start.elapsed()
    );
    fault.lift();

    registry.limit_rate(Some(2_000_000));
    let start = Instant::now();
    let pull = pull(&registry);
    let (one, other) = tokio::join!(pull.blob(&layer), pull.blob(&layer));
    assert_eq!(one.unwrap(), other.unwrap());
    assert!(
        start.elapsed() >= SHORT && start.elapsed() < 10 * SHORT,
        "{:?}",
        start.elapsed()
    );
    registry.limit_rate(None);
}

#[tokio::test]
async fn tokens_are_asked_for_issued_and_bound_to_a_repository() {
    let registry = FakeRegistry::builder()
        .auth(Auth::anonymous_tokens())
        .start()
        .await
        .unwrap();
    registry.push(&nginx());
    let target = format!("/v2/{NAME}/manifests/latest");
    let refused = raw(registry.address(), "GET", &target, "").await.unwrap();
    let challenge = format!(
        "www-authenticate: bearer realm=\"{}/token\",service=\"fake\",scope=\"repository:{NAME}:pull\"\r\n",
        registry.url()
    );
    assert!(
        head(&refused).starts_with("http/1.1 401") && head(&refused).contains(&challenge),
        "{}",
        head(&refused)
    );

    let issue = format!("/token?service=fake&scope=repository%3A{NAME}%3Apull");
    let issued = raw(registry.address(), "GET", &issue, "").await.unwrap();
    let token: serde_json::Value = serde_json::from_slice(body(&issued)).unwrap();
    let bearer = format!("authorization: Bearer {}\r\n", token["token"].as_str().unwrap());
    let allowed = raw(registry.address(), "GET", &target, &bearer).await.unwrap();
    assert!(head(&allowed).starts_with("http/1.1 200"));
    let other = raw(registry.address(), "GET", "/v2/another/one/manifests/latest", &bearer)
        .await
        .unwrap();
    assert!(head(&other).starts_with("http/1.1 401"));
    registry.revoke_tokens();
    let revoked = raw(registry.address(), "GET", &target, &bearer).await.unwrap();
    assert!(head(&revoked).starts_with("http/1.1 401"));
}

#[tokio::test]
async fn an_account_is_asked_for() {
    let auth = Auth::Basic {
        user: "me".to_owned(),
        password: "secret".to_owned(),
    };
    let registry = FakeRegistry::builder().auth(auth).start().await.unwrap();
    assert!(head(&raw(registry.address(), "GET", "/v2/", "").await.unwrap()).starts_with("http/1.1 401"));
    let right = "authorization: Basic bWU6c2VjcmV0\r\n";
    assert!(head(&raw(registry.address(), "GET", "/v2/", right).await.unwrap()).starts_with("http/1.1 200"));
}

#[tokio::test]
async fn redirected_blobs_are_served_elsewhere_to_who_brings_no_credentials() {
    let registry = FakeRegistry::builder().redirect_blobs().start().await.unwrap();
    let image = nginx();
    registry.push(&image);
    let (layer, bytes) = image.largest_blob();
    let answer = raw(registry.address(), "GET", &format!("/v2/{NAME}/blobs/{layer}"), "")
        .await
        .unwrap();
    assert!(head(&answer).starts_with("http/1.1 307"));
    let head = head(&answer);
    let location = head.split("location: http://").nth(1).unwrap().lines().next().unwrap();
    let (address, path) = location.split_once('/').unwrap();
    let (address, path): (SocketAddr, _) = (address.parse().unwrap(), format!("/{path}"));
    assert_ne!(address, registry.address());

    let part = raw(address, "GET", &path, "range: bytes=5-\r\n").await.unwrap();
    assert_eq!(body(&part), &bytes[5..]);
    let refused = raw(address, "GET", &path, "authorization: Bearer x\r\n").await.unwrap();
    assert!(crate::head(&refused).starts_with("http/1.1 400"));
    let seen = registry.requests().pop().unwrap();
    assert!(seen.header(AUTHORIZATION).is_some() && seen.header(RANGE).is_none());
    assert_eq!(seen.route, Route::Content(layer.clone()));
}

#[tokio::test]
async fn ranges_are_served_from_a_distorted_place_on() {
    let (registry, image, layer) = start().await;
    registry.fault(On::blob(&layer), Fault::Truncate { after_bytes: 10 });
    let target = format!("/v2/{NAME}/blobs/{layer}");
    let answer = raw(registry.address(), "GET", &target, "range: bytes=1000-\r\n")
        .await
        .unwrap();
    assert!(head(&answer).starts_with("http/1.1 206"));
    assert_eq!(body(&answer), &image.blobs()[&layer][1000..1010]);
}

#[test]
fn random_bytes_are_the_same_for_the_same_seed() {
    assert_eq!(random_bytes(1000, 3), random_bytes(1000, 3));
    assert_ne!(random_bytes(1000, 3), random_bytes(1000, 4));
    assert_eq!(random_bytes(0, 3), Bytes::new());
}
