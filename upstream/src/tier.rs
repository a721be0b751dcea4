//! The client between our own parts: proxies and cache nodes ask cache nodes.
//!
//! The same protocol as towards registries, without tokens, redirects, proxies and address rules, and with the headers
//! that travel between our parts. Repositories are always named with `?ns=<host>`, since a path cannot carry a
//! host with a port; the hop header tells the server that nobody here has a next host to go to. Every wait is under the silence rule:
//! a node that answers pings is waited for, one that does not is [`UpstreamError::Unavailable`] within two seconds.

mod node_url;
mod notes;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures::StreamExt;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, Method, Response};
use hyper::body::Incoming;
use oci::{Digest, Endpoint, MANIFEST_SIZE_BYTES_MAX, ManifestReference, MediaType, Repository};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use rustls::ClientConfig;

use crate::body::{self, BodyStream};
use crate::client::{BlobStream, content_length, part, range_headers};
use crate::connector::Connector;
use crate::error::{FailureStatus, Target, UpstreamError};
use crate::retry_after::retry_after;
use crate::silence::{self, Silence, SilencePolicy};
use crate::transport::{Outgoing, Transport};
use notes::text;

pub use node_url::{NodeUrl, NodeUrlError};
pub use notes::{NodeCall, NodeNotes, X_CACHE_INDEX, X_KUIK_HOP, X_KUIK_SOURCE};

/// A connection to a live node is made in a millisecond; who waits longer has other nodes to ask.
pub const NODE_CONNECT_TIMEOUT: Duration = Duration::from_millis(300);
/// Idle connections kept per node: as many as clients are likely to use at once, so that none is remade per request.
const IDLE_CONNECTIONS_MAX: usize = 32;
/// Pings have their own connection: never in a queue behind the silence they ask about.
const IDLE_PINGS_MAX: usize = 1;

/// How to reach nodes.
#[derive(Clone, Debug)]
pub struct NodeTransport {
    /// For `https` nodes: whom to believe and what to show. Plain nodes need none.
    pub tls: Option<Arc<ClientConfig>>,
    /// For TCP and TLS together.
    pub connect_timeout: Duration,
    /// When to ask a silent node whether it lives.
    pub silence: SilencePolicy,
    /// Sent with every request but pings.
    pub headers: HeaderMap,
}

/// A blob from a node, and what the node says about it.
#[derive(Debug)]
pub struct NodeBlob {
    /// The bytes from the offset asked for.
    pub blob: BlobStream,
    /// What the node says about them.
    pub notes: NodeNotes,
}

/// A manifest from a node: verified by the node, not here.
#[derive(Clone, Debug)]
pub struct NodeManifest {
    /// Its digest.
    pub digest: Digest,
    /// What it is served as.
    pub media_type: MediaType,
    /// Its length.
    pub size_bytes: Option<u64>,
    /// Its bytes; empty for a `HEAD`.
    pub bytes: Bytes,
    /// What the node says about it.
    pub notes: NodeNotes,
}

/// Asks cache nodes. Cheap to clone; clones share connections.
#[derive(Clone, Debug)]
pub struct NodeClient {
    transport: Transport,
    pings: Transport,
    silence: SilencePolicy,
    headers: HeaderMap,
}

impl Default for NodeTransport {
    fn default() -> Self {
        Self {
            tls: None,
            connect_timeout: NODE_CONNECT_TIMEOUT,
            silence: SilencePolicy::default(),
            headers: HeaderMap::new(),
        }
    }
}

impl NodeClient {
    /// Makes a client; connects to nothing yet.
    pub fn new(transport: NodeTransport) -> Self {
        let connector = Connector::between_parts(transport.tls, transport.connect_timeout);
        Self {
            transport: Transport::new(connector.clone(), IDLE_CONNECTIONS_MAX),
            pings: Transport::new(connector, IDLE_PINGS_MAX),
            silence: transport.silence,
            headers: transport.headers,
        }
    }

