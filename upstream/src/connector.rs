//! From a URI to a connection: resolve, refuse forbidden addresses, connect, tunnel, TLS.
//!
//! Addresses are filtered after name resolution and the filtered ones are connected to, so a name that changes its
//! mind in between gains nothing. A destination reached through a proxy is resolved by that proxy; there only its name
//! or literal can be checked.

mod resolver;
mod stream;
mod tunnel;

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{HeaderValue, Uri};
use hyper_util::client::legacy::connect::HttpConnector;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tower::Service;

use crate::address::{ForbiddenAddress, check_unresolved};
use crate::config::{ConfigError, HttpProxy, ProxyRules, UpstreamConfig};
use crate::error::find_cause;
use crate::origin::Origin;
use crate::tls::{LazyTls, SystemRoots, TlsError};
use resolver::GuardedResolver;
pub(crate) use stream::Connection;

/// Probes on idle connections, so that a peer that vanished is noticed.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// Makes the connections of one client. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Connector {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    reach: Reach,
    guarded: HttpConnector<GuardedResolver>,
    open: HttpConnector,
    proxies: ProxyRules,
    roots: SystemRoots,
    default_tls: LazyTls,
    timeout: Duration,
}

/// Where connections may go.
#[derive(Debug)]
enum Reach {
    /// Anywhere: the destinations are our own.
    Anywhere,
    /// To allowed addresses, and to what is configured, with that host's settings.
    Guarded(HashMap<Origin, LazyTls>),
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    #[error("not an http or https URI with a host")]
    Destination,
    #[error(transparent)]
    Forbidden(#[from] ForbiddenAddress),
    #[error("no connection within {0:?}")]
    Timeout(Duration),
    #[error("connect")]
    Tcp(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("tunnel through {proxy}")]
    Tunnel { proxy: String, source: io::Error },
    #[error("TLS settings")]
    Settings(#[from] TlsError),
    #[error("TLS handshake")]
    Handshake(#[source] io::Error),
}

impl Connector {
    /// For source registries.
    pub(crate) fn guarded(config: &UpstreamConfig) -> Result<Self, ConfigError> {
        let reach = Reach::Guarded(configured(config)?);
        let proxies = config.proxies.clone();
        Ok(Self::new(reach, proxies, LazyTls::default(), config.connect_timeout))
    }

    /// For our own parts: any address, no proxy, the TLS settings given.
    pub(crate) fn between_parts(tls: Option<Arc<ClientConfig>>, connect_timeout: Duration) -> Self {
        let tls = tls.map(LazyTls::given).unwrap_or_default();
        Self::new(Reach::Anywhere, ProxyRules::default(), tls, connect_timeout)
    }

    fn new(reach: Reach, proxies: ProxyRules, default_tls: LazyTls, connect_timeout: Duration) -> Self {
        let guarded = dialer(
            HttpConnector::new_with_resolver(GuardedResolver::default()),
            connect_timeout,
        );
        let open = dialer(HttpConnector::new(), connect_timeout);
        let roots = SystemRoots::default();
        let shared = Shared {
            reach,
            guarded,
            open,
            proxies,
            roots,
            default_tls,
            timeout: connect_timeout,
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// What a request for `origin` must carry because a proxy reads it (plain `http` only).
    pub(crate) fn proxy_authorization(&self, origin: &Origin) -> Option<HeaderValue> {
        let proxy = self.shared.proxies.proxy_for(origin).filter(|_| !origin.is_https())?;
        proxy.authorization.clone()
    }
}

/// The servers that `hosts` leads to, with their TLS settings.
fn configured(config: &UpstreamConfig) -> Result<HashMap<Origin, LazyTls>, ConfigError> {
    let mut named: HashMap<Origin, (String, LazyTls)> = HashMap::new();
    for (host, rule) in &config.hosts {
        let (origin, tls) = (rule.url.origin(), LazyTls::of(rule));
        tls.check().map_err(|source| ConfigError::Tls {
            host: host.to_string(),
            source,
        })?;
        match named.get(origin) {
            Some((first, known)) if !known.same_settings(&tls) => {
                let (first, second, server) = (first.clone(), host.to_string(), origin.to_string());
                return Err(ConfigError::Conflict { first, second, server });
            }
            Some(_) => {}
            None => {
                named.insert(origin.clone(), (host.to_string(), tls));
            }
        }
    }
    Ok(named.into_iter().map(|(origin, (_, tls))| (origin, tls)).collect())
}

fn dialer<R>(mut connector: HttpConnector<R>, connect_timeout: Duration) -> HttpConnector<R> {
    connector.enforce_http(false);
    connector.set_nodelay(true);
    connector.set_keepalive(Some(KEEPALIVE));
    connector.set_connect_timeout(Some(connect_timeout));
    connector
}

impl Shared {
    async fn connect(&self, uri: Uri) -> Result<Connection, ConnectError> {
        let origin = Origin::of(&uri).ok_or(ConnectError::Destination)?;
        match self.proxies.proxy_for(&origin) {
            Some(proxy) => self.connect_through(proxy, &origin).await,
            None => {
                let tcp = self.dial(uri, &origin).await?;
                self.secure(tcp, &origin, false).await
            }
        }
    }

    async fn dial(&self, uri: Uri, origin: &Origin) -> Result<TcpStream, ConnectError> {
        if self.may_be_anywhere(origin) {
            return tcp(self.open.clone().call(uri).await);
        }
        check_unresolved(origin.host())?;
        tcp(self.guarded.clone().call(uri).await)
    }

    async fn connect_through(&self, proxy: &HttpProxy, origin: &Origin) -> Result<Connection, ConnectError> {
        if !self.may_be_anywhere(origin) {
            check_unresolved(origin.host())?;
        }
        let mut tcp = tcp(self.open.clone().call(proxy.uri.clone()).await)?;
        if origin.is_https() {
            tunnel::open(&mut tcp, &origin.authority(), proxy.authorization.as_ref())
                .await
                .map_err(|source| ConnectError::Tunnel {
                    proxy: proxy.uri.to_string(),
                    source,
                })?;
        }
        self.secure(tcp, origin, true).await
    }

    async fn secure(&self, tcp: TcpStream, origin: &Origin, proxied: bool) -> Result<Connection, ConnectError> {
        if !origin.is_https() {
            return Ok(Connection::plain(tcp, proxied));
        }
        let tls = self.tls_of(origin).get(&self.roots).await?;
        let name = ServerName::try_from(origin.host().to_owned()).map_err(|_| ConnectError::Destination)?;
        let stream = TlsConnector::from(tls)
            .connect(name, tcp)
            .await
            .map_err(ConnectError::Handshake)?;
        Ok(Connection::tls(stream))
    }

    fn may_be_anywhere(&self, origin: &Origin) -> bool {
        match &self.reach {
            Reach::Anywhere => true,
            Reach::Guarded(configured) => configured.contains_key(origin),
        }
    }

    fn tls_of(&self, origin: &Origin) -> &LazyTls {
        match &self.reach {
            Reach::Guarded(configured) => configured.get(origin).unwrap_or(&self.default_tls),
            Reach::Anywhere => &self.default_tls,
        }
    }
}

fn tcp<E>(connected: Result<hyper_util::rt::TokioIo<TcpStream>, E>) -> Result<TcpStream, ConnectError>
where
    E: std::error::Error + Send + Sync + 'static,
{
    connected
        .map(hyper_util::rt::TokioIo::into_inner)
        .map_err(|error| match find_cause::<ForbiddenAddress>(&error) {
            Some(forbidden) => ConnectError::Forbidden(forbidden.clone()),
            None => ConnectError::Tcp(Box::new(error)),
        })
}

impl Service<Uri> for Connector {
    type Response = Connection;
    type Error = ConnectError;
    type Future = Pin<Box<dyn Future<Output = Result<Connection, ConnectError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let shared = Arc::clone(&self.shared);
        Box::pin(async move {
            let connected = timeout(shared.timeout, shared.connect(uri)).await;
            connected.unwrap_or(Err(ConnectError::Timeout(shared.timeout)))
        })
    }
}
