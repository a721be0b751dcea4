//! Who may ask a fake registry: anyone, an account, or who holds a token it issued.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::AUTHORIZATION;
use oci::RepositoryName;
use percent_encoding::percent_decode_str;
use serde_json::json;
use tokio::time::Instant;

use super::requests::{Seen, TOKEN_PATH};

/// How a fake registry authenticates.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Auth {
    /// Anyone may ask.
    #[default]
    Anonymous,
    /// This account, sent as Basic.
    Basic {
        /// Its name.
        user: String,
        /// Its password.
        password: String,
    },
    /// A bearer token per repository from the registry's own token endpoint.
    Token {
        /// Name and password without which the endpoint issues none; `None` issues to anyone.
        account: Option<(String, String)>,
        /// How long a token works.
        lifetime: Duration,
    },
}

impl Auth {
    /// Tokens for anyone, as Docker Hub has it.
    pub fn anonymous_tokens() -> Self {
        Self::Token {
            account: None,
            lifetime: Duration::from_secs(300),
        }
    }
}

#[derive(Debug)]
pub(super) struct Authority {
    auth: Auth,
    issued: Mutex<BTreeMap<String, Token>>,
}

#[derive(Debug)]
struct Token {
    scopes: Vec<String>,
    until: Instant,
}

impl Authority {
    pub(super) fn new(auth: Auth) -> Self {
        Self {
            auth,
            issued: Mutex::default(),
        }
    }

    pub(super) fn revoke(&self) {
        self.issued().clear();
    }

    pub(super) fn allows(&self, seen: &Seen) -> bool {
        let given = seen.header(AUTHORIZATION);
        match &self.auth {
            Auth::Anonymous => true,
            Auth::Basic { user, password } => given == Some(&basic(user, password)),
            Auth::Token { .. } => {
                let token = given.and_then(|given| given.strip_prefix("Bearer "));
                token.is_some_and(|token| self.is_good(token, seen.repository.as_ref()))
            }
        }
    }

    fn is_good(&self, token: &str, repository: Option<&RepositoryName>) -> bool {
        let issued = self.issued();
        let Some(token) = issued.get(token).filter(|token| token.until > Instant::now()) else {
            return false;
        };
        repository.is_none_or(|repository| {
            let wanted = format!("repository:{repository}:");
            token
                .scopes
                .iter()
                .any(|scope| scope.starts_with(&wanted) && scope.contains("pull"))
        })
    }

    /// The value of `WWW-Authenticate`, for a registry at this base URL.
    pub(super) fn challenge(&self, base_url: &str, seen: &Seen) -> String {
        match &self.auth {
            Auth::Anonymous | Auth::Basic { .. } => "Basic realm=\"fake\"".to_owned(),
            Auth::Token { .. } => {
                let scope = seen
                    .repository
                    .as_ref()
                    .map(|name| format!(",scope=\"repository:{name}:pull\""));
                let scope = scope.unwrap_or_default();
                format!("Bearer realm=\"{base_url}{TOKEN_PATH}\",service=\"fake\"{scope}")
            }
        }
    }

    /// The body of the token endpoint's answer, or nothing for an account it does not know.
    pub(super) fn issue(&self, seen: &Seen) -> Option<Vec<u8>> {
        let Auth::Token { account, lifetime } = &self.auth else {
            return None;
        };
        if let Some((user, password)) = account
            && seen.header(AUTHORIZATION) != Some(&basic(user, password))
        {
            return None;
        }
        let query = seen.target.split_once('?').map_or("", |(_, query)| query);
        let scopes = query.split('&').filter_map(|pair| pair.strip_prefix("scope="));
        let scopes = scopes.flat_map(|scopes| {
            let decoded = percent_decode_str(scopes).decode_utf8_lossy().replace('+', " ");
            decoded.split(' ').map(str::to_owned).collect::<Vec<_>>()
        });
        let token = format!("{:032x}", fastrand::u128(..));
        let until = Instant::now() + *lifetime;
        self.issued().insert(
            token.clone(),
            Token {
                scopes: scopes.collect(),
                until,
            },
        );
        let body = json!({ "token": token, "access_token": token, "expires_in": lifetime.as_secs() });
        Some(serde_json::to_vec(&body).expect("JSON values serialise"))
    }

    fn issued(&self) -> MutexGuard<'_, BTreeMap<String, Token>> {
        self.issued.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}

/// The base URL a client reached the registry by.
pub(super) fn base_url(tls: bool, address: SocketAddr) -> String {
    format!("{}://{address}", if tls { "https" } else { "http" })
}
