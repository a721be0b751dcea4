//! Secrets pass through the proxy, and none of its log lines shows one, whatever the level.

use http::header::AUTHORIZATION;
use testkit::{Auth, FakeRegistry, Log};

use crate::client;
use crate::lending::{asked_for_authorization, until};
use crate::node::{Documents, Node};
use crate::world::{Link, World};

const MANIFEST: &str = "/v2/quay.example/a/b/manifests/v1";
/// What runtimes send, though nobody asks for it.
const OF_THE_CLIENT: &str = "Bearer canary-of-the-client";
/// What the nodes lend, and what it says.
const LENT: [&str; 2] = ["dXNlcjpzZWNyZXQ", "user:secret"];

async fn world(auth: Auth, documents: Documents) -> World {
    let source = FakeRegistry::builder().auth(auth).start().await.unwrap();
    let world = World::start_over(source, 2, Link::MutualTls, &[]).await;
    for node in &world.nodes {
        node.set(|settings| settings.documents = documents);
    }
    world
}

fn account(password: &str) -> Auth {
    Auth::Basic {
        user: "user".to_owned(),
        password: password.to_owned(),
    }
}

/// Through the tier, then past it; every `Authorization` that the source saw.
async fn pull(world: &mut World) -> Vec<String> {
    let headers = [("Authorization", OF_THE_CLIENT)];
    client::request(world.address, "GET", MANIFEST, &headers).await;
    until(async || world.nodes.iter().any(asked_for_authorization)).await;
    world.nodes.iter_mut().for_each(Node::kill);
    client::request(world.address, "GET", &world.blob_path(), &headers).await;
    let seen = world.source.requests();
    let values = seen.iter().filter_map(|seen| seen.header(AUTHORIZATION));
    values.map(str::to_owned).collect()
}

#[tokio::test]
async fn no_log_line_shows_a_secret() {
    let log = Log::start();
    let mut shown_to_sources = Vec::new();
    for (auth, documents) in [
        (account("secret"), Documents::Good),
        (account("another"), Documents::Good),
        (account("secret"), Documents::Mistyped),
        (Auth::anonymous_tokens(), Documents::Good),
        (Auth::anonymous_tokens(), Documents::Refuse),
    ] {
        shown_to_sources.extend(pull(&mut world(auth, documents).await).await);
    }
    let is_shown = |start: &str| shown_to_sources.iter().any(|value| value.starts_with(start));
    assert!(is_shown("Basic ") && is_shown("Bearer "), "{shown_to_sources:?}");
    let secrets = shown_to_sources.iter().map(|value| value.split_once(' ').unwrap().1);
    let secrets = secrets.chain(LENT).chain(["canary-of-the-client"]);
    let text = log.text();
    assert!(text.contains("cache node failed") && text.contains("TRACE"), "{text}");
    secrets.for_each(|secret| log.assert_hides(secret));
}
