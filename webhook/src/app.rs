//! Putting the webhook together: one `start`, used by the program and by tests within one process.

use std::sync::{Arc, Mutex};

use daemon::readiness::Readiness;
use daemon::shutdown::{Phase, Shutdown};
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::config::Config;
use crate::loops::Loops;
use crate::metrics::Metrics;
use crate::policy;
use crate::proxies::Proxies;
use crate::reviewer::Reviewer;
use crate::server;
use crate::serving::Serving;
use crate::tier::{Identity, Tier};

/// Starts the webhook on a bound listener. It is ready once it has a policy and a certificate to show, and a cache node
/// has answered: before, it could rewrite nothing, and another replica may.
pub fn start(
    config: &Config,
    listener: TcpListener,
    proxies: watch::Receiver<Proxies>,
    metrics: Metrics,
    shutdown: &Shutdown,
    readiness: &Readiness,
) {
    let work = shutdown.tasks(Phase::Work);
    let policy = policy::file::start(&config.policy_file, readiness.gate("policy"), metrics.clone(), work);
    let serving = Serving::new(config.serving.clone());
    serving.start_reload(readiness.gate("certificate"), work);
    let identity = config.tls.clone().map(|files| Identity::start(files, work));
    let tier = Tier::new(&config.nodes, &identity.unwrap_or_default(), metrics.clone());
    let tier = Arc::new(tier);
    tier.start_probes(readiness.gate("tier"), work);
    let reviewer = Reviewer {
        policy,
        proxy_port: config.proxy_port,
        own_namespaces: config.own_namespaces(),
        proxies,
        tier,
        loops: Mutex::new(Loops::default()),
        metrics,
    };
    server::start(
        listener,
        serving.server_config(),
        Arc::new(reviewer),
        shutdown.tasks(Phase::Serve),
    );
}
