//! One HTTP exchange: a pooled connection, a deadline for the headers, redirects, failures told apart.
//!
//! HTTP/1.1 only. Nothing is ever decompressed; `Accept-Encoding: identity` is sent with every request.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, LOCATION, PROXY_AUTHORIZATION};
use http::{HeaderMap, HeaderValue, Method, Request, Response, Uri};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::time::timeout;

use crate::body;
use crate::connector::{ConnectError, Connector};
use crate::error::{Phase, Target, UpstreamError, find_cause};
use crate::origin::Origin;
use crate::redirect::{REDIRECTS_MAX, keeps_authorization, next_hop};

/// What we accept: every manifest type, since Docker Hub answers with an ancient format otherwise, and anything.
pub const ACCEPT_ANY: &str = "application/vnd.oci.image.index.v1+json, \
     application/vnd.oci.image.manifest.v1+json, \
     application/vnd.docker.distribution.manifest.list.v2+json, \
     application/vnd.docker.distribution.manifest.v2+json, */*";

/// Idle connections are kept this long: longer than the gap between the requests of one pull.
const IDLE_MAX: Duration = Duration::from_secs(30);

/// A client with its pool of connections. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Transport {
    client: Client<Connector, Full<Bytes>>,
    connector: Connector,
}

/// A request that may have to be sent more than once.
#[derive(Clone, Debug)]
pub(crate) struct Outgoing {
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// A response, and whether it is from the host that was asked or from one it redirected to.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) response: Response<Incoming>,
    pub(crate) from_asked_host: bool,
}

impl Outgoing {
    pub(crate) fn new(method: Method, uri: Uri) -> Self {
        Self {
            method,
            uri,
            headers: HeaderMap::new(),
            body: Bytes::new(),
        }
    }
}

impl Transport {
    /// `idle_max` bounds the connections kept per host while nothing is asked.
    pub(crate) fn new(connector: Connector, idle_max: usize) -> Self {
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_MAX)
            .pool_max_idle_per_host(idle_max)
            .build(connector.clone());
        Self { client, connector }
    }

    /// Sends a request and waits up to `headers_within` for the response's headers. Follows nothing.
    pub(crate) async fn send(
        &self,
        outgoing: &Outgoing,
        target: &Target,
        headers_within: Duration,
    ) -> Result<Response<Incoming>, UpstreamError> {
        let sending = self.client.request(self.request(outgoing, target)?);
        match timeout(headers_within, sending).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(classify(error, target)),
            Err(_) => Err(UpstreamError::Timeout {
                target: target.clone(),
                phase: Phase::Headers,
                waited: headers_within,
            }),
        }
    }

    /// Sends a `GET` or `HEAD` and follows its redirects, each with its own wait for headers.
    ///
    /// `Authorization` goes only to the host it is meant for; `Range` and the rest stay.
    pub(crate) async fn follow(
        &self,
        mut outgoing: Outgoing,
        target: &Target,
        headers_within: Duration,
    ) -> Result<Answer, UpstreamError> {
        let asked = outgoing.uri.clone();
        for _ in 0..=REDIRECTS_MAX {
            let response = self.send(&outgoing, target, headers_within).await?;
            if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
                return Ok(Answer {
                    response,
                    from_asked_host: keeps_authorization(&asked, &outgoing.uri),
                });
            }
            let location = response
                .headers()
                .get(LOCATION)
                .map(|location| String::from_utf8_lossy(location.as_bytes()));
            let next = location.and_then(|location| next_hop(&outgoing.uri, &location));
            let next = next.ok_or_else(|| UpstreamError::protocol(target, "redirect without a usable Location"))?;
            body::discard(response.into_body()).await;
            if !keeps_authorization(&outgoing.uri, &next) {
                outgoing.headers.remove(AUTHORIZATION);
            }
            outgoing.uri = next;
        }
        Err(UpstreamError::protocol(
            target,
            format!("more than {REDIRECTS_MAX} redirects"),
        ))
    }

    fn request(&self, outgoing: &Outgoing, target: &Target) -> Result<Request<Full<Bytes>>, UpstreamError> {
        let origin =
            Origin::of(&outgoing.uri).ok_or_else(|| UpstreamError::protocol(target, "not an http or https URL"))?;
        let mut request = Request::new(Full::new(outgoing.body.clone()));
        *request.method_mut() = outgoing.method.clone();
        *request.uri_mut() = outgoing.uri.clone();
        *request.headers_mut() = outgoing.headers.clone();
        let headers = request.headers_mut();
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        headers.entry(ACCEPT).or_insert(HeaderValue::from_static(ACCEPT_ANY));
        if let Some(authorization) = self.connector.proxy_authorization(&origin) {
            headers.insert(PROXY_AUTHORIZATION, authorization);
        }
        Ok(request)
    }
}

fn classify(error: hyper_util::client::legacy::Error, target: &Target) -> UpstreamError {
    let target = target.clone();
    if let Some(connect) = find_cause::<ConnectError>(&error) {
        match connect {
            ConnectError::Forbidden(forbidden) => {
                return UpstreamError::Refused {
                    target,
                    source: forbidden.clone(),
                };
            }
            ConnectError::Timeout(waited) => {
                return UpstreamError::Timeout {
                    target,
                    phase: Phase::Connect,
                    waited: *waited,
                };
            }
            ConnectError::Destination => return UpstreamError::protocol(&target, connect.to_string()),
            ConnectError::Tcp(_)
            | ConnectError::Tunnel { .. }
            | ConnectError::Settings(_)
            | ConnectError::Handshake(_) => {}
        }
    } else if find_cause::<hyper::Error>(&error).is_some_and(hyper::Error::is_parse) {
        return UpstreamError::protocol(&target, format!("malformed response ({error:?})"));
    }
    UpstreamError::Unavailable {
        target,
        after: None,
        source: Arc::new(error),
    }
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport")
            .field("connector", &self.connector)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use oci::MediaType;

    use super::*;

    #[test]
    fn every_manifest_type_is_accepted() {
        let accepted: Vec<_> = ACCEPT_ANY.split(", ").collect();
        assert!(MediaType::MANIFESTS.iter().all(|kind| accepted.contains(kind)));
        assert_eq!(accepted.last(), Some(&"*/*"));
    }
}
