//! Putting the proxy together: one `start`, used by the program and by tests within one process.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;

use daemon::readiness::Readiness;
use daemon::shutdown::{Phase, Shutdown};
use daemon::task::TaskSet;
use daemon::tls::{Tls, TlsError};
use oci::Repository;
use tokio::sync::mpsc;
use upstream::{LentAuthorizations, NodeUrl, RegistryClient};

use crate::config::Config;
use crate::facts::Facts;
use crate::http_totals::{self, HttpTotals};
use crate::listener::{self, BoundSocket, Bounds, ListenError};
use crate::loans::Loans;
use crate::metrics::Metrics;
use crate::pull::Pull;
use crate::registry::ProxyRegistry;
use crate::ring::Ring;
use crate::standing::Standing;
use crate::supply::Supply;
use crate::supply::network::NetworkSupply;
use crate::tag_tokens::TagTokens;

/// Why the proxy cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The certificates.
    #[error("tls")]
    Tls(#[from] TlsError),
    /// The settings for source registries.
    #[error("upstream")]
    Upstream(#[source] upstream::ConfigError),
    /// An address on which another began to listen meanwhile.
    #[error(transparent)]
    Listen(#[from] ListenError),
}

/// A running proxy. It stops with the [`Shutdown`] it was started with.
#[derive(Debug)]
pub struct Proxy {
    addresses: Vec<SocketAddr>,
}

impl Proxy {
    /// Where container runtimes may connect.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }
}

/// Starts the proxy on bound sockets. It listens once nothing can fail any more, and is ready then: it needs nobody to
/// answer.
///
/// Metrics go to the recorder that is installed by then.
///
/// # Errors
/// [`StartError`].
pub fn start(
    config: Config,
    sockets: Vec<BoundSocket>,
    shutdown: &Shutdown,
    readiness: &Readiness,
) -> Result<Proxy, StartError> {
    let gate = readiness.gate("proxy");
    http_totals::started();
    let tls = config.tls.clone().map(Tls::load).transpose()?;
    if let Some(tls) = &tls {
        tls.start_reload(shutdown.tasks(Phase::Work));
    }
    let (loans, wanted) = Loans::new();
    let loans = Arc::new(loans);
    let lent: Arc<dyn LentAuthorizations> = Arc::<Loans>::clone(&loans);
    let registries = RegistryClient::new(config.upstream).map_err(StartError::Upstream)?;
    let registries = registries.with_lent(lent);
    let node_urls: Vec<NodeUrl> = config.nodes.iter().map(|node| node.registry.clone()).collect();
    let metrics = Metrics::new(config.nodes.len());
    let pull = Arc::new(Pull {
        ring: Ring::new(config.nodes.iter().map(|node| node.ordinal).collect()),
        standing: Standing::new(config.nodes.len(), metrics.clone()),
        tokens: TagTokens::default(),
        loans,
        metrics,
        next_host_limit: config.next_host_after,
        supply: NetworkSupply::new(&node_urls, tls.as_ref(), config.node_name, registries.clone()),
    });
    let facts = Arc::new(Facts::default());
    let has_tier = !node_urls.is_empty();
    start_background(&pull, &facts, wanted, shutdown);
    let known = Arc::clone(&facts);
    let registry = Arc::new(ProxyRegistry {
        pull,
        totals: HttpTotals::default(),
        knows_host: Box::new(move |host| registries.knows(host) || known.knows(host)),
        has_tier,
        facts,
    });
    let bounds = Bounds {
        connections_max: config.connections_max,
        drain: config.drain,
    };
    let addresses = listener::serve(&registry, sockets, bounds, shutdown)?;
    gate.open();
    Ok(Proxy { addresses })
}

/// Starts what goes on beside the pulls: pings of suspect nodes, and news of the tier.
fn start_background<S: Supply>(
    pull: &Arc<Pull<S>>,
    facts: &Arc<Facts>,
    wanted: mpsc::Receiver<Repository>,
    shutdown: &Shutdown,
) {
    let tasks = shutdown.tasks(Phase::Work);
    let probing = Arc::clone(pull);
    spawn_until_stopped(tasks, "node probes", async move {
        probing.standing.run_probes(|node| probing.supply.ping(node)).await;
    });
    let (asking, facts) = (Arc::clone(pull), Arc::clone(facts));
    spawn_until_stopped(tasks, "tier facts", async move { match facts.run(&asking).await {} });
    let borrowing = Arc::clone(pull);
    spawn_until_stopped(
        tasks,
        "loans",
        async move { match borrowing.run_loans(wanted).await {} },
    );
}

fn spawn_until_stopped(tasks: &TaskSet, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
    let stop = tasks.stop_token();
    tasks.spawn_critical(name, async move {
        stop.run_until_cancelled(task).await;
    });
}
