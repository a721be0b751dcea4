//! Requests and manifests that are wrong get a clear error, and leave nothing behind.

use oci::MANIFEST_SIZE_BYTES_MAX;
use sandbox::http;
use serde_json::Value;
use testkit::image as make;

use crate::raw_source;
use crate::world::{World, blob_url};

const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const MEBIBYTE: usize = 1 << 20;

/// Method, target, status and code. `{digest}` is one that nobody has.
const REQUESTS: &[(&str, &str, u16, &str)] = &[
    ("GET", "/v2/registry.test/Library/App/manifests/1", 400, "NAME_INVALID"),
    (
        "GET",
        "/v2/registry.test/../../etc/passwd/manifests/1",
        400,
        "NAME_INVALID",
    ),
    ("GET", "/v2/registry.test/a//b/manifests/1", 400, "NAME_INVALID"),
    (
        "GET",
        "/v2/registry.test/library/app/manifests/-bad",
        404,
        "MANIFEST_UNKNOWN",
    ),
    (
        "GET",
        "/v2/registry.test/library/app/manifests/sha256:xyz",
        400,
        "DIGEST_INVALID",
    ),
    (
        "GET",
        "/v2/registry.test/library/app/blobs/sha256:xyz",
        400,
        "DIGEST_INVALID",
    ),
    (
        "GET",
        "/v2/registry.test/library/app/blobs/nodigest",
        400,
        "DIGEST_INVALID",
    ),
    (
        "GET",
        "/v2/library/app/manifests/1?ns=-bad%20host-",
        400,
        "NAME_INVALID",
    ),
    (
        "GET",
        "/v2/library/app/manifests/1?ns=http://registry.test/",
        400,
        "NAME_INVALID",
    ),
    (
        "GET",
        "/v2/registry.test/library/app/manifests/nowhere",
        404,
        "MANIFEST_UNKNOWN",
    ),
    (
        "GET",
        "/v2/registry.test/library/app/blobs/{digest}",
        404,
        "BLOB_UNKNOWN",
    ),
    ("PUT", "/v2/registry.test/library/app/manifests/1", 405, "UNSUPPORTED"),
    (
        "DELETE",
        "/v2/registry.test/library/app/manifests/latest",
        405,
        "UNSUPPORTED",
    ),
    (
        "POST",
        "/v2/registry.test/library/app/blobs/uploads/",
        405,
        "UNSUPPORTED",
    ),
    ("GET", "/v2/registry.test/library/app/nonsense", 404, ""),
    ("GET", "/v3/", 404, ""),
];

#[test]
fn wrong_requests_get_the_documents_of_the_specification() {
    let world = World::start(|cluster, _| cluster);
    let image = make("library/app").random_layer(100_000, 1).build();
    world.source.push(&image);
    world.cache(&image);
    let before = world.cluster.kuik(&["images"]).unwrap();
    let nobodys = oci::Digest::sha256(b"nobody has this").to_string();
    let (node, proxy) = (&world.cluster.nodes()[0].url, world.cluster.proxy_url());
    for base in [node, proxy] {
        for (method, target, status, code) in REQUESTS {
            let url = format!("{base}{}", target.replace("{digest}", &nobodys));
            let answer = http::request(method, &url, &[]).unwrap();
            assert_eq!(answer.status, *status, "{method} {url}");
            let document: Value = serde_json::from_slice(&answer.bytes().unwrap()).unwrap();
            let found = document["errors"][0]["code"].as_str().unwrap();
            assert!(found == *code || code.is_empty(), "{method} {url}: {document}");
        }
        let (digest, bytes) = image.largest_blob();
        let url = blob_url(base, &image, digest);
        for (range, status) in [
            ("bytes=100000-", 416),
            ("bytes=5-2", 416),
            ("bytes=zzz", 416),
            ("lines=1-2", 200),
            ("bytes=-0", 416),
            ("bytes=99999-200000", 206),
        ] {
            let answer = http::request("GET", &url, &[("Range", range)]).unwrap();
            assert_eq!(answer.status, status, "{range} of {url}");
            let body = answer.bytes().unwrap();
            if status == 200 {
                assert_eq!(body, *bytes, "{range} of {url}");
            }
        }
    }
    assert_eq!(
        world.cluster.kuik(&["images"]).unwrap()["images"],
        before["images"],
        "nothing is stored"
    );
    world.assert_pulls(&image);
}

#[test]
fn manifests_that_are_none_are_never_stored() {
    let huge = format!(
        "{{\"schemaVersion\":2,\"mediaType\":\"{OCI_MANIFEST}\",\"layers\":[]}}{}",
        " ".repeat(5 * MEBIBYTE)
    );
    let sources = [
        (
            "malformed.test",
            OCI_MANIFEST,
            b"{\"schemaVersion\": 2, \"layers\": [".to_vec(),
        ),
        (
            "shape.test",
            OCI_MANIFEST,
            b"{\"layers\": \"none\", \"config\": 7}".to_vec(),
        ),
        ("binary.test", OCI_MANIFEST, vec![0xff; 2000]),
        ("unknown.test", "text/html", b"<html>log in</html>".to_vec()),
        ("huge.test", OCI_MANIFEST, huge.into_bytes()),
    ];
    let world = World::start(|cluster, _| {
        sources.iter().fold(cluster, |cluster, (host, media_type, body)| {
            cluster.upstream(host, &raw_source::start(media_type, body.clone()))
        })
    });
    for base in world.listeners() {
        for (host, _, body) in &sources {
            let url = format!("{base}/v2/{host}/library/app/manifests/latest");
            let answer = http::get(&url).unwrap();
            let status = answer.status;
            let received = answer.bytes().unwrap();
            if body.len() <= MANIFEST_SIZE_BYTES_MAX {
                // What it is worth is the client's to judge, as it would be without us.
                assert_eq!(status, 200, "{url}");
                assert!(received == *body, "{url}: a body nobody sent");
            } else {
                let document: Value = serde_json::from_slice(&received).unwrap();
                assert!(document["errors"][0]["code"].is_string(), "{url}: {document}");
                assert!((500..600).contains(&status), "{url}: {status}");
            }
        }
    }
    let images = world.cluster.kuik(&["images"]).unwrap();
    assert_eq!(images["images"], Value::Array(Vec::new()), "nothing is stored");
    for (host, _, _) in &sources {
        let explained = world
            .cluster
            .kuik(&["explain", &format!("{host}/library/app:latest")])
            .unwrap();
        assert_eq!(explained["cached"], Value::Bool(false), "{explained}");
    }
    for node in 0..world.cluster.nodes().len() {
        assert_eq!(
            world.cluster.node_status(node).unwrap().blobs.count,
            0,
            "blobs on node {node}"
        );
    }
}
