//! The controller's life: wait to lead, work while leading, stop when leadership is lost.

use std::time::Duration;

use daemon::shutdown::{Cause, Phase, Shutdown};
use daemon::task::TaskSet;
use kube::Client;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::config::{Certificates, Config};
use crate::lease::Election;
use crate::metrics;
use crate::pki::Keeper;

/// How long the work has to end before the lease is given back.
const STOP_DEADLINE: Duration = Duration::from_secs(5);

/// Starts the controller. It is ready at once, as one that waits to lead is in order.
pub fn start(config: Config, client: Client, identity: &str, shutdown: &Shutdown) {
    metrics::started();
    let name = config.install.name("controllers");
    let mut election = Election::new(client.clone(), &config.install.namespace, &name, identity);
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
    let (identities, _identity) = watch::channel(None);
    if config.certificates == Certificates::Own {
        let keeper = Keeper::new(client, config.install.clone());
        let stop = tasks.stop_token();
        tasks.spawn_critical("certificates", async move {
            stop.run_until_cancelled_owned(keeper.run(identities)).await;
        });
    }
}
