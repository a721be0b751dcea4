//! Request to `oci::Endpoint` to [`Registry`] call to response.

mod blob;

use std::convert::Infallible;
use std::error::Error;
use std::sync::Arc;

use http::header::EXPECT;
use http::request::Parts;
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::{Body as _, Incoming};
use oci::{Digest, Endpoint, EndpointError, ErrorCode, ReferenceError, RepositoryName, SourceHost};
use tokio::time::timeout;
use tracing::debug;

use crate::body::Body;
use crate::conditional::EntityTag;
use crate::connection::{Busy, Progress};
use crate::error::RegistryError;
use crate::header::{KUIK_NODE, X_CACHE_INDEX, X_KUIK_HOP};
use crate::limits::Limits;
use crate::query::{BlobQuery, Client, ManifestQuery, PeerCertificate, ReferrersQuery, RequestContext, TagsQuery};
use crate::registry::Registry;
use crate::response::{self, Reply};
use crate::routes::Routes;

/// A registry and routes, ready to answer requests of any connection.
pub(crate) struct Service<R, H> {
    protocol: Protocol<R>,
    routes: Arc<H>,
    limits: Limits,
}

impl<R: Registry, H: Routes> Service<R, H> {
    pub(crate) fn new(registry: Arc<R>, routes: Arc<H>, limits: Limits) -> Self {
        Self {
            protocol: Protocol::new(registry),
            routes,
            limits,
        }
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    pub(crate) async fn answer(
        self: Arc<Self>,
        request: Request<Incoming>,
        client: Client,
        certificate: Option<PeerCertificate>,
        progress: Arc<Progress>,
    ) -> Result<Response<Body>, Infallible> {
        let busy = Busy::new(&progress);
        let (mut parts, body) = request.into_parts();
        if let Some(certificate) = certificate {
            parts.extensions.insert(certificate);
        }
        let response = if self.routes.claims(&parts) {
            self.routes.handle(parts, body, client).await
        } else {
            self.answer_protocol(parts, body, client).await
        };
        Ok(response.map(|body| body.keep_busy(busy)))
    }

    async fn answer_protocol(&self, parts: Parts, body: Incoming, client: Client) -> Response<Body> {
        let read = body.is_end_stream() || self.drain(&parts, body).await;
        let mut response = self.protocol.answer(&parts, client).await;
        if !read {
            response::close(&mut response);
        }
        response
    }

    /// Reads a body nobody wants, so that the connection can be kept; answers whether it was read to its end.
    async fn drain(&self, parts: &Parts, mut body: Incoming) -> bool {
        // Reading would tell the client to go on and send it.
        if parts.headers.contains_key(EXPECT) {
            return false;
        }
        let read_all = async {
            let mut left = self.limits.drain_bytes_max;
            while let Some(frame) = body.frame().await {
                let n_bytes = frame.ok()?.data_ref().map_or(0, |data| data.len() as u64);
                left = left.checked_sub(n_bytes)?;
            }
            Some(())
        };
        matches!(timeout(self.limits.drain, read_all).await, Ok(Some(())))
    }
}

/// The protocol itself, without a connection: a request's head to a response.
#[derive(Debug)]
pub struct Protocol<R> {
    registry: Arc<R>,
}

impl<R: Registry> Protocol<R> {
    /// Answers from `registry`.
    pub fn new(registry: Arc<R>) -> Self {
        Self { registry }
    }

    /// Answers one request, whose body, if any, means nothing. The first chunk of a blob is awaited here.
    pub async fn answer(&self, head: &Parts, client: Client) -> Response<Body> {
        match Endpoint::parse(head.uri.path(), head.uri.query()) {
            Ok((endpoint, ns)) => self.answer_endpoint(endpoint, ns, head, client).await,
            Err(err) => malformed(&err, head),
        }
    }

