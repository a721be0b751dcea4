//! Puts a cache node together, part by part, and takes it apart again in order.
//!
//! The ports open before the node is a member of a cluster: peers have to ask it whether it is empty, and people whether
//! it lives. What needs the cluster answers "not yet" until then.

mod servers;
mod tls;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use daemon::readiness::{Gate, Readiness};
use daemon::runtime::one_line;
use daemon::shutdown::{Cause, Phase, Shutdown};
use daemon::task::TaskSet;
use daemon::telemetry::Metrics;
use distribution::{Limits, Server};
use meta::view;
use oci::SourceHost;
use raft::{Abort, DataDir, Dependencies, MetaHandle, System};
use upstream::{NodeClient, RegistryClient};

use crate::blob_store::local::{LocalBlobStore, LocalOptions};
use crate::blob_store::{BlobStore, StoreError};
use crate::blobs::{BlobParts, Blobs};
use crate::completion::{Completion, CompletionParts};
use crate::config::Config;
use crate::control::{Control, ControlError};
use crate::copies::{self, CopyParts};
use crate::fill::{FillLimits, Fills, GenerationSource};
use crate::filled::StoredBlobs;
use crate::generations::Generations;
use crate::layout;
use crate::listings::Listings;
use crate::manifests::{ManifestParts, Manifests};
use crate::metrics::start_gauges;
use crate::peers::Peers;
use crate::provenance::Provenance;
use crate::recorder::Recorder;
use crate::registry::Registry;
use crate::reports::{ReportParts, Reports};
use crate::sources::Sources;
use crate::tags::{TagParts, Tags};
use crate::tier::{PeerUrlError, Tier, start_pings};

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

    let directory = DataDir::open(&config.data_dir).map_err(StartError::DataDir)?;
    let dependencies = Dependencies {
        connect: Arc::new(tls::PeerConnect::new(tls.clone())),
        clock: Arc::new(System),
        entropy: Arc::new(System),
        on_fatal: Arc::new(Abort),
        tasks: shutdown.tasks(Phase::Flush).clone(),
    };
    let opened =
        raft::open_on_disk(servers::raft_config(&config), dependencies, directory).map_err(StartError::Open)?;
    servers::start_grpc(
        listeners.grpc,
        opened.service,
        &member,
        tls.as_ref(),
        shutdown.tasks(Phase::Flush),
    );

    let parts = Starting {
        config,
        tls,
        member,
        gate,
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
    shutdown: Shutdown,
}

impl Starting {
    async fn join(
        self,
        ledger: MetaHandle,
        registry_listener: tokio::net::TcpListener,
        client_listener: Option<tokio::net::TcpListener>,
    ) -> Result<(), StartError> {
        let work = self.shutdown.tasks(Phase::Work).clone();
        self.stop_consensus_last(&ledger);
        let tier = Arc::new(Tier::new(self.config.ordinal, self.config.copies, &self.config.peers)?);
        let nodes = NodeClient::new(tls::node_transport(self.tls.as_ref()));
        start_pings(&tier, &nodes, &work);
        layout::start(ledger.clone(), self.config.peers.clone(), &work);
        let control = Control::new(&tier, self.tls.as_ref().map(NodeTls::tonic_client).as_ref())?;
        let client = RegistryClient::new(self.config.upstream.clone()).map_err(StartError::Upstream)?;
        let sources = Arc::new(Sources::new(client, &work));
        let peers = Peers::new(nodes, Arc::clone(&tier));
        let recorder = Recorder::start(ledger.clone(), &work);

        let disk = self.open_disk(&ledger, &recorder, &work).await?;
        let blobs = Arc::new(Blobs::new(BlobParts {
            store: Arc::clone(&disk.store),
            fills: disk.fills,
            generations: disk.generations,
            peers: peers.clone(),
            sources: Arc::clone(&sources),
            ledger: ledger.clone(),
            recorder: recorder.clone(),
            control: control.clone(),
            tasks: work.clone(),
        }));
        let (completion, queue) = Completion::new();
        queue.start(
            CompletionParts {
                ledger: ledger.clone(),
                tier: Arc::clone(&tier),
                blobs: Arc::clone(&blobs),
                control,
            },
            &work,
        );
        let inventory = copies::start(
            CopyParts {
                ledger: ledger.clone(),
                tier: Arc::clone(&tier),
                blobs: Arc::clone(&blobs),
                store: Arc::clone(&disk.store),
                provenance: Arc::clone(&disk.provenance),
                recorder: recorder.clone(),
            },
            &work,
        );
        let manifests = Arc::new(Manifests::new(ManifestParts {
            ledger: ledger.clone(),
            peers: peers.clone(),
            sources: Arc::clone(&sources),
            blobs: Arc::clone(&blobs),
            recorder: recorder.clone(),
            completion: completion.clone(),
        }));
        let tags = Tags::new(TagParts {
            ledger: ledger.clone(),
            peers,
            sources: Arc::clone(&sources),
            manifests: Arc::clone(&manifests),
            policies: self.config.freshness.clone(),
            recorder,
            completion,
            tasks: work,
        });
        let reports = Arc::new(Reports::new(ReportParts {
            ledger: ledger.clone(),
            tier,
            blobs: Arc::clone(&blobs),
            store: disk.store,
            provenance: disk.provenance,
            sources: Arc::clone(&sources),
            inventory,
        }));
        start_gauges(Arc::clone(&reports), self.shutdown.tasks(Phase::Work));
        let listings = Listings::new(ledger, Arc::clone(&sources));
        let registry = Arc::new(Registry::new(
            self.known_hosts(),
            manifests,
            tags,
            Arc::clone(&blobs),
            listings,
        ));
        self.serve(registry, registry_listener, client_listener);
        // Each is set here and nowhere else.
        self.member.blobs.set(blobs).ok();
        self.member.reports.set(reports).ok();
        self.gate.open();
        tracing::info!(node = self.config.node_name, "serving");
        Ok(())
    }