    /// Fetches a blob from `offset` on. The bytes are not verified here.
    ///
    /// # Errors
    /// [`UpstreamError`]: [`UpstreamError::NotFound`] if the node's whole tier and the source have no such blob,
    /// [`UpstreamError::Unavailable`] or [`UpstreamError::Timeout`] to go to the next node with the bytes in hand.
    pub async fn get_blob(
        &self,
        node: &NodeUrl,
        repository: &Repository,
        digest: &Digest,
        offset: u64,
        call: &NodeCall,
    ) -> Result<NodeBlob, UpstreamError> {
        let endpoint = Endpoint::Blob {
            name: repository.name.clone(),
            digest: digest.clone(),
        };
        let target = node.target(format!("blob {digest} of {repository}"));
        let headers = range_headers(offset);
        let response = self
            .ask(node, Method::GET, (repository, &endpoint), headers, call, &target)
            .await?;
        let notes = NodeNotes::of(response.headers());
        match part(&response, offset, &target)? {
            Some(part) => {
                let body = self.guarded(node.clone(), response.into_body(), target);
                Ok(NodeBlob {
                    blob: part.stream(body),
                    notes,
                })
            }
            None => Err(failure(response, &target).await),
        }
    }

    /// Asks for a blob's length without its bytes.
    ///
    /// # Errors
    /// As [`NodeClient::get_blob`].
    pub async fn head_blob(
        &self,
        node: &NodeUrl,
        repository: &Repository,
        digest: &Digest,
        call: &NodeCall,
    ) -> Result<(Option<u64>, NodeNotes), UpstreamError> {
        let endpoint = Endpoint::Blob {
            name: repository.name.clone(),
            digest: digest.clone(),
        };
        let target = node.target(format!("blob {digest} of {repository}"));
        let response = self
            .ask(
                node,
                Method::HEAD,
                (repository, &endpoint),
                HeaderMap::new(),
                call,
                &target,
            )
            .await?;
        if !response.status().is_success() {
            return Err(failure(response, &target).await);
        }
        Ok((content_length(response.headers()), NodeNotes::of(response.headers())))
    }

    /// Fetches a manifest (`GET`), or only what a reference points to (`HEAD`).
    ///
    /// # Errors
    /// As [`NodeClient::get_blob`].
    pub async fn manifest(
        &self,
        node: &NodeUrl,
        method: Method,
        repository: &Repository,
        reference: &ManifestReference,
        call: &NodeCall,
    ) -> Result<NodeManifest, UpstreamError> {
        let endpoint = Endpoint::Manifest {
            name: repository.name.clone(),
            reference: reference.clone(),
        };
        let target = node.target(format!("manifest {reference} of {repository}"));
        let response = self
            .ask(node, method, (repository, &endpoint), HeaderMap::new(), call, &target)
            .await?;
        if !response.status().is_success() {
            return Err(failure(response, &target).await);
        }
        let headers = response.headers().clone();
        let bytes = self.read_whole(node, response, &target).await?;
        let digest = text(&headers, "docker-content-digest").and_then(|digest| digest.parse().ok());
        let media_type = text(&headers, CONTENT_TYPE.as_str()).and_then(|kind| kind.parse().ok());
        match (digest.or_else(|| reference.digest().cloned()), media_type) {
            (Some(digest), Some(media_type)) => {
                let (size_bytes, notes) = (content_length(&headers), NodeNotes::of(&headers));
                Ok(NodeManifest {
                    digest,
                    media_type,
                    size_bytes,
                    bytes,
                    notes,
                })
            }
            _ => Err(UpstreamError::protocol(
                &target,
                "manifest without a digest or media type",
            )),
        }
    }

    /// Passes any other read through (tags, referrers), headers and body as they are.
    ///
    /// # Errors
    /// As [`NodeClient::get_blob`], but any status of the node is an answer.
    pub async fn forward(
        &self,
        node: &NodeUrl,
        method: Method,
        repository: &Repository,
        endpoint: &Endpoint,
        call: &NodeCall,
    ) -> Result<Response<BodyStream>, UpstreamError> {
        let target = node.target(format!("{} of {repository}", endpoint.path()));
        let response = self
            .ask(node, method, (repository, endpoint), HeaderMap::new(), call, &target)
            .await?;
        let (parts, incoming) = response.into_parts();
        Ok(Response::from_parts(
            parts,
            self.guarded(node.clone(), incoming, target),
        ))
    }

