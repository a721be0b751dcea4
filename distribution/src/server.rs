//! Accepts connections on a bound listener and serves each in a task of its own, until told to drain.

use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, warn};

use crate::connection::{self, Progress, Watched};
use crate::incoming::Incoming;
use crate::limits::Limits;
use crate::query::{Client, PeerCertificate};
use crate::registry::Registry;
use crate::response;
use crate::routes::{NoRoutes, Routes};
use crate::service::Service;

/// First and longest pause after an accept that failed for want of descriptors or memory: connections that end
/// meanwhile free some.
const ACCEPT_PAUSE_MIN: Duration = Duration::from_millis(10);
const ACCEPT_PAUSE_MAX: Duration = Duration::from_secs(1);

/// What a client over [`Limits::connections_max`] reads.
const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\n\
    docker-distribution-api-version: registry/2.0\r\n\
    content-type: application/json\r\ncontent-length: 69\r\nconnection: close\r\n\r\n\
    {\"errors\":[{\"code\":\"UNAVAILABLE\",\"message\":\"too many connections\"}]}\n";

/// A registry about to be served. Cheap to build; [`start`](Self::start) or [`run`](Self::run) it.
pub struct Server<R, H = NoRoutes> {
    registry: Arc<R>,
    routes: Arc<H>,
    tls: Option<Arc<ServerConfig>>,
    limits: Limits,
}

impl<R: Registry> Server<R> {
    /// Serves `registry` in the clear, with default limits.
    pub fn new(registry: Arc<R>) -> Self {
        Self {
            registry,
            routes: Arc::new(NoRoutes),
            tls: None,
            limits: Limits::default(),
        }
    }
}

impl<R: Registry, H: Routes> Server<R, H> {
    /// Serves over TLS with this configuration, whose client verifier decides what
    /// [`Client::TlsVerified`] means.
    pub fn tls(mut self, config: Arc<ServerConfig>) -> Self {
        self.tls = Some(config);
        self
    }

    /// Replaces the default limits.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Answers the requests that `routes` claims with it.
    pub fn routes<H2: Routes>(self, routes: Arc<H2>) -> Server<R, H2> {
        Server {
            registry: self.registry,
            routes,
            tls: self.tls,
            limits: self.limits,
        }
    }

    /// Starts serving in a task that the handle owns.
    ///
    /// # Errors
    /// The listener's address cannot be told.
    pub fn start(self, listener: TcpListener) -> io::Result<ServerHandle> {
        let address = listener.local_addr()?;
        let stop = CancellationToken::new();
        let mut task = JoinSet::new();
        task.spawn(self.run(listener, stop.clone()));
        Ok(ServerHandle { address, stop, task })
    }

    /// Serves until `stop` is cancelled, then takes the last connections of `incoming` and closes it, lets answers in
    /// flight finish within [`Limits::grace`], and cuts the rest. Connections are closed after the answer in flight,
    /// the last ones after their first. Dropping the future cuts everything at once.
    pub async fn run(self, mut incoming: impl Incoming, stop: CancellationToken) {
        let grace = self.limits.grace;
        let slots = Arc::new(Semaphore::new(self.limits.connections_max));
        let acceptor = Acceptor {
            tls: self.tls.map(TlsAcceptor::from),
            service: Arc::new(Service::new(self.registry, self.routes, self.limits)),
            draining: stop.clone(),
            slots,
        };
        let mut connections = JoinSet::new();
        tokio::select! {
            () = stop.cancelled() => (),
            never = acceptor.accept_all(&mut incoming, &mut connections) => match never {},
        }
        while let Some(stream) = incoming.accept_last().await {
            acceptor.admit(stream, &mut connections);
        }
        // A client that connects now must be refused, not left in the queue of a listener nobody reads.
        drop(incoming);
        let drained = timeout(grace, async {
            while connections.join_next().await.map(report).is_some() {}
        })
        .await;
        if drained.is_err() {
            warn!(
                n_connections = connections.len(),
                "connections cut after the grace period"
            );
        }
    }

    /// Serves one accepted connection, for a caller with an accept loop of its own, until it ends or, once
    /// `stop` is cancelled, the answer in flight is out.
    pub async fn serve_connection(self, stream: TcpStream, stop: CancellationToken) {
        let service = Arc::new(Service::new(self.registry, self.routes, self.limits));
        serve_stream(stream, service, self.tls.map(TlsAcceptor::from), stop).await;
    }
}

/// A running server. Dropping it cuts all connections.
#[derive(Debug)]
pub struct ServerHandle {
    address: SocketAddr,
    stop: CancellationToken,
    task: JoinSet<()>,
}

impl ServerHandle {
    /// The listener's address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Closes the listener, then waits for the answers in flight, at most [`Limits::grace`].
    pub async fn shutdown(mut self) {
        self.stop.cancel();
        self.ended().await;
    }

    /// Waits until the server has ended, which without [`shutdown`](Self::shutdown) it does not. Cancel safe.
    pub async fn ended(&mut self) {
        while self.task.join_next().await.map(report).is_some() {}
    }
}

fn report(ended: Result<(), JoinError>) {
    if let Err(err) = ended
        && err.is_panic()
    {
        error!(error = &err as &dyn Error, "connection task panicked");
    }
}

enum Never {}

struct Acceptor<R, H> {
    service: Arc<Service<R, H>>,
    tls: Option<TlsAcceptor>,
    slots: Arc<Semaphore>,
    draining: CancellationToken,
}

impl<R: Registry, H: Routes> Acceptor<R, H> {
    async fn accept_all(&self, incoming: &mut impl Incoming, connections: &mut JoinSet<()>) -> Never {
        let mut pause = ACCEPT_PAUSE_MIN;
        loop {
            tokio::select! {
                accepted = incoming.accept() => match accepted {
                    Ok(stream) => {
                        pause = ACCEPT_PAUSE_MIN;
                        self.admit(stream, connections);
                    }
                    Err(err) if is_of_one_connection(&err) => (),
                    Err(err) => {
                        warn!(error = &err as &dyn Error, pause_ms = pause.as_millis() as u64, "accept failed");
                        sleep(pause).await;
                        pause = (pause * 2).min(ACCEPT_PAUSE_MAX);
                    }
                },
                Some(ended) = connections.join_next() => report(ended),
            }
        }
    }

    fn admit(&self, stream: TcpStream, connections: &mut JoinSet<()>) {
        let Ok(slot) = Arc::clone(&self.slots).try_acquire_owned() else {
            debug!("connection refused: too many");
            if self.tls.is_none() {
                // Best effort: a closed connection says the same, less clearly.
                let _ = stream.try_write(FULL);
            }
            return;
        };
        let service = Arc::clone(&self.service);
        let (tls, draining) = (self.tls.clone(), self.draining.clone());
        connections.spawn(async move {
            serve_stream(stream, service, tls, draining).await;
            drop(slot);
        });
    }
}

/// The connection failed before it was accepted; the listener is well.
fn is_of_one_connection(err: &io::Error) -> bool {
    matches!(
        err.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionRefused
    )
}

async fn serve_stream<R: Registry, H: Routes>(
    stream: TcpStream,
    service: Arc<Service<R, H>>,
    tls: Option<TlsAcceptor>,
    draining: CancellationToken,
) {
    // Fails only on a socket that is already gone, which the first read reports.
    let _ = stream.set_nodelay(true);
    let progress = Arc::<Progress>::default();
    let stream = Watched::new(stream, Arc::clone(&progress));
    let Some(tls) = tls else {
        return serve_http(stream, service, (Client::Plain, None), progress, draining).await;
    };
    match timeout(service.limits().tls_handshake, tls.accept(stream)).await {
        Err(_) => debug!("TLS handshake took too long"),
        Ok(Err(err)) => debug!(error = &err as &dyn Error, "TLS handshake failed"),
        Ok(Ok(stream)) => {
            let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
            let certificate = shown.map(|shown| PeerCertificate(Arc::new(shown.clone())));
            let client = match &certificate {
                Some(_) => Client::TlsVerified,
                None => Client::TlsAnonymous,
            };
            progress.set_mark();
            serve_http(stream, service, (client, certificate), progress, draining).await;
        }
    }
}

async fn serve_http<IO, R: Registry, H: Routes>(
    io: IO,
    service: Arc<Service<R, H>>,
    (client, certificate): (Client, Option<PeerCertificate>),
    progress: Arc<Progress>,
    draining: CancellationToken,
) where
    IO: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let limits = service.limits().clone();
    let answer = {
        let (progress, draining) = (Arc::clone(&progress), draining.clone());
        move |request| {
            let answer = Arc::clone(&service).answer(request, client, certificate.clone(), Arc::clone(&progress));
            let draining = draining.clone();
            async move {
                let mut answer = answer.await;
                if draining.is_cancelled()
                    && let Ok(answer) = &mut answer
                {
                    response::close(answer);
                }
                answer
            }
        }
    };
    connection::serve(io, progress, &limits, draining, answer).await;
}