    async fn answer_endpoint(
        &self,
        endpoint: Endpoint,
        ns: Option<SourceHost>,
        parts: &Parts,
        client: Client,
    ) -> Response<Body> {
        let head = parts.method == Method::HEAD;
        let context = context(ns, parts, client);
        let echo = context.clone();
        let answered = if !head && parts.method != Method::GET {
            Ok(response::method_not_allowed(head))
        } else {
            match endpoint {
                Endpoint::Base => Ok(response::base(head)),
                Endpoint::Manifest { name, reference } => {
                    self.manifest(
                        ManifestQuery {
                            context,
                            name,
                            reference,
                            head,
                        },
                        parts,
                    )
                    .await
                }
                Endpoint::Blob { name, digest } => self.blob(context, name, digest, parts).await,
                Endpoint::TagsList { name, n, last } => {
                    let limit = n.map(|n| usize::try_from(n).unwrap_or(usize::MAX));
                    self.tags(
                        TagsQuery {
                            context,
                            name,
                            limit,
                            last,
                        },
                        head,
                    )
                    .await
                }
                Endpoint::Referrers {
                    name,
                    digest,
                    artifact_type,
                } => {
                    self.referrers(
                        ReferrersQuery {
                            context,
                            name,
                            digest,
                            artifact_type,
                        },
                        head,
                    )
                    .await
                }
                Endpoint::Uploads { .. } | Endpoint::Upload { .. } => Ok(response::method_not_allowed(head)),
            }
        };
        let mut response = answered.unwrap_or_else(|err| {
            debug!(error = &err as &dyn Error, path = parts.uri.path(), "request failed");
            response::failure(&err, Some(parts.uri.path().to_owned()), head)
        });
        response::finish(&mut response, &echo);
        response
    }

    async fn manifest(&self, query: ManifestQuery, parts: &Parts) -> Result<Response<Body>, RegistryError> {
        let head = query.head;
        let answer = self.registry.manifest(query).await?;
        let tag = EntityTag::new(&answer.digest);
        if tag.none_match_fails(&parts.headers) {
            return Ok(response::not_modified(&tag, &answer.notes));
        }
        Ok(response::manifest(answer, &tag, head))
    }

    async fn blob(
        &self,
        context: RequestContext,
        name: RepositoryName,
        digest: Digest,
        parts: &Parts,
    ) -> Result<Response<Body>, RegistryError> {
        let asked = blob::Asked::new(parts);
        let query = BlobQuery {
            context,
            name,
            digest,
            head: asked.head,
            range: asked.hint(),
        };
        let answer = self.registry.blob(query).await?;
        blob::respond(answer, &asked, parts).await
    }

    async fn tags(&self, query: TagsQuery, head: bool) -> Result<Response<Body>, RegistryError> {
        let list = self.registry.tags(query.clone()).await?;
        Ok(response::tags(&list, query, head))
    }

    async fn referrers(&self, query: ReferrersQuery, head: bool) -> Result<Response<Body>, RegistryError> {
        Ok(response::referrers(self.registry.referrers(query).await?, head))
    }
}

/// Values our own parts would not have sent count as absent: they are hints, and anyone may send them.
fn context(ns: Option<SourceHost>, parts: &Parts, client: Client) -> RequestContext {
    let text = |name| parts.headers.get(name).and_then(|value| value.to_str().ok());
    RequestContext {
        ns,
        hop: text(X_KUIK_HOP).and_then(|hop| hop.parse().ok()).unwrap_or(0),
        cache_index: text(X_CACHE_INDEX).and_then(|index| index.parse().ok()),
        client,
        certificate: parts.extensions.get().cloned(),
        node: text(KUIK_NODE).map(Arc::from),
    }
}

/// The answer to a target that is no endpoint, by the part that is wrong.
fn malformed(err: &EndpointError, parts: &Parts) -> Response<Body> {
    let (status, code) = match err {
        EndpointError::Unknown(_) => (StatusCode::NOT_FOUND, ErrorCode::Unsupported),
        EndpointError::Name(_) => (StatusCode::BAD_REQUEST, ErrorCode::NameInvalid),
        EndpointError::Digest(_) => (StatusCode::BAD_REQUEST, ErrorCode::DigestInvalid),
        EndpointError::Reference(ReferenceError::Digest { .. }) => (StatusCode::BAD_REQUEST, ErrorCode::DigestInvalid),
        // A tag that cannot exist does not: the conformance suite wants to hear 404 for one.
        EndpointError::Reference(_) => (StatusCode::NOT_FOUND, ErrorCode::ManifestUnknown),
        EndpointError::Query { .. } => (StatusCode::BAD_REQUEST, ErrorCode::Unsupported),
    };
    let message = err
        .source()
        .map_or_else(|| err.to_string(), |cause| format!("{cause} {err}"));
    let detail = Some(parts.uri.path().to_owned());
    response::document(Reply::new(status), code, &message, detail, parts.method == Method::HEAD)
}
