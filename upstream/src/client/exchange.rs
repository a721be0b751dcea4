//! One request to a registry: authorised, budget noted, failures named.

use std::sync::Arc;
use std::time::SystemTime;

use http::header::{AUTHORIZATION, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use oci::{Endpoint, ErrorDocument, Repository};

use super::{Place, RegistryClient, target};
use crate::auth::{Access, Authorization, Scheme};
use crate::body;
use crate::challenge::{Challenge, challenges};
use crate::error::{FailureStatus, Target, UpstreamError};
use crate::retry_after::retry_after;
use crate::transport::{Answer, Outgoing};

/// Without a token, with one that was stale or too narrow, with the right one.
const AUTHORIZED_ATTEMPTS_MAX: usize = 3;
/// As much of an error document as is worth quoting.
const REASON_BYTES_MAX: usize = 4096;

/// What to ask a registry for.
pub(super) struct Ask<'a> {
    pub(super) repository: &'a Repository,
    pub(super) endpoint: Endpoint,
    pub(super) method: Method,
    pub(super) headers: HeaderMap,
}

impl Ask<'_> {
    pub(super) fn target(&self) -> Target {
        target(self.repository, &self.endpoint)
    }
}

impl RegistryClient {
    /// Sends a request, proving who we are when asked to. Any status may come back.
    ///
    /// Of several granted credentials the next is tried where one is refused.
    pub(super) async fn exchange(&self, ask: &Ask<'_>, target: &Target) -> Result<Answer, UpstreamError> {
        self.exchange_authorized(ask, target).await.map(|(answer, _)| answer)
    }

    pub(super) async fn exchange_authorized(
        &self,
        ask: &Ask<'_>,
        target: &Target,
    ) -> Result<(Answer, Option<Authorization>), UpstreamError> {
        let mut place = self.place(ask.repository);
        let mut askers = self.askers(&place).into_iter().peekable();
        loop {
            let Some((is_granted, access)) = askers.next() else {
                return Err(UpstreamError::protocol(target, "nobody to ask as"));
            };
            place.access = access;
            let result = self.exchange_as(ask, &place, target).await;
            self.notice(ask, &place.access, is_granted, &result);
            let is_last = askers.peek().is_none();
            if is_last || !is_granted || !is_refusal(&result) {
                return result;
            }
            if let Ok((answer, _)) = result {
                body::discard(answer.response.into_body()).await;
            }
        }
    }

    /// Tells whoever keeps granted credentials what this answer says of them.
    fn notice(
        &self,
        ask: &Ask<'_>,
        access: &Access,
        is_granted: bool,
        result: &Result<(Answer, Option<Authorization>), UpstreamError>,
    ) {
        let Some(granted) = &self.granted else { return };
        if is_granted && is_refusal(result) {
            if let Some(credential) = access.credential.as_deref() {
                granted.refused(ask.repository, credential);
            }
            return;
        }
        let is_content = matches!(ask.endpoint, Endpoint::Manifest { .. } | Endpoint::Blob { .. });
        if let Ok((answer, authorization)) = result
            && is_content
            && answer.response.status().is_success()
            && authorization.as_ref().is_none_or(Authorization::is_anonymous)
        {
            granted.public(ask.repository);
        }
    }

    async fn exchange_as(
        &self,
        ask: &Ask<'_>,
        place: &Place,
        target: &Target,
    ) -> Result<(Answer, Option<Authorization>), UpstreamError> {
        let uri = place
            .base
            .uri(&ask.endpoint.path())
            .map_err(|e| UpstreamError::protocol(target, e.to_string()))?;
        let authenticator = &self.shared.authenticator;
        let mut authorization = match self.lent.as_ref().and_then(|lent| lent.get(ask.repository)) {
            Some(header) => Some(Authorization {
                header,
                scheme: Scheme::Lent,
            }),
            None => authenticator.remembered(&place.access, &self.patience).await?,
        };
        let mut tried: Vec<Scheme> = Vec::new();
        for _ in 0..AUTHORIZED_ATTEMPTS_MAX - 1 {
            let answer = self.send(ask, &uri, authorization.as_ref(), target).await?;
            if answer.response.status() != StatusCode::UNAUTHORIZED || !answer.from_asked_host {
                return Ok((answer, authorization));
            }
            if let Some(refused) = &authorization {
                authenticator.reject(&place.access, refused);
            }
            let asked_for = self.challenges(&answer, place, target).await?;
            match authenticator
                .respond(&place.access, &asked_for, &tried, &self.patience)
                .await?
            {
                Some(next) => {
                    body::discard(answer.response.into_body()).await;
                    tried.push(next.scheme.clone());
                    authorization = Some(next);
                }
                None => return Ok((answer, authorization)),
            }
        }
        let answer = self.send(ask, &uri, authorization.as_ref(), target).await?;
        if let (StatusCode::UNAUTHORIZED, Some(refused)) = (answer.response.status(), &authorization) {
            authenticator.reject(&place.access, refused);
        }
        Ok((answer, authorization))
    }

