//! A source registry in process that misbehaves on demand, and remembers what it was asked.
//!
//! It answers through `distribution` like every server here; faults distort an answer on its way out, so a fault
//! means the same for manifests and blobs, whole or in part.

mod auth;
mod connections;
mod fault;
mod flow;
mod library;
mod requests;
mod routes;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use oci::{Digest, SourceHost, Tag};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::rustls::ServerConfig;

pub use auth::Auth;
pub use connections::ConnectHang;
pub use fault::{Fault, FaultHandle, On, Stage};
pub use requests::{Route, Seen};

use crate::image::Image;
use auth::Authority;
use connections::{Gate, Listening};
use fault::FaultPlan;
use flow::RateLimit;
use library::Library;
use requests::RequestLog;

/// What all connections of a fake registry share.
struct Shared {
    library: Arc<Library>,
    protocol: distribution::Protocol<Library>,
    faults: FaultPlan,
    requests: RequestLog,
    authority: Authority,
    rate: RateLimit,
    gate: Gate,
    redirect_blobs: bool,
    tls: Option<Arc<ServerConfig>>,
}

/// A fake registry about to start.
#[derive(Default)]
pub struct Builder {
    address: Option<SocketAddr>,
    auth: Auth,
    redirect_blobs: bool,
    tls: Option<Arc<ServerConfig>>,
}

impl Builder {
    /// Listens here instead of on a free port of 127.0.0.1.
    pub fn address(mut self, address: SocketAddr) -> Self {
        self.address = Some(address);
        self
    }

    /// Asks for credentials.
    pub fn auth(mut self, auth: Auth) -> Self {
        self.auth = auth;
        self
    }

    /// Answers blobs with 307 to a second port, which refuses requests that carry `Authorization`, as object
    /// stores do.
    pub fn redirect_blobs(mut self) -> Self {
        self.redirect_blobs = true;
        self
    }

    /// Serves over TLS.
    pub fn tls(mut self, config: Arc<ServerConfig>) -> Self {
        self.tls = Some(config);
        self
    }

    /// Starts it, empty.
    ///
    /// # Errors
    /// The address cannot be bound.
    pub async fn start(self) -> io::Result<FakeRegistry> {
        let library = Arc::<Library>::default();
        let shared = Arc::new(Shared {
            protocol: distribution::Protocol::new(Arc::clone(&library)),
            library,
            faults: FaultPlan::default(),
            requests: RequestLog::default(),
            authority: Authority::new(self.auth),
            rate: RateLimit::default(),
            gate: Gate::default(),
            redirect_blobs: self.redirect_blobs,
            tls: self.tls,
        });
        let listener = TcpListener::bind(self.address.unwrap_or(([127, 0, 0, 1], 0).into())).await?;
        let mut registry = FakeRegistry {
            address: listener.local_addr()?,
            shared,
            running: JoinSet::new(),
        };
        registry.run(listener).await?;
        Ok(registry)
    }
}

/// A running fake registry. Dropping it cuts all its connections.
pub struct FakeRegistry {
    address: SocketAddr,
    shared: Arc<Shared>,
    running: JoinSet<()>,
}

/// Starts a fake registry that serves these images on `address`.
///
/// # Errors
/// The address cannot be bound.
pub async fn serve(address: SocketAddr, images: &[Image]) -> io::Result<FakeRegistry> {
    let registry = FakeRegistry::builder().address(address).start().await?;
    images.iter().for_each(|image| registry.push(image));
    Ok(registry)
}

impl FakeRegistry {
    /// A well-behaved, empty registry on a free port of 127.0.0.1.
    pub async fn start() -> Self {
        Self::builder().start().await.expect("a free port")
    }

    /// A registry with settings.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Where it listens, also while stopped.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its base URL, without a trailing slash.
    pub fn url(&self) -> String {
        auth::base_url(self.shared.tls.is_some(), self.address)
    }

    /// Its name as a source.
    pub fn host(&self) -> SourceHost {
        self.address.to_string().parse().expect("an address is a source host")
    }

    /// Adds an image and points its tag to it.
    pub fn push(&self, image: &Image) {
        self.shared.library.push(image);
    }

    /// Points a tag to a manifest that was pushed, or moves it there.
    pub fn tag(&self, repository: &str, tag: &str, digest: &Digest) {
        let (repository, tag): (_, Tag) = (
            repository.parse().expect("a repository name"),
            tag.parse().expect("a tag"),
        );
        self.shared.library.tag(repository, tag, digest.clone());
    }

    /// Forgets a repository: its tags, manifests and blobs.
    pub fn remove(&self, repository: &str) {
        self.shared
            .library
            .remove(&repository.parse().expect("a repository name"));
    }

    /// Misbehaves so on requests like this, until the handle lifts it. The newest fault that fits counts.
    pub fn fault(&self, on: On, fault: Fault) -> FaultHandle {
        self.shared.faults.add(on, fault)
    }

    /// Lifts all faults.
    pub fn lift_all(&self) {
        self.shared.faults.lift_all();
    }

    /// Sends at most so many bytes a second on all connections together, or without limit.
    pub fn limit_rate(&self, bytes_per_second: Option<u64>) {
        self.shared.rate.set(bytes_per_second);
    }

    /// Lets no new connection come about until the handle is lifted: as for a host whose packets vanish.
    pub async fn hang_connects(&self) -> ConnectHang {
        self.shared.gate.close(self.address).await
    }

    /// Every token issued so far stops working.
    pub fn revoke_tokens(&self) {
        self.shared.authority.revoke();
    }

    /// The requests so far, oldest first.
    pub fn requests(&self) -> Vec<Seen> {
        self.shared.requests.all()
    }

    /// How many of the requests so far fit.
    pub fn count(&self, on: &On) -> usize {
        self.shared.requests.all().iter().filter(|seen| on.fits(seen)).count()
    }

    /// Body bytes of this blob sent so far, over all requests.
    pub fn bytes_sent(&self, digest: &Digest) -> u64 {
        self.shared.requests.sent(digest).load(Relaxed)
    }

    /// Forgets requests and bytes sent.
    pub fn forget_requests(&self) {
        self.shared.requests.forget();
    }

    /// Stops listening and cuts every connection, as a crash would. Contents, faults and counts stay.
    pub async fn stop(&mut self) {
        self.running.shutdown().await;
    }

    /// Listens again on the same port.
    ///
    /// # Errors
    /// The port was taken meanwhile.
    pub async fn restart(&mut self) -> io::Result<()> {
        self.stop().await;
        self.run(TcpListener::bind(self.address).await?).await
    }

    async fn run(&mut self, listener: TcpListener) -> io::Result<()> {
        let content = match self.shared.redirect_blobs {
            true => Some(TcpListener::bind((self.address.ip(), 0)).await?),
            false => None,
        };
        let content_address = content.as_ref().map(TcpListener::local_addr).transpose()?;
        let main = Listening {
            shared: Arc::clone(&self.shared),
            listener,
            content_address,
            is_content: false,
        };
        self.running.spawn(main.accept_all());
        if let Some(listener) = content {
            let content = Listening {
                shared: Arc::clone(&self.shared),
                listener,
                content_address,
                is_content: true,
            };
            self.running.spawn(content.accept_all());
        }
        Ok(())
    }
}
