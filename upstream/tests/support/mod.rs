//! A scripted HTTP server in process: a closure decides each answer, every request is kept.

#![allow(dead_code, unreachable_pub, reason = "each test program uses its own part")]
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, stream};
use http::{HeaderMap, Method, Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use oci::{ManifestReference, Repository};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use upstream::{HostRule, Patience, RegistryClient, RetryPolicy, UpstreamConfig};

pub const MANIFEST: &[u8] =
    br#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#;
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// A request as the server saw it.
#[derive(Clone, Debug)]
pub struct Seen {
    pub method: Method,
    pub path: String,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Seen {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

/// What to answer.
pub struct Reply {
    status: u16,
    headers: Vec<(&'static str, String)>,
    steps: Vec<Step>,
    wait: Duration,
}

#[derive(Clone)]
enum Step {
    Send(Bytes),
    Wait(Duration),
    Break,
}

pub fn reply(status: u16) -> Reply {
    Reply {
        status,
        headers: Vec::new(),
        steps: Vec::new(),
        wait: Duration::ZERO,
    }
}

/// No answer at all while the test runs.
pub fn hang() -> Reply {
    reply(200).after(Duration::from_secs(3600))
}

impl Reply {
    pub fn header(mut self, name: &'static str, value: impl ToString) -> Self {
        self.headers.push((name, value.to_string()));
        self
    }

    pub fn body(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.steps.push(Step::Send(Bytes::from(bytes.into())));
        self
    }

    pub fn then_wait(mut self, wait: Duration) -> Self {
        self.steps.push(Step::Wait(wait));
        self
    }

    pub fn then_break(mut self) -> Self {
        self.steps.push(Step::Break);
        self
    }

    pub fn after(mut self, wait: Duration) -> Self {
        self.wait = wait;
        self
    }

    fn into_response(self) -> Response<UnsyncBoxBody<Bytes, std::io::Error>> {
        let mut builder = Response::builder().status(self.status);
        for (name, value) in self.headers {
            builder = builder.header(name, value);
        }
        let frames = stream::iter(self.steps).filter_map(|step| async move {
            match step {
                Step::Send(bytes) => Some(Ok(Frame::data(bytes))),
                Step::Wait(wait) => {
                    tokio::time::sleep(wait).await;
                    None
                }
                Step::Break => Some(Err(std::io::Error::other("scripted"))),
            }
        });
        builder.body(StreamBody::new(frames).boxed_unsync()).unwrap()
    }
}

type Handler = dyn Fn(&Seen) -> Reply + Send + Sync;

/// The server. It ends with the test's runtime.
#[derive(Clone)]
pub struct Server {
    pub address: SocketAddr,
    scheme: &'static str,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Server {
    pub async fn start(handler: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        Self::listen(None, Arc::new(handler)).await
    }

    pub async fn start_tls(tls: TlsAcceptor, handler: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        Self::listen(Some(tls), Arc::new(handler)).await
    }

    async fn listen(tls: Option<TlsAcceptor>, handler: Arc<Handler>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let server = Self {
            address: listener.local_addr().unwrap(),
            scheme,
            seen: Arc::default(),
        };
        let accepting = server.clone();
        tokio::spawn(async move {
            loop {
                let (tcp, _) = listener.accept().await.unwrap();
                let (server, handler, tls) = (accepting.clone(), Arc::clone(&handler), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(tcp).await {
                                server.serve(stream, handler).await;
                            }
                        }
                        None => server.serve(tcp, handler).await,
                    }
                });
            }
        });
        server
    }

    async fn serve(self, stream: impl AsyncRead + AsyncWrite + Unpin + 'static, handler: Arc<Handler>) {
        let service = service_fn(|request: Request<Incoming>| {
            let (server, handler) = (self.clone(), Arc::clone(&handler));
            async move {
                let (parts, body) = request.into_parts();
                let body = body.collect().await.unwrap().to_bytes();
                let path = parts.uri.to_string();
                let seen = Seen {
                    method: parts.method,
                    path,
                    headers: parts.headers,
                    body,
                };
                server.seen.lock().unwrap().push(seen.clone());
                let reply = handler(&seen);
                tokio::time::sleep(reply.wait).await;
                Ok::<_, Infallible>(reply.into_response())
            }
        });
        // A client that hangs up is part of the tests.
        let _ = hyper::server::conn::http1::Builder::new()
            .serve_connection(TokioIo::new(stream), service)
            .await;
    }

    pub fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.address)
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// Requests whose path contains `part`.
    pub fn count(&self, part: &str) -> usize {
        self.seen().iter().filter(|seen| seen.path.contains(part)).count()
    }
}

/// A configuration in which `source.example` is at `url`.
pub fn config(url: &str) -> UpstreamConfig {
    let mut config = UpstreamConfig::default();
    config
        .hosts
        .insert("source.example".parse().unwrap(), HostRule::at(url.parse().unwrap()));
    config.patience = Patience {
        headers: Duration::from_secs(10),
        no_progress: Duration::from_secs(10),
        retry: RetryPolicy {
            pause_base: Duration::from_millis(1),
            ..RetryPolicy::default()
        },
    };
    config
}

/// Allows a further host, as `--upstream` would.
pub fn allow(config: &mut UpstreamConfig, server: &Server) {
    config.hosts.insert(
        server.address.to_string().parse().unwrap(),
        HostRule::at(server.url().parse().unwrap()),
    );
}

pub fn client(url: &str) -> RegistryClient {
    RegistryClient::new(config(url)).unwrap()
}

pub fn repository() -> Repository {
    Repository::new("source.example".parse().unwrap(), "team/app".parse().unwrap())
}

pub fn tag(tag: &str) -> ManifestReference {
    ManifestReference::Tag(tag.parse().unwrap())
}

/// A complete answer for a manifest; hyper leaves the body out for `HEAD`.
pub fn manifest() -> Reply {
    reply(200)
        .header("content-type", INDEX)
        .header("content-length", MANIFEST.len())
        .header("docker-content-digest", oci::Digest::sha256(MANIFEST))
        .body(MANIFEST)
}
