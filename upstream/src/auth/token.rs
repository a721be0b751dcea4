//! Token servers: what is asked, how the answer is read, how long it lasts.
//!
//! Source: distribution's "Token Authentication Specification" and "OAuth2 Token Authentication".

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderValue, Method, StatusCode, Uri};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use tokio::time::Instant;

use super::timestamp::parse_rfc3339;
use crate::body;
use crate::config::{Credential, Patience};
use crate::error::{FailureStatus, Target, UpstreamError};
use crate::retry_after::retry_after;
use crate::transport::{Outgoing, Transport};

/// The specification's default, and the least it allows: servers that say less are not believed.
const LIFETIME_MIN: Duration = Duration::from_secs(60);
/// A token is not used in its last seconds, so that it does not run out on the way.
const SKEW: Duration = Duration::from_secs(10);
/// Tokens carry lists of permissions and grow; none seen is near this.
const ANSWER_BYTES_MAX: usize = 256 << 10;
/// How we call ourselves towards OAuth servers, which ask for it.
const CLIENT_ID: &str = "kube-image-keeper";
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'/')
    .remove(b':')
    .remove(b',');

/// What a token is for; two requests with the same key can share one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct TokenKey {
    pub(super) realm: Uri,
    pub(super) service: Option<String>,
    pub(super) scope: String,
    pub(super) credential: Option<Arc<Credential>>,
}

impl TokenKey {
    pub(super) fn is_anonymous(&self) -> bool {
        self.credential.is_none()
    }
}

/// A token as a header, and until when to use it.
#[derive(Clone, Debug)]
pub(super) struct Token {
    pub(super) header: HeaderValue,
    pub(super) expires: Instant,
}

#[derive(Deserialize)]
struct TokenAnswer {
    #[serde(default)]
    token: String,
    #[serde(default)]
    access_token: String,
    expires_in: Option<f64>,
    issued_at: Option<String>,
}

/// Gets a token from its server.
///
/// Credentials that the server refuses are left out in a second try: what is public stays reachable with a stale
/// password.
pub(super) async fn fetch(transport: Transport, key: TokenKey, patience: Patience) -> Result<Token, UpstreamError> {
    match ask(&transport, &key, &patience).await {
        Err(UpstreamError::Denied { target, status, .. }) if key.credential.is_some() => {
            tracing::warn!(realm = %key.realm, scope = %key.scope, status, "token server refused our credentials");
            let anonymous = TokenKey {
                credential: None,
                ..key
            };
            let denied = UpstreamError::Denied {
                target,
                status,
                reason: Some("credentials refused".to_owned()),
            };
            ask(&transport, &anonymous, &patience).await.map_err(|_| denied)
        }
        answered => answered,
    }
}

async fn ask(transport: &Transport, key: &TokenKey, patience: &Patience) -> Result<Token, UpstreamError> {
    let target = Target::new(key.realm.host().unwrap_or_default(), format!("token for {}", key.scope));
    let outgoing = request(key).ok_or_else(|| UpstreamError::protocol(&target, "unusable token realm"))?;
    let response = if outgoing.method == Method::POST {
        transport.send(&outgoing, &target, patience.headers).await?
    } else {
        transport.follow(outgoing, &target, patience.headers).await?.response
    };
    let status = response.status();
    if !status.is_success() {
        let after = retry_after(response.headers(), SystemTime::now());
        body::discard(response.into_body()).await;
        return Err(failure(target, status, after));
    }
    let json = body::read_whole(response.into_body(), ANSWER_BYTES_MAX, &target, patience.no_progress).await?;
    read(&json, Instant::now(), SystemTime::now()).ok_or_else(|| UpstreamError::protocol(&target, "no token in it"))
}

fn failure(target: Target, status: StatusCode, after: Option<Duration>) -> UpstreamError {
    match status.as_u16() {
        429 => UpstreamError::RateLimited { target, after },
        400 | 401 | 403 => UpstreamError::Denied {
            target,
            status: status.as_u16(),
            reason: None,
        },
        other => UpstreamError::Unavailable {
            target,
            after,
            source: Arc::new(FailureStatus(other)),
        },
    }
}

fn request(key: &TokenKey) -> Option<Outgoing> {
    match key.credential.as_deref() {
        Some(Credential::IdentityToken(refresh)) => refresh_request(key, refresh),
        Some(Credential::Basic { username, password }) => {
            let mut outgoing = Outgoing::new(Method::GET, query_uri(key)?);
            outgoing.headers.insert(AUTHORIZATION, basic(username, password)?);
            Some(outgoing)
        }
        Some(Credential::RegistryToken(_)) | None => Some(Outgoing::new(Method::GET, query_uri(key)?)),
    }
}

