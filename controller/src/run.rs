//! The controller's life: wait to lead, work while leading, stop when leadership is lost.

use std::sync::Arc;
use std::time::Duration;

use daemon::readiness::Readiness;
use daemon::shutdown::{Cause, Phase, Shutdown};
use daemon::task::TaskSet;
use daemon::tls::{RELOAD_INTERVAL, TlsFiles};
use kube::Client;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::config::{Certificates, Config, NodeAddress};
use crate::executor::Executor;
use crate::lease::Election;
use crate::metrics;
use crate::pki::{Identity, Keeper};
use crate::plan::Policy;
use crate::pod::ProxyPods;
use crate::reconciler::Reconciler;
use crate::sign_of_life::keep_telling;
use crate::tier::{Channels, Tier, follow_images};
use crate::watches;

/// Changes on their way to the reconciler. A watch waits when they are not taken in.
const CHANGES_MAX: usize = 1024;
/// What proxies' pods are labelled with.
const PROXY_COMPONENT: &str = "proxy";
/// How long the work has to end before the lease is given back.
pub(crate) const STOP_DEADLINE: Duration = Duration::from_secs(5);

/// Starts the controller. It is ready while the API server lets it take part in the election; one that waits to lead is in
/// order.
pub fn start(config: Config, client: Client, identity: &str, shutdown: &Shutdown, readiness: &Readiness) {
    metrics::started();
    let name = config.install.name("controllers");
    let election = Election::new(client.clone(), &config.install.namespace, &name, identity);
    let mut election = election.told_to(readiness.gate("kubernetes"));
    let tasks = shutdown.tasks(Phase::Work);
    let stop = tasks.stop_token();
    let ending = shutdown.clone();
    tasks.spawn_critical("leader", async move {
        if stop.run_until_cancelled(election.win()).await.is_none() {
            return;
        }
        tracing::info!("leading");
        metrics::leads(true);
        let lost = ending.clone();
        let work = TaskSet::new(CancellationToken::new(), move |end| lost.begin(Cause::TaskEnded(end)));
        start_work(config, client, &work);
        let stopped = stop.run_until_cancelled(election.lead()).await.is_some();
        metrics::leads(false);
        if let Err(hung) = work.stop(STOP_DEADLINE).await {
            tracing::warn!(error = %hung, "work did not stop");
        }
        if stopped {
            // A new process begins from a clean state; the kubelet starts it at once.
            ending.begin(Cause::Failed("leadership lost".to_owned()));
            return;
        }
        election.release().await;
    });
}

fn start_work(config: Config, client: Client, tasks: &TaskSet) {
    let channels = start_identity(&config, &client, tasks);
    let (changes_tx, changes) = mpsc::channel(CHANGES_MAX);
    let proxies = ProxyPods {
        namespace: config.install.proxy_namespace.clone(),
        component: PROXY_COMPONENT,
    };
    watches::start(&client, proxies, &changes_tx, tasks);
    let stop = tasks.stop_token();
    let following = follow_images(channels.clone(), changes_tx);
    tasks.spawn_critical("watch-tier", async move {
        stop.run_until_cancelled_owned(following).await;
    });
    let policy = Policy {
        expiry_delay: config.expiry_delay,
        ignored_namespaces: config.ignored_namespaces,
        architectures: config.architectures,
        restore: config.restore,
    };
    let tier = Tier::new(channels);
    let executor = Executor::new(client, tier.clone());
    let reconciler = Reconciler::new(policy, executor, config.reconciles_max);
    let telling = keep_telling(tier, reconciler.planned());
    let stop = tasks.stop_token();
    tasks.spawn_critical("sign-of-life", async move {
        stop.run_until_cancelled_owned(telling).await;
    });
    let stop = tasks.stop_token();
    tasks.spawn_critical("reconciler", async move {
        stop.run_until_cancelled_owned(reconciler.run(changes)).await;
    });
}

/// Connections to the tier, made anew whenever our certificate is.
fn start_identity(config: &Config, client: &Client, tasks: &TaskSet) -> watch::Receiver<Arc<Channels>> {
    let (channels_tx, channels) = watch::channel(Arc::new(Channels::default()));
    let (identities_tx, identities) = watch::channel(None);
    let stop = tasks.stop_token();
    match &config.certificates {
        Certificates::Own => {
            let keeper = Keeper::new(client.clone(), config.install.clone());
            tasks.spawn_critical("certificates", async move {
                stop.run_until_cancelled_owned(keeper.run(identities_tx)).await;
            });
        }
        Certificates::Provided(files) => {
            let reading = read_identity(files.clone(), identities_tx);
            let stop_keeping = stop.clone();
            tasks.spawn_critical("certificates", async move {
                stop.run_until_cancelled_owned(reading).await;
            });
            // Nobody else makes it, and no cache node starts without it.
            let keeping = Keeper::new(client.clone(), config.install.clone()).run_for_sealing_key();
            tasks.spawn_critical("sealing-key", async move {
                stop_keeping.run_until_cancelled_owned(keeping).await;
            });
        }
    }
    let connecting = connect(config.nodes.clone(), identities, channels_tx);
    let stop = tasks.stop_token();
    tasks.spawn_critical("tier-connections", async move {
        stop.run_until_cancelled_owned(connecting).await;
    });
    channels
}

async fn connect(
    nodes: Vec<NodeAddress>,
    mut identities: watch::Receiver<Option<Identity>>,
    channels: watch::Sender<Arc<Channels>>,
) {
    loop {
        let identity = identities.borrow_and_update().clone();
        if let Some(identity) = identity {
            match Channels::new(&nodes, Some(&identity)) {
                Ok(made) => drop(channels.send_replace(Arc::new(made))),
                Err(error) => {
                    let error = daemon::runtime::one_line(&error);
                    tracing::error!(error, "cache nodes cannot be called");
                }
            }
        }
        if identities.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Reads certificates that someone else makes, again and again.
async fn read_identity(files: TlsFiles, identities: watch::Sender<Option<Identity>>) {
    loop {
        let read = |path: &std::path::Path| std::fs::read_to_string(path);
        let identity = read(&files.ca).and_then(|ca| {
            Ok(Identity {
                ca,
                cert: read(&files.cert)?,
                key: read(&files.key)?,
            })
        });
        match identity {
            Ok(identity) => {
                identities.send_if_modified(|held| held.replace(identity.clone()) != Some(identity));
            }
            Err(error) => tracing::warn!(%error, files = ?files, "certificates not read"),
        }
        tokio::time::sleep(RELOAD_INTERVAL).await;
    }
}