    async fn open_disk(&self, ledger: &MetaHandle, recorder: &Recorder, work: &TaskSet) -> Result<Disk, StartError> {
        let root = self.config.data_dir.join("store");
        let store = LocalBlobStore::open(&root, LocalOptions::default())
            .await
            .map_err(StartError::Blobs)?;
        let store: Arc<dyn BlobStore> = Arc::new(store);
        let provenance = open_provenance(&self.config.data_dir, store.as_ref()).await?;
        let epoch = view::cluster(&ledger.local())
            .ok()
            .flatten()
            .map_or(1, |cluster| cluster.epoch);
        let generations: Arc<dyn GenerationSource> =
            Arc::new(Generations::new(epoch, ledger.member().node, ledger.boot_count()));
        let sink = Arc::new(StoredBlobs::new(recorder.clone(), Arc::clone(&provenance)));
        let limits = FillLimits {
            fills_max: self.config.fill.in_flight_max,
            no_progress: self.config.fill.no_progress,
            ..FillLimits::default()
        };
        let fills = Fills::new(Arc::clone(&store), Arc::clone(&generations), sink, work.clone(), limits);
        Ok(Disk {
            store,
            provenance,
            generations,
            fills,
        })
    }

    fn serve(
        &self,
        registry: Arc<Registry>,
        registry_listener: tokio::net::TcpListener,
        client_listener: Option<tokio::net::TcpListener>,
    ) {
        let tasks = self.shutdown.tasks(Phase::Serve);
        let mut server = Server::new(Arc::clone(&registry)).limits(Limits::default());
        if let Some(tls) = &self.tls {
            server = server.tls(tls.registry_server());
        }
        servers::start_registry("registry", server, registry_listener, tasks);
        if let Some(listener) = client_listener {
            servers::start_registry("client registry", Server::new(registry), listener, tasks);
        }
    }

    fn known_hosts(&self) -> BTreeSet<SourceHost> {
        self.config
            .upstream
            .hosts
            .keys()
            .filter(|host| host.port().is_some())
            .cloned()
            .collect()
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

/// What a node keeps on its disk beside consensus.
struct Disk {
    store: Arc<dyn BlobStore>,
    provenance: Arc<Provenance>,
    generations: Arc<dyn GenerationSource>,
    fills: Fills,
}

async fn open_provenance(dir: &Path, store: &dyn BlobStore) -> Result<Arc<Provenance>, StartError> {
    const PAGE: usize = 10_000;
    let mut held = BTreeSet::new();
    let mut after = None;
    loop {
        let page = store.list(after.as_ref(), PAGE).await.map_err(StartError::Blobs)?;
        let is_last = page.len() < PAGE;
        after = page.last().map(|stat| stat.key.clone());
        held.extend(page.into_iter().map(|stat| stat.key.digest));
        if is_last {
            break;
        }
    }
    let opened = Provenance::open(dir, |digest| held.contains(digest));
    opened.map(Arc::new).map_err(|source| StartError::File {
        what: "provenance",
        source,
    })
}
