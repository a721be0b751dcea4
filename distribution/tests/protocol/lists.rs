//! The base endpoint, tag lists and referrers.

use oci::MediaType;

use crate::memory::{MemoryRegistry, NAME, nginx};
use crate::wire::{get, head};

// G-10, G-32, G-38
#[tokio::test]
async fn the_base_is_there_in_both_forms() {
    let served = nginx().serve().await;
    for target in ["/v2/", "/v2", "/v2/?ns=docker.io"] {
        let answer = get(served.server.address(), target).await;
        assert_eq!((answer.status, answer.body.as_slice()), (200, &b"{}"[..]));
        assert_eq!(answer.header("docker-distribution-api-version"), Some("registry/2.0"));
        assert_eq!(head(served.server.address(), target).await.status, 200);
    }
}

// G-47
#[tokio::test]
async fn tags_are_listed_page_by_page() {
    let served = MemoryRegistry::default().tags(&["a", "b", "c"]).serve().await;
    let target = format!("/v2/{NAME}/tags/list");
    let all = get(served.server.address(), &target).await;
    assert_eq!(all.body, br#"{"name":"library/nginx","tags":["a","b","c"]}"#);
    assert_eq!(all.header("link"), None);

    let first = get(served.server.address(), &format!("{target}?n=2&ns=docker.io")).await;
    assert_eq!(first.body, br#"{"name":"library/nginx","tags":["a","b"]}"#);
    let next = first.header("link").unwrap().strip_prefix('<').unwrap();
    let next = next.strip_suffix(">; rel=\"next\"").unwrap();
    assert_eq!(next, "/v2/library/nginx/tags/list?n=2&last=b&ns=docker.io");
    let last = get(served.server.address(), next).await;
    assert_eq!(last.body, br#"{"name":"library/nginx","tags":["c"]}"#);
    assert_eq!(last.header("link"), None);
}

#[tokio::test]
async fn a_list_without_tags_is_an_empty_list() {
    let served = MemoryRegistry::default().serve().await;
    let answer = get(served.server.address(), &format!("/v2/{NAME}/tags/list?n=0")).await;
    assert_eq!(answer.body, br#"{"name":"library/nginx","tags":[]}"#);
}

// G-41
#[tokio::test]
async fn referrers_of_nothing_are_an_empty_index() {
    let served = MemoryRegistry::default().serve().await;
    let target = format!("/v2/not/there/referrers/sha256:{}", "0".repeat(64));
    let answer = get(served.server.address(), &target).await;
    assert_eq!(
        (answer.status, answer.header("content-type")),
        (200, Some(MediaType::OCI_INDEX))
    );
    let index: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(index["manifests"], serde_json::json!([]));
    assert_eq!(answer.header("oci-filters-applied"), None);

    let filtered = get(served.server.address(), &format!("{target}?artifactType=a%2Fb")).await;
    assert_eq!(filtered.header("oci-filters-applied"), Some("artifactType"));
}