fn refresh_request(key: &TokenKey, refresh: &str) -> Option<Outgoing> {
    let mut form = format!("grant_type=refresh_token&client_id={CLIENT_ID}");
    let service = key.service.as_deref().unwrap_or_default();
    for (name, value) in [("service", service), ("scope", &key.scope), ("refresh_token", refresh)] {
        form.push_str(&format!("&{name}={}", utf8_percent_encode(value, UNRESERVED)));
    }
    let mut outgoing = Outgoing::new(Method::POST, key.realm.clone());
    outgoing.headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("application/x-www-form-urlencoded"),
    );
    outgoing.body = Bytes::from(form);
    Some(outgoing)
}

/// The realm with its own query kept; a scope of several parts is a parameter each, as docker sends it.
fn query_uri(key: &TokenKey) -> Option<Uri> {
    let service = key.service.iter().map(|service| ("service", service.as_str()));
    let scopes = key
        .scope
        .split(' ')
        .filter(|scope| !scope.is_empty())
        .map(|scope| ("scope", scope));
    let encode = |(name, value)| format!("{name}={}", utf8_percent_encode(value, UNRESERVED));
    let query: Vec<String> = service.chain(scopes).map(encode).collect();
    let separator = if key.realm.query().is_some() { '&' } else { '?' };
    format!("{}{separator}{}", key.realm, query.join("&")).parse().ok()
}

/// `Authorization: Basic`.
pub(super) fn basic(username: &str, password: &str) -> Option<HeaderValue> {
    secret(&format!("Basic {}", STANDARD.encode(format!("{username}:{password}"))))
}

/// `Authorization: Bearer`.
pub(super) fn bearer(token: &str) -> Option<HeaderValue> {
    secret(&format!("Bearer {token}"))
}

fn secret(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

fn read(json: &[u8], now: Instant, wall_clock: SystemTime) -> Option<Token> {
    let answer: TokenAnswer = serde_json::from_slice(json).ok()?;
    let text = if answer.token.is_empty() {
        &answer.access_token
    } else {
        &answer.token
    };
    if text.is_empty() {
        return None;
    }
    let stated = answer
        .expires_in
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .unwrap_or_default();
    let lifetime = stated.clamp(LIFETIME_MIN, Duration::from_secs(86_400));
    let age = age(answer.issued_at.as_deref(), wall_clock)
        .filter(|age| *age < lifetime)
        .unwrap_or_default();
    Some(Token {
        header: bearer(text)?,
        expires: now + (lifetime - age).saturating_sub(SKEW),
    })
}

/// How old the token is already. Nothing if the two clocks disagree too much to tell.
fn age(issued_at: Option<&str>, wall_clock: SystemTime) -> Option<Duration> {
    wall_clock.duration_since(parse_rfc3339(issued_at?)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: Duration = Duration::from_secs(1_704_196_800); // 2024-01-02T12:00:00Z

    fn lifetime(json: &str) -> Option<u64> {
        let now = Instant::now();
        read(json.as_bytes(), now, SystemTime::UNIX_EPOCH + NOON).map(|token| (token.expires - now).as_secs())
    }

    #[test]
    fn lifetimes_follow_expires_in_and_issued_at() {
        let table = [
            (r#"{"token": "t"}"#, Some(50)),
            (r#"{"access_token": "t", "expires_in": 300}"#, Some(290)),
            (r#"{"token": "t", "expires_in": 5}"#, Some(50)),
            (
                r#"{"token": "t", "expires_in": 300, "issued_at": "2024-01-02T11:58:20.5Z"}"#,
                Some(190),
            ),
            (
                r#"{"token": "t", "expires_in": 300, "issued_at": "2024-01-02T13:59:00+02:00"}"#,
                Some(230),
            ),
            (
                r#"{"token": "t", "expires_in": 300, "issued_at": "2024-01-02T13:00:00Z"}"#,
                Some(290),
            ),
            (
                r#"{"token": "t", "expires_in": 300, "issued_at": "2001-01-01T00:00:00Z"}"#,
                Some(290),
            ),
            (
                r#"{"token": "t", "expires_in": 300, "issued_at": "yesterday"}"#,
                Some(290),
            ),
            (r#"{"token": "t", "expires_in": 1e300}"#, Some(50)),
            (r#"{"token": "", "access_token": ""}"#, None),
            (r#"{"token": "two\nlines"}"#, None),
            ("[]", None),
        ];
        for (json, expected) in table {
            assert_eq!(lifetime(json), expected, "{json}");
        }
    }

    #[test]
    fn the_question_keeps_the_realms_query_and_splits_the_scope() {
        let key = TokenKey {
            realm: "https://auth.example/token?tenant=1".parse().unwrap(),
            service: Some("reg istry".to_owned()),
            scope: "repository:a/b:pull repository:c:pull".to_owned(),
            credential: None,
        };
        let expected =
            "https://auth.example/token?tenant=1&service=reg%20istry&scope=repository:a/b:pull&scope=repository:c:pull";
        assert_eq!(query_uri(&key).unwrap().to_string(), expected);
    }
}