    /// Gets a small document beside the protocol, all of it within `deadline`.
    ///
    /// # Errors
    /// As [`NodeClient::get_blob`], and [`UpstreamError::Protocol`] if it is longer than `bytes_max`.
    pub async fn get_document(
        &self,
        node: &NodeUrl,
        path: &str,
        bytes_max: usize,
        deadline: Duration,
    ) -> Result<Bytes, UpstreamError> {
        let target = node.target(path.to_owned());
        let uri = node.uri(path);
        let mut outgoing = Outgoing::new(
            Method::GET,
            uri.map_err(|e| UpstreamError::protocol(&target, e.to_string()))?,
        );
        outgoing.headers = self.headers.clone();
        let fetching = async {
            let response = self.transport.send(&outgoing, &target, deadline).await?;
            if !response.status().is_success() {
                return Err(failure(response, &target).await);
            }
            body::read_whole(response.into_body(), bytes_max, &target, deadline).await
        };
        let asked = tokio::time::timeout(deadline, fetching).await;
        asked.unwrap_or_else(|_elapsed| Err(body::silent(Silence::Stalled { quiet_for: deadline }, &target)))
    }

    /// Asks a node whether it lives: any answer to `GET /v2/` within the policy's deadline means yes.
    pub async fn ping(&self, node: &NodeUrl) -> bool {
        let Ok(uri) = node.uri(&Endpoint::Base.path()) else {
            return false;
        };
        let target = node.target("API".to_owned());
        let deadline = self.silence.ping_deadline;
        let asked = self
            .pings
            .send(&Outgoing::new(Method::GET, uri), &target, deadline)
            .await;
        match asked {
            Ok(response) => {
                body::discard(response.into_body()).await;
                true
            }
            Err(_) => false,
        }
    }

    async fn ask(
        &self,
        node: &NodeUrl,
        method: Method,
        (repository, endpoint): (&Repository, &Endpoint),
        headers: HeaderMap,
        call: &NodeCall,
        target: &Target,
    ) -> Result<Response<Incoming>, UpstreamError> {
        let uri = node.uri(&with_ns(endpoint.path(), repository));
        let mut outgoing = Outgoing::new(method, uri.map_err(|e| UpstreamError::protocol(target, e.to_string()))?);
        outgoing.headers = headers;
        outgoing.headers.extend(self.headers.clone());
        call.write(&mut outgoing.headers);
        let sending = self.transport.send(&outgoing, target, self.silence.progress_deadline);
        let waited = silence::answer(sending, self.silence, || self.ping(node)).await;
        waited.unwrap_or_else(|silence| Err(body::silent(silence, target)))
    }

    fn guarded(&self, node: NodeUrl, incoming: Incoming, target: Target) -> BodyStream {
        let client = self.clone();
        let ping = move || {
            let (client, node) = (client.clone(), node.clone());
            async move { client.ping(&node).await }
        };
        let body = silence::guard(body::frames(incoming), self.silence, ping);
        BodyStream::new(body.map(move |item| item.map_err(|error| error.named(&target))))
    }

    async fn read_whole(
        &self,
        node: &NodeUrl,
        response: Response<Incoming>,
        target: &Target,
    ) -> Result<Bytes, UpstreamError> {
        let body = self.guarded(node.clone(), response.into_body(), target.clone());
        body::collect(body, MANIFEST_SIZE_BYTES_MAX, target).await
    }
}

async fn failure(response: Response<Incoming>, target: &Target) -> UpstreamError {
    let status = response.status().as_u16();
    let after = retry_after(response.headers(), SystemTime::now());
    body::discard(response.into_body()).await;
    let target = target.clone();
    match status {
        404 => UpstreamError::NotFound { target },
        401 | 403 => UpstreamError::Denied {
            target,
            status,
            reason: None,
        },
        429 => UpstreamError::RateLimited { target, after },
        500..=599 => UpstreamError::Unavailable {
            target,
            after,
            source: Arc::new(FailureStatus(status)),
        },
        other => UpstreamError::protocol(&target, format!("unexpected status {other}")),
    }
}

fn with_ns(path: String, repository: &Repository) -> String {
    let separator = if path.contains('?') { '&' } else { '?' };
    format!(
        "{path}{separator}ns={}",
        utf8_percent_encode(repository.host.as_str(), NON_ALPHANUMERIC)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_with_ports_travel_in_the_query() {
        let repository = Repository::new("[::1]:5000".parse().unwrap(), "a/b".parse().unwrap());
        let path = with_ns("/v2/a/b/tags/list?n=1".to_owned(), &repository);
        let (path, query) = path.split_once('?').unwrap();
        let (_, ns) = Endpoint::parse(path, Some(query)).unwrap();
        assert_eq!(ns.unwrap().as_str(), "[::1]:5000");
    }
}
