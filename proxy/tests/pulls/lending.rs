//! What the tier tells a proxy beside content, what it lends, and what it refuses.

use std::time::{Duration, Instant};

use testkit::{Auth, FakeRegistry, On};

use crate::node::{Documents, Node};
use crate::world::{HOST, Link, NODE_NAME, World};

const MANIFEST: &str = "/v2/quay.example/a/b/manifests/v1";
const DEADLINE: Duration = Duration::from_secs(20);
/// Far below every deadline of the proxy, far above what a pull takes.
const AT_ONCE: Duration = Duration::from_millis(900);

pub(crate) async fn until(mut done: impl AsyncFnMut() -> bool) {
    let started = Instant::now();
    while !done().await {
        assert!(started.elapsed() < DEADLINE, "too late");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A world whose source wants the password that the tier lends.
async fn private_world(n_nodes: usize, documents: Documents) -> World {
    let source = FakeRegistry::builder().auth(Auth::Basic {
        user: "user".to_owned(),
        password: "secret".to_owned(),
    });
    let world = World::start_over(source.start().await.unwrap(), n_nodes, Link::MutualTls, &[]).await;
    for node in &world.nodes {
        node.set(|settings| settings.documents = documents);
    }
    world
}

pub(crate) fn asked_for_authorization(node: &Node) -> bool {
    let documents = node.shelf.documents.lock().unwrap();
    let target = format!("/kuik/v1/authorization?repository={HOST}%2Fa%2Fb").replace("quay.example", "quay%2Eexample");
    documents
        .iter()
        .any(|asked| asked.target == target && asked.node_name.as_deref() == Some(NODE_NAME))
}

#[tokio::test]
async fn a_host_with_a_port_is_known_once_the_tier_knows_it() {
    let world = World::start(2, Link::MutualTls).await;
    world.nodes[1].set(|settings| settings.documents = Documents::Good);
    let asked_for = |host: &str| {
        let asked = |node: &Node| {
            node.shelf
                .asked
                .lock()
                .unwrap()
                .iter()
                .any(|asked| asked.ns.as_deref() == Some(host))
        };
        world.nodes.iter().any(asked)
    };
    until(async || {
        world.get("/v2/reg.corp-5000/a/b/manifests/v1").await;
        asked_for("reg.corp:5000")
    })
    .await;
    // v1 took the digits behind any last dash for a port.
    world.get("/v2/other.corp-5000/a/b/manifests/v1").await;
    assert!(asked_for("other.corp-5000") && !asked_for("other.corp:5000"));
}

/// The pod that names a registry first is pulled long before the next round of facts.
#[tokio::test]
async fn the_first_pull_from_a_host_with_a_port_goes_to_it() {
    let world = World::start(1, Link::MutualTls).await;
    world.get("/v2/reg.corp-5000/a/b/manifests/v1").await;
    world.nodes[0].shelf.asked.lock().unwrap().clear();
    world.nodes[0].set(|settings| settings.documents = Documents::Good);
    tokio::time::sleep(Duration::from_millis(400)).await;
    world.get("/v2/reg.corp-5000/a/b/manifests/v1").await;
    let asked = world.nodes[0].shelf.asked.lock().unwrap();
    assert_eq!(asked[0].ns.as_deref(), Some("reg.corp:5000"));
}

#[tokio::test]
async fn a_host_with_a_port_that_the_tier_does_not_tell_of_is_never_taken_for_another() {
    let world = World::start(1, Link::MutualTls).await;
    world.nodes[0].set(|settings| settings.documents = Documents::Hang);
    let started = Instant::now();
    for path in ["/v2/other.corp-5000/a/b/manifests/v1", "/v2/other-5000/b/manifests/v1"] {
        assert_eq!(world.get(path).await.status, 503, "{path}");
    }
    assert!(started.elapsed() < 2 * AT_ONCE, "{:?}", started.elapsed());
    assert_eq!(world.source.count(&On::manifests()), 0);
}

#[tokio::test]
async fn pulls_of_a_private_image_go_on_when_the_tier_is_gone() {
    let mut world = private_world(2, Documents::Good).await;
    assert_eq!(world.get(MANIFEST).await.status, 200, "from the tier");
    until(async || world.nodes.iter().any(asked_for_authorization)).await;
    // The loan is taken a moment after it was given.
    tokio::time::sleep(Duration::from_millis(100)).await;
    world.nodes.iter_mut().for_each(Node::kill);
    assert_eq!(world.get(MANIFEST).await.status, 200, "from the source");
    let reply = world.get(&world.blob_path()).await;
    world.assert_whole_blob(&reply);
}

#[tokio::test]
async fn a_tier_without_the_content_lends_what_the_source_wants() {
    let world = private_world(2, Documents::Good).await;
    for node in &world.nodes {
        node.set(|settings| settings.empty = true);
    }
    let reply = world.get(&world.blob_path()).await;
    world.assert_whole_blob(&reply);
}

#[tokio::test]
async fn a_tier_that_refuses_is_not_asked_again_and_the_source_once() {
    let world = private_world(3, Documents::Refuse).await;
    for node in &world.nodes {
        node.set(|settings| settings.refuses = true);
    }
    let started = Instant::now();
    let reply = world.get(MANIFEST).await;
    assert_eq!(reply.status, 403);
    assert_eq!(reply.header("www-authenticate"), None);
    assert!(started.elapsed() < AT_ONCE, "{:?}", started.elapsed());
    assert_eq!(world.n_asked("manifest"), 1, "one node speaks for all");
    assert_eq!(world.source.count(&On::manifests()), 1);
    assert!(!world.nodes.iter().any(asked_for_authorization));
}

#[tokio::test]
async fn a_refusal_of_the_tier_takes_back_what_it_lent() {
    let world = private_world(1, Documents::Good).await;
    assert_eq!(world.get(MANIFEST).await.status, 200);
    until(async || asked_for_authorization(&world.nodes[0])).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    world.nodes[0].set(|settings| settings.refuses = true);
    assert_eq!(world.get(MANIFEST).await.status, 403, "the source never sees the loan");
}

#[tokio::test]
async fn whatever_a_node_answers_beside_content_pulls_are_as_fast() {
    for documents in [Documents::Fail, Documents::Refuse, Documents::Hang, Documents::Garbage] {
        let world = World::start(2, Link::MutualTls).await;
        for node in &world.nodes {
            node.set(|settings| settings.documents = documents);
        }
        for round in 0..3 {
            let started = Instant::now();
            assert_eq!(world.get(MANIFEST).await.status, 200, "{documents:?}");
            let reply = world.get(&world.blob_path()).await;
            world.assert_whole_blob(&reply);
            assert!(
                started.elapsed() < AT_ONCE,
                "{documents:?} {round}: {:?}",
                started.elapsed()
            );
        }
        assert!(world.source.requests().is_empty(), "{documents:?}");
    }
}
