//! Puts a cache node together, part by part, and takes it apart again in order.
//!
//! The ports open before the node is a member of a cluster: peers have to ask it whether it is empty, and people whether
//! it lives. What needs the cluster answers "not yet" until then.

mod assembly;
mod grpc;
mod servers;
mod tls;

use std::sync::{Arc, OnceLock};

use daemon::readiness::{Gate, Readiness};
use daemon::runtime::one_line;
use daemon::shutdown::{Cause, Phase, Shutdown};
use daemon::telemetry::Metrics;
use distribution::{Limits, Server};
use raft::{Abort, DataDir, Dependencies, LogDisk, MetaHandle, System};
use tokio::sync::watch;

use crate::access::authorization::ProxyRoutes;
use crate::api::ControlParts;
use crate::blob_store::StoreError;
use crate::blobs::Blobs;
use crate::config::Config;
use crate::control::ControlError;
use crate::disk::{self, DiskState, Usage};
use crate::metrics::start_gauges;
use crate::registry::Registry;
use crate::reports::Reports;
use crate::tier::PeerUrlError;

pub(crate) use grpc::Caller;

use assembly::{Base, Disk, Domain};
use servers::Listeners;
use tls::NodeTls;

/// Why a node does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A port is taken or not ours to open.
    #[error("listen on {address} ({purpose})")]
    Listen {
        /// The address.
        address: std::net::SocketAddr,
        /// What for.
        purpose: &'static str,
        /// Why not.
        source: std::io::Error,
    },
    /// The certificates.
    #[error("certificates of this node")]
    Tls(#[source] daemon::tls::TlsError),
    /// A peer's URL.
    #[error("configuration key peers")]
    Peer(#[from] PeerUrlError),
    /// The connections to peers.
    #[error("configuration key peers")]
    Control(#[from] ControlError),
    /// The settings of source registries.
    #[error("configuration key upstream")]
    Upstream(#[source] upstream::ConfigError),
    /// The data directory.
    #[error("data directory")]
    DataDir(#[source] raft::DataDirError),
    /// The log or the state on disk.
    #[error("open the replicated state")]
    Open(#[source] raft::OpenError),
    /// The cluster.
    #[error("become a member of the cluster")]
    Formation(#[source] raft::FormationError),
    /// The blobs on disk.
    #[error("open the blob store")]
    Blobs(#[source] StoreError),
    /// The replicated state, once it is open.
    #[error("read the replicated state")]
    State(#[source] meta::ReadError),
    /// Another file of the data directory.
    #[error("open {what} in the data directory")]
    File {
        /// Which.
        what: &'static str,
        /// Why not.
        source: std::io::Error,
    },
}

/// What others may ask of a node once it is a member.
#[derive(Clone, Default)]
struct Member {
    blobs: Arc<OnceLock<Arc<Blobs>>>,
    reports: Arc<OnceLock<Arc<Reports>>>,
    control: Arc<OnceLock<Arc<ControlParts>>>,
}

/// Starts a node on its data and ports. Returns once the ports are open; becoming a member of the cluster goes on in
/// the background and opens the gate of `readiness`.
///
/// # Errors
/// [`StartError`], naming what is wrong.
pub async fn start(
    config: Config,
    metrics: Metrics,
    shutdown: &Shutdown,
    readiness: &Readiness,
) -> Result<(), StartError> {
    let gate = readiness.gate("cluster");
    gate.close("not a member of a cluster yet");
    let tls = config
        .tls
        .clone()
        .map(NodeTls::load)
        .transpose()
        .map_err(StartError::Tls)?;
    if let Some(tls) = &tls {
        tls.start_reload(shutdown.tasks(Phase::Work));
    }
    let listeners = Listeners::bind(&config.listen).await?;
    let member = Member::default();
    metrics.start_upkeep(shutdown.tasks(Phase::Flush));
    servers::start_admin(
        listeners.admin,
        readiness,
        metrics,
        &member,
        shutdown.tasks(Phase::Flush),
    );

    let usage = Usage::new(config.quota_bytes);
    disk::make_room_to_start(&config.data_dir, &usage);
    let directory = DataDir::open(&config.data_dir).map_err(StartError::DataDir)?;
    let log_disk = LogDisk::default();
    let disk = disk::start(
        config.data_dir.clone(),
        usage.clone(),
        log_disk.clone(),
        readiness.gate("disk"),
        shutdown.tasks(Phase::Work),
    );
    let dependencies = Dependencies {
        connect: Arc::new(tls::PeerConnect::new(tls.clone())),
        clock: Arc::new(System),
        entropy: Arc::new(System),
        on_fatal: Arc::new(Abort),
        disk: log_disk,
        tasks: shutdown.tasks(Phase::Flush).clone(),
    };
    let opened =
        raft::open_on_disk(servers::raft_config(&config), dependencies, directory).map_err(StartError::Open)?;
    servers::start_grpc(
        listeners.grpc,
        opened.service,
        &member,
        tls.as_ref(),
        &config.access,
        shutdown.tasks(Phase::Flush),
    );

    let parts = Starting {
        config,
        tls,
        member,
        gate,
        disk,
        usage,
        shutdown: shutdown.clone(),
    };
    let formation = opened.formation;
    let begun = shutdown.begun_token();
    let stopping = shutdown.clone();
    shutdown.tasks(Phase::Work).spawn("start", async move {
        let started = async {
            let ledger = formation.run().await.map_err(StartError::Formation)?;
            Box::pin(parts.join(ledger, listeners.registry, listeners.client)).await
        };
        if let Some(Err(error)) = begun.run_until_cancelled(started).await {
            let reason = one_line(&error);
            tracing::error!(error = reason, "the node does not start");
            stopping.begin(Cause::Failed(reason));
        }
    });
    Ok(())
}

/// A node that is about to become a member.
struct Starting {
    config: Config,
    tls: Option<NodeTls>,
    member: Member,
    gate: Gate,
    disk: watch::Receiver<DiskState>,
    usage: Usage,
    shutdown: Shutdown,
}

impl Starting {
    async fn join(
        self,
        ledger: MetaHandle,
        registry_listener: tokio::net::TcpListener,
        client_listener: Option<tokio::net::TcpListener>,
    ) -> Result<(), StartError> {
        self.stop_consensus_last(&ledger);
        let tasks = self.shutdown.tasks(Phase::Work).clone();
        let base = Base::start(&self.config, self.tls.as_ref(), ledger, tasks)?;
        let disk = Disk::open(&self.config, &base, self.disk.clone(), self.usage.clone()).await?;
        let Domain {
            blobs,
            control,
            routes,
            registry,
            reports,
        } = Domain::start(&self.config, &base, disk);
        start_gauges(Arc::clone(&reports), self.shutdown.tasks(Phase::Work));
        self.serve(registry, routes, registry_listener, client_listener);
        // Each is set here and nowhere else.
        self.member.blobs.set(blobs).ok();
        self.member.reports.set(reports).ok();
        self.member.control.set(control).ok();
        base.settle().await;
        self.gate.open();
        tracing::info!(node = self.config.node_name, "serving");
        Ok(())
    }

    fn serve(
        &self,
        registry: Arc<Registry>,
        routes: Arc<ProxyRoutes>,
        registry_listener: tokio::net::TcpListener,
        client_listener: Option<tokio::net::TcpListener>,
    ) {
        let tasks = self.shutdown.tasks(Phase::Serve);
        let mut server = Server::new(Arc::clone(&registry))
            .limits(Limits::default())
            .routes(routes);
        if let Some(tls) = &self.tls {
            server = server.tls(tls.registry_server());
        }
        servers::start_registry("registry", server, registry_listener, tasks);
        if let Some(listener) = client_listener {
            servers::start_registry("client registry", Server::new(registry), listener, tasks);
        }
    }

    /// Hands leadership over as soon as the node begins to stop, and closes the log when everything else has stopped.
    fn stop_consensus_last(&self, ledger: &MetaHandle) {
        let (handed, begun) = (ledger.clone(), self.shutdown.begun_token());
        self.shutdown
            .tasks(Phase::Serve)
            .spawn("leadership hand-over", async move {
                begun.cancelled().await;
                handed.hand_over().await;
            });
        let (closed, stop) = (ledger.clone(), self.shutdown.tasks(Phase::Flush).stop_token());
        self.shutdown.tasks(Phase::Flush).spawn("consensus end", async move {
            stop.cancelled().await;
            closed.shutdown().await;
        });
    }
}
