//! Challenges, tokens and credentials against scripted registries. Contract: G-55 to G-57.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::future::join_all;
use support::{MANIFEST, Reply, Seen, Server, allow, config, manifest, reply, repository, tag};
use upstream::{Credential, RegistryClient, UpstreamConfig, UpstreamError};

fn password() -> Credential {
    Credential::Basic {
        username: "user".into(),
        password: "secret".into(),
    }
}

const BASIC: &str = "Basic dXNlcjpzZWNyZXQ=";

fn with_password(mut config: UpstreamConfig) -> UpstreamConfig {
    config
        .credentials
        .add("source.example".parse().unwrap(), "", password());
    config
}

/// A token server that issues `token-1`, `token-2`, ... to whoever asks.
async fn token_server() -> Server {
    let issued = AtomicUsize::new(0);
    Server::start(move |_| {
        let number = issued.fetch_add(1, Ordering::SeqCst) + 1;
        reply(200).body(format!(r#"{{"token": "token-{number}", "expires_in": 300}}"#))
    })
    .await
}

fn challenge(realm: &Server) -> Reply {
    let realm = format!(
        r#"Bearer realm="{}/token",service="source",scope="repository:team/app:pull""#,
        realm.url()
    );
    reply(401)
        .header("www-authenticate", realm)
        .body(r#"{"errors":[{"code":"UNAUTHORIZED","message":"who?"}]}"#)
}

fn bears(seen: &Seen, token: &str) -> bool {
    seen.header("authorization") == Some(&format!("Bearer {token}"))
}

/// A registry that lets in who bears a token of `tokens`.
async fn registry(tokens: &Server, accepted: &'static [&'static str]) -> Server {
    let tokens = tokens.clone();
    Server::start(move |seen| {
        if accepted.iter().any(|token| bears(seen, token)) {
            manifest()
        } else {
            challenge(&tokens)
        }
    })
    .await
}

fn client(registry: &Server, tokens: &Server, change: impl FnOnce(UpstreamConfig) -> UpstreamConfig) -> RegistryClient {
    let mut config = config(&registry.url());
    allow(&mut config, tokens);
    RegistryClient::new(change(config)).unwrap()
}

#[tokio::test]
async fn a_challenge_is_answered_with_a_token_that_is_kept() {
    let tokens = token_server().await;
    let registry = registry(&tokens, &["token-1"]).await;
    let client = client(&registry, &tokens, |config| config);
    for _ in 0..3 {
        assert_eq!(
            client.get_manifest(&repository(), &tag("v1")).await.unwrap().bytes(),
            MANIFEST
        );
    }
    assert_eq!(
        tokens.seen()[0].path,
        "/token?service=source&scope=repository:team/app:pull"
    );
    assert_eq!((tokens.count("/token"), registry.count("/manifests/")), (1, 4));
}

#[tokio::test]
async fn a_hundred_requests_at_once_ask_for_one_token() {
    let tokens = token_server().await;
    let registry = registry(&tokens, &["token-1"]).await;
    let client = client(&registry, &tokens, with_password);
    let (name, v1) = (repository(), tag("v1"));
    let found = join_all((0..100).map(|_| client.head_manifest(&name, &v1))).await;
    assert!(found.iter().all(Result::is_ok));
    assert_eq!(tokens.count("/token"), 1);
    assert_eq!(tokens.seen()[0].header("authorization"), Some(BASIC));
}

#[tokio::test]
async fn a_token_that_is_refused_is_dropped_and_asked_for_once_more() {
    let tokens = token_server().await;
    let valid = Arc::new(AtomicUsize::new(1));
    let (now_valid, realm) = (Arc::clone(&valid), tokens.clone());
    let registry = Server::start(move |seen| {
        let token = format!("token-{}", now_valid.load(Ordering::SeqCst));
        if bears(seen, &token) {
            manifest()
        } else {
            challenge(&realm)
        }
    })
    .await;
    let client = client(&registry, &tokens, |config| config);
    client.head_manifest(&repository(), &tag("v1")).await.unwrap();
    valid.store(2, Ordering::SeqCst);
    client.head_manifest(&repository(), &tag("v1")).await.unwrap();
    assert_eq!(tokens.count("/token"), 2);
}

#[tokio::test]
async fn who_is_never_let_in_is_denied_after_one_token() {
    let tokens = token_server().await;
    let registry = registry(&tokens, &[]).await;
    let client = client(&registry, &tokens, |config| config);
    let error = client.get_manifest(&repository(), &tag("v1")).await.unwrap_err();
    assert!(matches!(&error, UpstreamError::Denied { status: 401, .. }), "{error}");
    assert!(
        error.to_string().contains("UNAUTHORIZED: who?") && error.to_string().contains("team/app"),
        "{error}"
    );
    assert_eq!((tokens.count("/token"), registry.count("/manifests/")), (1, 2));
}

#[tokio::test]
async fn a_challenge_may_stand_on_the_base_endpoint_only() {
    let tokens = token_server().await;
    let realm = tokens.clone();
    let registry = Server::start(move |seen| match &*seen.path {
        "/v2/" => challenge(&realm),
        _ if bears(seen, "token-1") => manifest(),
        _ => reply(401),
    })
    .await;
    let client = client(&registry, &tokens, |config| config);
    client.head_manifest(&repository(), &tag("v1")).await.unwrap();
    assert_eq!(registry.count("/v2/"), 3);
}

#[tokio::test]
async fn a_token_of_too_narrow_scope_is_widened() {
    let tokens = token_server().await;
    let realm = tokens.clone();
    let registry = Server::start(move |seen| {
        if bears(seen, "token-2") {
            return manifest();
        }
        let wide = if bears(seen, "token-1") {
            "repository:team/app:pull,push\",error=\"insufficient_scope"
        } else {
            "x"
        };
        reply(401).header(
            "www-authenticate",
            format!(r#"Bearer realm="{}/token",scope="{wide}""#, realm.url()),
        )
    })
    .await;
    let client = client(&registry, &tokens, |config| config);
    client.head_manifest(&repository(), &tag("v1")).await.unwrap();
    assert_eq!(tokens.seen()[1].path, "/token?scope=repository:team/app:pull,push");
}

#[tokio::test]
async fn a_password_answers_basic_and_is_sent_at_once_next_time() {
    let registry = Server::start(|seen| match seen.header("authorization") {
        Some(BASIC) => manifest(),
        _ => reply(401).header("www-authenticate", r#"Negotiate, Basic realm="a, b""#),
    })
    .await;
    let client = RegistryClient::new(with_password(config(&registry.url()))).unwrap();
    for _ in 0..2 {
        client.head_manifest(&repository(), &tag("v1")).await.unwrap();
    }
    assert_eq!(registry.count("/manifests/"), 3);
    let anonymous = support::client(&registry.url());
    let error = anonymous.head_manifest(&repository(), &tag("v1")).await.unwrap_err();
    assert!(matches!(error, UpstreamError::Denied { status: 401, .. }), "{error}");
}

#[tokio::test]
async fn a_token_server_of_another_host_gets_no_password() {
    let evil = token_server().await;
    let realm = format!("http://localhost:{}", evil.address.port());
    let at = realm.clone();
    let registry = Server::start(move |seen| {
        if bears(seen, "token-1") {
            return manifest();
        }
        reply(401).header("www-authenticate", format!(r#"Bearer realm="{at}/token""#))
    })
    .await;
    let mut config = with_password(config(&registry.url()));
    let host = format!("localhost:{}", evil.address.port()).parse().unwrap();
    config
        .hosts
        .insert(host, upstream::HostRule::at(realm.parse().unwrap()));
    let client = RegistryClient::new(config).unwrap();
    client.head_manifest(&repository(), &tag("v1")).await.unwrap();
    assert_eq!(evil.count("/token"), 1);
    assert_eq!(evil.seen()[0].header("authorization"), None);
}

#[tokio::test]
async fn a_refused_password_does_not_lock_out_of_what_is_public() {
    let tokens = Server::start(|seen| match seen.header("authorization") {
        Some(_) => reply(401),
        None => reply(200).body(r#"{"access_token": "public"}"#),
    })
    .await;
    let registry = registry(&tokens, &["public"]).await;
    let client = client(&registry, &tokens, with_password);
    client.head_manifest(&repository(), &tag("v1")).await.unwrap();
}

#[tokio::test]
async fn an_identity_token_is_exchanged_by_post() {
    let tokens = Server::start(|_| reply(200).body(r#"{"access_token": "token-1"}"#)).await;
    let registry = registry(&tokens, &["token-1"]).await;
    let client = client(&registry, &tokens, |mut config| {
        let credential = Credential::IdentityToken("refresh me".into());
        config
            .credentials
            .add("source.example".parse().unwrap(), "team", credential);
        config
    });
    client.head_manifest(&repository(), &tag("v1")).await.unwrap();
    let form = String::from_utf8(tokens.seen()[0].body.to_vec()).unwrap();
    assert!(
        form.contains("grant_type=refresh_token") && form.contains("refresh_token=refresh%20me"),
        "{form}"
    );
    assert!(form.contains("scope=repository:team/app:pull"), "{form}");
}

#[tokio::test]
async fn one_bad_answer_does_not_poison_the_next_request() {
    let asked = AtomicUsize::new(0);
    let registry = Server::start(move |_| match asked.fetch_add(1, Ordering::SeqCst) {
        0 => reply(401).header("www-authenticate", r#"Basic realm="oops""#),
        _ => manifest(),
    })
    .await;
    let client = RegistryClient::new(with_password(config(&registry.url()))).unwrap();
    client.head_manifest(&repository(), &tag("v1")).await.unwrap();
    let anonymous_again = support::client(&registry.url());
    anonymous_again.head_manifest(&repository(), &tag("v1")).await.unwrap();
}

#[tokio::test]
async fn a_token_server_that_fails_is_asked_again() {
    let asked = AtomicUsize::new(0);
    let tokens = Server::start(move |_| match asked.fetch_add(1, Ordering::SeqCst) {
        0..3 => reply(503),
        _ => reply(200).body(r#"{"token": "token-1"}"#),
    })
    .await;
    let registry = registry(&tokens, &["token-1"]).await;
    let client = client(&registry, &tokens, |config| config);
    let error = client.head_manifest(&repository(), &tag("v1")).await.unwrap_err();
    assert!(matches!(error, UpstreamError::Unavailable { .. }), "{error}");
    client.head_manifest(&repository(), &tag("v1")).await.unwrap();
}

#[tokio::test]
async fn a_waiter_that_leaves_does_not_stall_the_token_for_others() {
    let tokens = Server::start(|_| {
        reply(200)
            .body(r#"{"token": "token-1"}"#)
            .after(Duration::from_millis(100))
    })
    .await;
    let registry = registry(&tokens, &["token-1"]).await;
    let client = client(&registry, &tokens, |config| config);
    let (name, v1) = (repository(), tag("v1"));
    let impatient = tokio::time::timeout(Duration::from_millis(30), client.head_manifest(&name, &v1));
    let (left, stayed) = tokio::join!(impatient, client.head_manifest(&name, &v1));
    assert!(left.is_err());
    stayed.unwrap();
}

#[tokio::test]
async fn a_rate_limited_token_server_blocks_the_registrys_budget() {
    let tokens = Server::start(|_| reply(429).header("retry-after", 30)).await;
    let registry = registry(&tokens, &[]).await;
    let client = client(&registry, &tokens, |config| config);
    let error = client.head_manifest(&repository(), &tag("v1")).await.unwrap_err();
    assert!(
        matches!(error, UpstreamError::RateLimited { after: Some(after), .. } if after.as_secs() == 30),
        "{error}"
    );
    let budget = client.budget(&"source.example".parse().unwrap());
    assert!(budget.blocked_until(tokio::time::Instant::now()).is_some());
}
