//! What container runtimes must and must not see.

use testkit::{Fault, On, Stage};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::client::{self, Reply};
use crate::world::{BLOB_BYTES, Link, World};

fn assert_error_document(reply: &Reply) {
    let document: serde_json::Value = serde_json::from_slice(&reply.body).expect("JSON");
    assert!(document["errors"][0]["code"].is_string(), "{document}");
    assert_eq!(
        reply.header("www-authenticate"),
        None,
        "a challenge here would collect passwords"
    );
}

#[tokio::test]
async fn answers_of_the_source_reach_the_client_in_words_it_can_bear() {
    let limited = vec![("retry-after", "30".to_owned())];
    let table = [
        (Fault::StatusWith(429, limited), 503),
        (Fault::Challenge, 403),
        (Fault::Status(403), 403),
        (Fault::Status(404), 404),
        (Fault::Status(500), 503),
        (Fault::Status(302), 503),
        (Fault::Reset(Stage::Headers), 503),
    ];
    for (fault, status) in table {
        let world = World::start(0, Link::Plain).await;
        world.source.fault(On::everything(), fault.clone());
        for path in [world.blob_path(), "/v2/quay.example/a/b/manifests/v1".to_owned()] {
            let reply = world.get(&path).await;
            assert_eq!(reply.status, status, "{fault:?}: {path}");
            assert_error_document(&reply);
        }
    }
}

// v1 asked its cache for everything twice, and sent ranges to the source.
#[tokio::test]
async fn each_thing_is_asked_for_once_and_parts_of_it_come_from_the_tier() {
    let world = World::start(3, Link::MutualTls).await;
    assert_eq!(world.get("/v2/quay.example/a/b/manifests/v1").await.status, 200);
    assert_eq!(world.get(&world.blob_path()).await.status, 200);
    assert_eq!((world.n_asked("manifest"), world.n_asked("blob")), (1, 1));
    let part = client::request(world.address, "GET", &world.blob_path(), &[("range", "bytes=5-9")]).await;
    assert_eq!((part.status, &part.body[..]), (206, &world.blob[5..10]));
    assert_eq!(world.n_asked("blob"), 2);
    assert!(world.source.requests().is_empty());
}

#[tokio::test]
async fn the_base_endpoint_needs_nobody() {
    let world = World::start(0, Link::Plain).await;
    world.source.fault(On::everything(), Fault::Hang(Stage::Headers));
    for path in ["/v2/", "/v2"] {
        let reply = world.get(path).await;
        assert_eq!((reply.status, reply.header("www-authenticate")), (200, None));
        assert_eq!(reply.header("docker-distribution-api-version"), Some("registry/2.0"));
    }
}

#[tokio::test]
async fn bad_requests_get_an_error_document() {
    let world = World::start(0, Link::Plain).await;
    let table = [
        ("GET", "/v2/quay.example/A/manifests/v1", 400),
        ("GET", "/v2/quay.example/a/manifests/sha256:short", 400),
        ("GET", "/v2/a/manifests/v1?ns=not%20a%20host", 400),
        ("PUT", "/v2/quay.example/a/manifests/v1", 405),
        ("POST", "/v2/quay.example/a/blobs/uploads/", 405),
    ];
    for (method, path, status) in table {
        let reply = client::request(world.address, method, path, &[]).await;
        assert!(
            reply.status == status || (status == 400 && reply.status == 404),
            "{method} {path}: {}",
            reply.status
        );
        assert_error_document(&reply);
    }
    assert!(world.source.requests().is_empty());
}

#[tokio::test]
async fn addresses_of_this_machine_are_not_asked() {
    let world = World::start(0, Link::Plain).await;
    for host in ["127.0.0.1:6443", "169.254.169.254", "localhost:1"] {
        let reply = world.get(&format!("/v2/a/b/manifests/v1?ns={host}")).await;
        assert!(matches!(reply.status, 403 | 404), "{host}: {}", reply.status);
        assert_error_document(&reply);
    }
}

#[tokio::test]
async fn ranges_are_answered_with_the_length_of_the_whole() {
    for n_nodes in [0, 1] {
        let world = World::start(n_nodes, Link::Plain).await;
        let size = BLOB_BYTES;
        let table = [
            ("bytes=0-9".to_owned(), Some(0..10)),
            ("bytes=5-".to_owned(), Some(5..size)),
            ("bytes=-7".to_owned(), Some(size - 7..size)),
            (format!("bytes={size}-"), None),
            (format!("bytes={}-", size + 5), None),
        ];
        for (range, expected) in table {
            let reply = client::request(world.address, "GET", &world.blob_path(), &[("Range", &range)]).await;
            match expected {
                Some(part) => {
                    let content_range = format!("bytes {}-{}/{size}", part.start, part.end - 1);
                    assert_eq!(
                        (reply.status, reply.header("content-range")),
                        (206, Some(&*content_range)),
                        "{range}"
                    );
                    assert!(reply.whole && reply.body == world.blob[part], "{range}");
                }
                None => {
                    assert_eq!(reply.status, 416, "{range} with {n_nodes} nodes");
                    assert_eq!(reply.header("content-range"), Some(&*format!("bytes */{size}")));
                }
            }
        }
    }
}

#[tokio::test]
async fn a_tls_greeting_on_the_plain_port_is_answered_with_http() {
    let world = World::start(0, Link::Plain).await;
    let mut stream = TcpStream::connect(world.address).await.unwrap();
    stream.write_all(&[22, 3, 1, 0, 5, 1, 0, 0, 1, 0]).await.unwrap();
    let mut answer = [0; 5];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/");
}
