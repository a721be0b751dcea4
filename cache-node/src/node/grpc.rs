//! gRPC connections whose certificates are those that were loaded last, in both directions.
//!
//! tonic's own TLS keeps the certificates of the start, so the handshakes are made here.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use daemon::task::TaskSet;
use futures::Stream;
use hyper_util::rt::TokioIo;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{sleep, timeout};
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::Connected;
use tonic::transport::{Channel, Endpoint, Uri};

/// How long a client may take for its handshake.
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(5);
/// Handshakes at once; who comes beyond waits in the listener's queue.
const HANDSHAKES_MAX: usize = 256;
/// Pause after an accept that failed for want of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// One connection, secured or not.
pub(super) enum Connection {
    Plain(TcpStream),
    Secured(Box<TlsStream<TcpStream>>),
}

/// What the transport proved of whoever called; an extension of each request.
#[derive(Clone, Default)]
pub(crate) struct Caller {
    /// Their verified certificate.
    pub(crate) certificate: Option<Arc<CertificateDer<'static>>>,
}

/// Accepts connections in `tasks` until they stop.
pub(super) fn incoming(
    listener: TcpListener,
    tls: Option<Arc<ServerConfig>>,
    tasks: &TaskSet,
) -> impl Stream<Item = io::Result<Connection>> + use<> {
    let (accepted, connections) = mpsc::channel(HANDSHAKES_MAX);
    let (stop, handshakes) = (tasks.stop_token(), tasks.clone());
    tasks.spawn("gRPC accept", async move {
        let permits = Arc::new(Semaphore::new(HANDSHAKES_MAX));
        let accepting = async {
            while let Ok(permit) = Arc::clone(&permits).acquire_owned().await {
                let Ok((stream, _)) = listener.accept().await else {
                    sleep(ACCEPT_PAUSE).await;
                    continue;
                };
                let (tls, accepted) = (tls.clone(), accepted.clone());
                handshakes.spawn_request(async move {
                    let _permit = permit;
                    if let Some(connection) = secure(stream, tls).await {
                        accepted.send(Ok(connection)).await.ok();
                    }
                });
            }
        };
        stop.run_until_cancelled(accepting).await;
    });
    ReceiverStream::new(connections)
}

async fn secure(stream: TcpStream, tls: Option<Arc<ServerConfig>>) -> Option<Connection> {
    // Fails only on a socket that is already gone, which the first read reports.
    stream.set_nodelay(true).ok();
    let Some(tls) = tls else {
        return Some(Connection::Plain(stream));
    };
    match timeout(HANDSHAKE_DEADLINE, TlsAcceptor::from(tls).accept(stream)).await {
        Ok(Ok(stream)) => Some(Connection::Secured(Box::new(stream.into()))),
        Ok(Err(error)) => {
            tracing::debug!(%error, "gRPC handshake failed");
            None
        }
        Err(_) => {
            tracing::debug!("gRPC handshake took too long");
            None
        }
    }
}

/// A channel to `host:port` that is opened when first needed, each time with the certificates loaded last.
pub(super) fn secured_channel(endpoint: &Endpoint, config: Arc<ClientConfig>) -> Channel {
    endpoint.connect_with_connector_lazy(tower::service_fn(move |uri: Uri| {
        let config = Arc::clone(&config);
        async move { connect(&uri, config).await.map(TokioIo::new) }
    }))
}

async fn connect(uri: &Uri, config: Arc<ClientConfig>) -> io::Result<TlsStream<TcpStream>> {
    let wrong = |what: &'static str| io::Error::new(io::ErrorKind::InvalidInput, what);
    let host = uri.host().ok_or_else(|| wrong("no host in the address of a node"))?;
    let port = uri
        .port_u16()
        .ok_or_else(|| wrong("no port in the address of a node"))?;
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let name = ServerName::try_from(bare.to_owned()).map_err(|_| wrong("the address of a node is no name"))?;
    let stream = TcpStream::connect((bare, port)).await?;
    stream.set_nodelay(true)?;
    TlsConnector::from(config)
        .connect(name, stream)
        .await
        .map(TlsStream::from)
}

impl Connected for Connection {
    type ConnectInfo = Caller;

    fn connect_info(&self) -> Caller {
        let shown = match self {
            Self::Plain(_) => None,
            Self::Secured(stream) => stream.get_ref().1.peer_certificates().and_then(<[_]>::first),
        };
        Caller {
            certificate: shown.map(|shown| Arc::new(shown.clone())),
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Secured(stream) => Pin::new(stream.as_mut()).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Secured(stream) => Pin::new(stream.as_mut()).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Secured(stream) => Pin::new(stream.as_mut()).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Secured(stream) => Pin::new(stream.as_mut()).poll_shutdown(cx),
        }
    }
}
