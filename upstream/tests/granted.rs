//! Credentials found repository by repository: tried in order, never mixed up, and what the registry says of them told.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

mod support;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use oci::Repository;
use support::{Seen, Server, allow, config, manifest, reply, repository, tag};
use upstream::{Credential, GrantedCredentials, Identity, RegistryClient, UpstreamError};

#[derive(Debug, Default)]
struct Granted {
    credentials: Vec<Arc<Credential>>,
    refused: Mutex<Vec<String>>,
    public: Mutex<BTreeSet<String>>,
}

impl GrantedCredentials for Granted {
    fn of(&self, _: &Repository) -> Vec<Arc<Credential>> {
        self.credentials.clone()
    }

    fn refused(&self, _: &Repository, credential: &Credential) {
        if let Credential::Basic { username, .. } = credential {
            self.refused.lock().unwrap().push(username.clone());
        }
    }

    fn public(&self, repository: &Repository) {
        self.public.lock().unwrap().insert(repository.to_string());
    }
}

fn login(user: &str) -> Credential {
    Credential::Basic {
        username: user.into(),
        password: "secret".into(),
    }
}

fn granted(users: &[&str]) -> Arc<Granted> {
    Arc::new(Granted {
        credentials: users.iter().map(|user| Arc::new(login(user))).collect(),
        ..Granted::default()
    })
}

fn shows(seen: &Seen, user: &str) -> bool {
    let login = STANDARD.encode(format!("{user}:secret"));
    seen.header("authorization") == Some(&format!("Basic {login}"))
}

/// A registry that lets in who shows `user`, and says 401 or 403 to others.
async fn basic_registry(user: &'static str, refusal: u16) -> Server {
    Server::start(move |seen| {
        if shows(seen, user) {
            manifest()
        } else if seen.header("authorization").is_some() {
            reply(refusal).header("www-authenticate", "Basic realm=\"r\"")
        } else {
            reply(401).header("www-authenticate", "Basic realm=\"r\"")
        }
    })
    .await
}

#[tokio::test]
async fn the_next_is_tried_where_one_is_refused() {
    for refusal in [401, 403] {
        let registry = basic_registry("good", refusal).await;
        let granted = granted(&["bad", "good", "unused"]);
        let client = RegistryClient::new(config(&registry.url())).unwrap();
        let client = client.with_granted(Arc::<Granted>::clone(&granted));
        for _ in 0..2 {
            client.get_manifest(&repository(), &tag("1")).await.unwrap();
        }
        assert_eq!(*granted.refused.lock().unwrap(), ["bad", "bad"], "{refusal}");
        assert!(granted.public.lock().unwrap().is_empty());
        assert!(!registry.seen().iter().any(|seen| shows(seen, "unused")));
    }
}

#[tokio::test]
async fn what_is_given_to_nobody_in_particular_is_public() {
    let registry = Server::start(|_| manifest()).await;
    let granted = granted(&[]);
    let client = RegistryClient::new(config(&registry.url())).unwrap();
    let client = client.with_granted(Arc::<Granted>::clone(&granted));
    client.get_manifest(&repository(), &tag("1")).await.unwrap();
    assert!(granted.public.lock().unwrap().contains(&repository().to_string()));
}

#[tokio::test]
async fn one_who_asks_without_a_credential_is_never_given_the_token_of_another() {
    let tokens = Server::start(|seen| {
        let token = if seen.header("authorization").is_some() {
            "named"
        } else {
            "nobody"
        };
        reply(200).body(format!(r#"{{"token": "{token}", "expires_in": 300}}"#))
    })
    .await;
    let realm = format!(
        r#"Bearer realm="{}/token",service="s",scope="repository:team/app:pull""#,
        tokens.url()
    );
    let registry = Server::start(move |seen| match seen.header("authorization") {
        Some("Bearer named") => manifest(),
        _ => reply(401).header("www-authenticate", realm.clone()),
    })
    .await;
    let mut config = config(&registry.url());
    allow(&mut config, &tokens);
    let granted = granted(&["user"]);
    let client = RegistryClient::new(config).unwrap();
    let client = client.with_granted(Arc::<Granted>::clone(&granted));
    let anonymous = client.with_identity(Identity::Anonymous);
    client.get_manifest(&repository(), &tag("1")).await.unwrap();
    for _ in 0..2 {
        let denied = anonymous.get_manifest(&repository(), &tag("1")).await;
        assert!(matches!(denied, Err(UpstreamError::Denied { .. })));
    }
    let named = client.with_identity(Identity::As(Arc::new(login("user"))));
    named.get_manifest(&repository(), &tag("1")).await.unwrap();
    assert!(granted.public.lock().unwrap().is_empty());

    let authorized = client.authorization(&repository()).await.unwrap().unwrap();
    assert_eq!(authorized.header, "Bearer named");
    assert!(authorized.header.is_sensitive() && authorized.valid_for.unwrap().as_secs() <= 300);
    assert!(anonymous.authorization(&repository()).await.is_err());
}