    async fn send(
        &self,
        ask: &Ask<'_>,
        uri: &Uri,
        authorization: Option<&Authorization>,
        target: &Target,
    ) -> Result<Answer, UpstreamError> {
        let mut outgoing = Outgoing::new(ask.method.clone(), uri.clone());
        outgoing.headers = ask.headers.clone();
        if let Ok(user_agent) = HeaderValue::from_str(&self.shared.config.user_agent) {
            outgoing.headers.insert(USER_AGENT, user_agent);
        }
        if let Some(authorization) = authorization {
            outgoing.headers.insert(AUTHORIZATION, authorization.header.clone());
        }
        let answer = self
            .shared
            .transport
            .follow(outgoing, target, self.patience.headers)
            .await?;
        if answer.from_asked_host {
            let (status, headers) = (answer.response.status(), answer.response.headers());
            self.shared.budgets.update(&ask.repository.host, |budget, now| {
                budget.observe(status, headers, now, SystemTime::now());
            });
        }
        Ok(answer)
    }

    /// The challenges of a 401; some registries write them only on `/v2/`.
    async fn challenges(
        &self,
        answer: &Answer,
        place: &Place,
        target: &Target,
    ) -> Result<Vec<Challenge>, UpstreamError> {
        let found = challenges(answer.response.headers());
        if !found.is_empty() {
            return Ok(found);
        }
        let base = Endpoint::Base.path();
        let uri = place
            .base
            .uri(&base)
            .map_err(|e| UpstreamError::protocol(target, e.to_string()))?;
        let asked = self
            .shared
            .transport
            .send(&Outgoing::new(Method::GET, uri), target, self.patience.headers)
            .await?;
        let found = challenges(asked.headers());
        body::discard(asked.into_body()).await;
        Ok(found)
    }

    /// Turns an answer that is no success into an error, and quotes what the registry says.
    pub(super) async fn failure(&self, answer: Answer, target: &Target) -> UpstreamError {
        let status = answer.response.status();
        let after = retry_after(answer.response.headers(), SystemTime::now());
        let from_asked_host = answer.from_asked_host;
        let document = body::peek(answer.response.into_body(), REASON_BYTES_MAX).await;
        let target = target.clone();
        match status.as_u16() {
            404 | 410 if from_asked_host => UpstreamError::NotFound { target },
            // A content network that refuses what the registry has just signed: the link has expired.
            401 | 403 | 404 | 410 if !from_asked_host => unavailable(target, status, after),
            status @ (401 | 403 | 451) => UpstreamError::Denied {
                target,
                status,
                reason: reason(&document),
            },
            429 => UpstreamError::RateLimited { target, after },
            408 | 500..=599 => unavailable(target, status, after),
            other => UpstreamError::protocol(&target, format!("unexpected status {other}")),
        }
    }
}

/// The registry or its token server does not take the credential.
fn is_refusal(result: &Result<(Answer, Option<Authorization>), UpstreamError>) -> bool {
    match result {
        Ok((answer, _)) => answer.from_asked_host && matches!(answer.response.status().as_u16(), 401 | 403),
        Err(UpstreamError::Denied { .. }) => true,
        Err(_) => false,
    }
}

fn unavailable(target: Target, status: StatusCode, after: Option<std::time::Duration>) -> UpstreamError {
    UpstreamError::Unavailable {
        target,
        after,
        source: Arc::new(FailureStatus(status.as_u16())),
    }
}

fn reason(document: &[u8]) -> Option<String> {
    let document: ErrorDocument = serde_json::from_slice(document).ok()?;
    let entry = document.errors.first()?;
    let message: String = entry.message.chars().filter(|c| !c.is_control()).take(200).collect();
    Some(format!("{}: {message}", entry.code))
}
