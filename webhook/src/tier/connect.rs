//! Connections to cache nodes under mutual TLS, with the certificate of the moment.

use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use daemon::runtime::one_line;
use daemon::task::TaskSet;
use daemon::tls::{Protocol, Tls, TlsFiles};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint, Uri};
use tower::service_fn;

/// A node that lives accepts at once; waiting longer only takes time from the next.
const CONNECT_DEADLINE: Duration = Duration::from_millis(500);
/// A connection on which nothing is heard for this long and then not for as long again is given up.
const KEEP_ALIVE: Duration = Duration::from_secs(2);
/// How soon the first certificate is noticed: a pod may start before the controller has made it.
const FIRST_INTERVAL: Duration = Duration::from_secs(1);

/// Who we are to the tier; nobody until the files are there. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct Identity(Arc<OnceLock<Tls>>);

impl Identity {
    /// Waits for the files, then keeps reading them again, until `tasks` stop.
    pub(crate) fn start(files: TlsFiles, tasks: &TaskSet) -> Self {
        let identity = Self::default();
        let (late, stop, reloads) = (identity.clone(), tasks.stop_token(), tasks.clone());
        tasks.spawn("tier-identity", async move {
            let waiting = late.wait_for(files);
            if let Some(tls) = stop.run_until_cancelled_owned(waiting).await {
                tls.start_reload(&reloads);
            }
        });
        identity
    }

    async fn wait_for(&self, files: TlsFiles) -> Tls {
        let mut last_error = String::new();
        loop {
            match Tls::load(files.clone()) {
                Ok(tls) => return self.0.get_or_init(|| tls).clone(),
                Err(error) => {
                    let error = one_line(&error);
                    if error != last_error {
                        tracing::warn!(error, "no certificate towards the tier yet");
                    }
                    last_error = error;
                }
            }
            tokio::time::sleep(FIRST_INTERVAL).await;
        }
    }

    async fn connect(&self, node: &Uri) -> io::Result<TokioIo<TlsStream<TcpStream>>> {
        let missing = || io::Error::other("no certificate towards the tier yet");
        let config = self.0.get().ok_or_else(missing)?.client_config(Protocol::Http2);
        let (host, port) = (node.host().unwrap_or_default(), node.port_u16().unwrap_or_default());
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let name = ServerName::try_from(bare.to_owned()).map_err(io::Error::other)?;
        let stream = TcpStream::connect((bare, port)).await?;
        stream.set_nodelay(true)?;
        TlsConnector::from(config).connect(name, stream).await.map(TokioIo::new)
    }
}

/// A channel that connects when it is first used, and again after the connection broke.
pub(super) fn channel(node: &Uri, identity: &Identity) -> Channel {
    // Tonic must not put TLS of its own around ours.
    let authority = node.authority().map_or("", |authority| authority.as_str());
    let endpoint = Endpoint::from_shared(format!("http://{authority}"))
        .expect("the parts of an URI make an URI")
        .connect_timeout(CONNECT_DEADLINE)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .keep_alive_while_idle(true)
        .tcp_nodelay(true);
    if node.scheme_str() == Some("http") {
        return endpoint.connect_lazy();
    }
    let (identity, node) = (identity.clone(), node.clone());
    endpoint.connect_with_connector_lazy(service_fn(move |_authority: Uri| {
        let (identity, node) = (identity.clone(), node.clone());
        async move { identity.connect(&node).await }
    }))
}
