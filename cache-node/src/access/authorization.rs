//! What a proxy is told beside the distribution protocol: the hosts with a port, and how to ask a source itself.

use std::collections::BTreeSet;
use std::sync::Arc;

use daemon::runtime::one_line;
use distribution::{Body, Client, PeerCertificate, Routes};
use http::request::Parts;
use http::{HeaderValue, Method, Response, StatusCode, header};
use hyper::body::Incoming;
use meta::view;
use oci::{Repository, SourceHost};
use proto::access::{
    AUTHORIZATION_PATH, AUTHORIZATION_SECONDS_MAX, FACTS_PATH, NODE_HEADER, SourceAuthorization, TierFacts,
};
use raft::MetaHandle;
use serde::Serialize;
use tokio::time::timeout;
use upstream::RegistryClient;

use super::gate::{Gate, Reader};
use crate::sources::Sources;

/// How long the source's token server may take.
const TOKEN_PATIENCE: std::time::Duration = std::time::Duration::from_secs(5);

/// Answers proxies.
pub struct ProxyRoutes {
    ledger: MetaHandle,
    gate: Gate,
    client: RegistryClient,
    configured: BTreeSet<SourceHost>,
}

/// Why a proxy is not told.
enum Refusal {
    NotAProxy,
    NotPlaced,
    BadRequest(String),
    Unavailable(String),
}

impl ProxyRoutes {
    /// `configured` are the hosts with a port that the configuration names.
    pub fn new(ledger: MetaHandle, gate: Gate, sources: &Arc<Sources>, configured: BTreeSet<SourceHost>) -> Self {
        Self {
            ledger,
            gate,
            client: sources.client().clone(),
            configured,
        }
    }

    fn facts(&self) -> Result<TierFacts, Refusal> {
        let known = view::known_hosts(&self.ledger.local());
        let known = known.map_err(|error| Refusal::Unavailable(one_line(&error)))?;
        let hosts: BTreeSet<SourceHost> = known.into_iter().chain(self.configured.iter().cloned()).collect();
        Ok(TierFacts {
            hosts_with_port: hosts.into_iter().map(|host| host.to_string()).collect(),
        })
    }

    async fn authorization(&self, reader: &Reader, query: Option<&str>) -> Result<SourceAuthorization, Refusal> {
        let Reader::Proxy(Some(node)) = reader else {
            return Err(Refusal::NotAProxy);
        };
        let repository = repository_of(query)?;
        let placed = self.gate.is_placed(node, &repository);
        if !placed.map_err(|error| Refusal::Unavailable(error.to_string()))? {
            return Err(Refusal::NotPlaced);
        }
        let asked = timeout(TOKEN_PATIENCE, self.client.authorization(&repository)).await;
        let silent = || Refusal::Unavailable(format!("{} did not answer in time", repository.host));
        let answered = asked.map_err(|_| silent())?;
        let authorized = answered.map_err(|error| Refusal::Unavailable(one_line(&error)))?;
        let valid_for = authorized.as_ref().and_then(|authorized| authorized.valid_for);
        let seconds = valid_for.map_or(AUTHORIZATION_SECONDS_MAX, |valid| valid.as_secs());
        let header = authorized.and_then(|authorized| authorized.header.to_str().map(str::to_owned).ok());
        Ok(SourceAuthorization {
            authorization: header,
            seconds: seconds.min(AUTHORIZATION_SECONDS_MAX),
        })
    }
}

fn repository_of(query: Option<&str>) -> Result<Repository, Refusal> {
    let missing = || Refusal::BadRequest("the query has no repository=host/name".to_owned());
    let value = query
        .unwrap_or_default()
        .split('&')
        .find_map(|pair| pair.strip_prefix("repository="))
        .ok_or_else(missing)?;
    let text = percent_encoding::percent_decode_str(value)
        .decode_utf8()
        .map_err(|_| missing())?;
    text.parse()
        .map_err(|error: oci::NameError| Refusal::BadRequest(error.to_string()))
}

impl Routes for ProxyRoutes {
    fn claims(&self, head: &Parts) -> bool {
        matches!(head.uri.path(), FACTS_PATH | AUTHORIZATION_PATH)
    }

    async fn handle(&self, head: Parts, _body: Incoming, client: Client) -> Response<Body> {
        if head.method != Method::GET {
            return answer(StatusCode::METHOD_NOT_ALLOWED, Body::empty());
        }
        let node = head.headers.get(NODE_HEADER).and_then(|node| node.to_str().ok());
        let certificate: Option<&PeerCertificate> = head.extensions.get();
        let reader = Reader::from_parts(client, certificate, node.map(Arc::from));
        if head.uri.path() == FACTS_PATH {
            return json(self.facts());
        }
        json(self.authorization(&reader, head.uri.query()).await)
    }
}

fn json<T: Serialize>(answered: Result<T, Refusal>) -> Response<Body> {
    let (status, why) = match answered {
        Ok(document) => {
            let bytes = serde_json::to_vec(&document).expect("documents of text and numbers serialise");
            let mut response = answer(StatusCode::OK, Body::full(bytes));
            let is_json = HeaderValue::from_static("application/json");
            response.headers_mut().insert(header::CONTENT_TYPE, is_json);
            return response;
        }
        Err(Refusal::NotAProxy) => (StatusCode::FORBIDDEN, "only proxies are told".to_owned()),
        Err(Refusal::NotPlaced) => (StatusCode::FORBIDDEN, "no admitted pod of this node uses it".to_owned()),
        Err(Refusal::BadRequest(why)) => (StatusCode::BAD_REQUEST, why),
        Err(Refusal::Unavailable(why)) => (StatusCode::SERVICE_UNAVAILABLE, why),
    };
    answer(status, Body::full(format!("{why}\n")))
}

fn answer(status: StatusCode, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
