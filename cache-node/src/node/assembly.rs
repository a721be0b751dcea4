//! The parts of a member, from what they stand on upwards. Each is started here and handed to those above it.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use daemon::task::TaskSet;
use meta::view;
use oci::SourceHost;
use raft::MetaHandle;
use tokio::sync::watch;
use upstream::{NodeClient, RegistryClient};

use super::StartError;
use super::tls::{self, NodeTls};
use crate::access;
use crate::access::admission::{AdmissionParts, Admissions};
use crate::access::authorization::ProxyRoutes;
use crate::access::gate::Gate;
use crate::access::granting::Granting;
use crate::access::keys::KeyRing;
use crate::access::liveness::Liveness;
use crate::access::register::Register;
use crate::access::vault::Vault;
use crate::api::ControlParts;
use crate::blob_store::BlobStore;
use crate::blob_store::local::{LocalBlobStore, LocalOptions};
use crate::blobs::{BlobParts, Blobs};
use crate::completion::{Completion, CompletionParts};
use crate::config::Config;
use crate::control::Control;
use crate::copies::{self, CopyParts, Inventory};
use crate::desired::board::Board;
use crate::desired::filler::{Filler, FillerParts};
use crate::desired::observer::{self, ObserverParts};
use crate::disk::{DiskState, STORE_DIRECTORY, Usage};
use crate::feature_level;
use crate::fill::{FillLimits, Fills, GenerationSource};
use crate::filled::StoredBlobs;
use crate::generations::Generations;
use crate::layout;
use crate::listings::Listings;
use crate::manifests::{ManifestParts, Manifests};
use crate::peers::Peers;
use crate::provenance::Provenance;
use crate::recorder::Recorder;
use crate::registry::{Registry, RegistryParts};
use crate::reports::{ReportParts, Reports};
use crate::sources::Sources;
use crate::tags::{TagParts, Tags};
use crate::tier::{Tier, start_pings};

/// Blobs listed at once while the disk is read.
const PAGE: usize = 10_000;

/// What the domain stands on: the state, the other nodes, the sources.
pub(super) struct Base {
    keys: Arc<KeyRing>,
    ledger: MetaHandle,
    tier: Arc<Tier>,
    peers: Peers,
    control: Control,
    sources: Arc<Sources>,
    recorder: Recorder,
    tasks: TaskSet,
}

/// What a node keeps on its disk beside consensus.
pub(super) struct Disk {
    state: watch::Receiver<DiskState>,
    store: Arc<dyn BlobStore>,
    provenance: Arc<Provenance>,
    generations: Arc<dyn GenerationSource>,
    fills: Fills,
}

/// What is asked from outside.
pub(super) struct Domain {
    pub(super) control: Arc<ControlParts>,
    pub(super) routes: Arc<ProxyRoutes>,
    pub(super) blobs: Arc<Blobs>,
    pub(super) registry: Arc<Registry>,
    pub(super) reports: Arc<Reports>,
}

impl Base {
    pub(super) fn start(
        config: &Config,
        tls: Option<&NodeTls>,
        ledger: MetaHandle,
        tasks: TaskSet,
    ) -> Result<Self, StartError> {
        let tier = Tier::new(config.ordinal, config.copies, &config.peers)?;
        let tier = Arc::new(match ledger.boot_count() {
            0 | 1 => tier,
            _ => tier.after_absence(),
        });
        let nodes = NodeClient::new(tls::node_transport(tls));
        start_pings(&tier, &nodes, &tasks);
        layout::start(ledger.clone(), config.peers.clone(), &tasks);
        let control = Control::new(&tier, |endpoint| match tls {
            Some(tls) => tls.channel(endpoint),
            None => endpoint.connect_lazy(),
        })?;
        feature_level::start(ledger.clone(), &tasks);
        let keys = Arc::new(KeyRing::new(config.access.keys_dir.clone()));
        access::start_rewrap(ledger.clone(), Arc::clone(&keys), &tasks);
        let recorder = Recorder::start(ledger.clone(), &tasks);
        let vault = Vault::new(ledger.clone(), Arc::clone(&keys), recorder.clone());
        let client = RegistryClient::new(config.upstream.clone()).map_err(StartError::Upstream)?;
        let client = client.with_granted(Arc::new(vault));
        let sources = Arc::new(Sources::new(client, &tasks));
        let peers = Peers::new(nodes, Arc::clone(&tier));
        Ok(Self {
            keys,
            ledger,
            tier,
            peers,
            control,
            sources,
            recorder,
            tasks,
        })
    }
}

impl Base {
    /// Waits until this node knows which others live.
    pub(super) async fn settle(&self) {
        self.tier.settle().await;
    }
}

impl Disk {
    pub(super) async fn open(
        config: &Config,
        base: &Base,
        state: watch::Receiver<DiskState>,
        usage: Usage,
    ) -> Result<Self, StartError> {
        let options = LocalOptions {
            quota_bytes: usage.quota_bytes(),
            usage,
            ..LocalOptions::default()
        };
        let opened = LocalBlobStore::open(&config.data_dir.join(STORE_DIRECTORY), options).await;
        let store: Arc<dyn BlobStore> = Arc::new(opened.map_err(StartError::Blobs)?);
        let provenance = open_provenance(&config.data_dir, store.as_ref()).await?;
        let cluster = view::cluster(&base.ledger.local()).map_err(StartError::State)?;
        let epoch = cluster.map_or(1, |cluster| cluster.epoch);
        let (node, boot_count) = (base.ledger.member().node, base.ledger.boot_count());
        let generations: Arc<dyn GenerationSource> = Arc::new(Generations::new(epoch, node, boot_count));
        let sink = Arc::new(StoredBlobs::new(base.recorder.clone(), Arc::clone(&provenance)));
        let limits = FillLimits {
            fills_max: config.fill.in_flight_max,
            no_progress: config.fill.no_progress,
            ..FillLimits::default()
        };
        let fills = Fills::new(
            Arc::clone(&store),
            Arc::clone(&generations),
            sink,
            base.tasks.clone(),
            limits,
        );
        Ok(Self {
            state,
            store,
            provenance,
            generations,
            fills,
        })
    }
}

async fn open_provenance(dir: &Path, store: &dyn BlobStore) -> Result<Arc<Provenance>, StartError> {
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

impl Domain {
    pub(super) fn start(config: &Config, base: &Base, disk: Disk) -> Self {
        let Disk {
            state: disk,
            store,
            provenance,
            generations,
            fills,
        } = disk;
        let blobs = Arc::new(Blobs::new(BlobParts {
            store: Arc::clone(&store),
            fills,
            generations,
            peers: base.peers.clone(),
            sources: Arc::clone(&base.sources),
            ledger: base.ledger.clone(),
            recorder: base.recorder.clone(),
            control: base.control.clone(),
            tasks: base.tasks.clone(),
        }));
        let inventory = start_copies(base, &blobs, &store, &provenance);
        let reports = Arc::new(Reports::new(ReportParts {
            ledger: base.ledger.clone(),
            tier: Arc::clone(&base.tier),
            blobs: Arc::clone(&blobs),
            store,
            provenance,
            sources: Arc::clone(&base.sources),
            inventory,
            disk,
        }));
        let gate = Gate::new(base.ledger.clone(), config.access.enforce);
        let completion = start_completion(base, &blobs);
        let manifests = manifests(base, &blobs, &completion);
        let tags = Arc::new(tags(config, base, &manifests, &completion));
        let board = start_desired(base, &blobs, &manifests, &tags, completion);
        let control = control_parts(config, base, board, Arc::clone(&tags));
        let routes = ProxyRoutes::new(base.ledger.clone(), gate.clone(), &base.sources, known_hosts(config));
        let registry = Arc::new(Registry::new(RegistryParts {
            ledger: base.ledger.clone(),
            configured_hosts: known_hosts(config),
            trusts_plain: config.tls.is_none(),
            gate,
            manifests,
            tags,
            blobs: Arc::clone(&blobs),
            listings: Listings::new(base.ledger.clone(), Arc::clone(&base.sources)),
        }));
        Self {
            control,
            routes: Arc::new(routes),
            blobs,
            registry,
            reports,
        }
    }
}

fn control_parts(config: &Config, base: &Base, board: Arc<Board>, tags: Arc<Tags>) -> Arc<ControlParts> {
    let liveness = Liveness::new(Arc::clone(&base.tier), base.control.clone(), base.tasks.clone());
    let admissions = AdmissionParts {
        ledger: base.ledger.clone(),
        sources: Arc::clone(&base.sources),
        recorder: base.recorder.clone(),
        keys: Arc::clone(&base.keys),
        liveness: config.access.enforce.then(|| Arc::clone(&liveness)),
        configured_hosts: known_hosts(config),
    };
    Arc::new(ControlParts {
        ledger: base.ledger.clone(),
        board,
        tags,
        admissions: Admissions::new(admissions, &base.tasks),
        granting: Granting::new(base.ledger.clone(), Arc::clone(&base.keys), &base.sources),
        register: Register::new(base.ledger.clone(), Arc::clone(&base.keys)),
        liveness,
    })
}

fn start_copies(
    base: &Base,
    blobs: &Arc<Blobs>,
    store: &Arc<dyn BlobStore>,
    provenance: &Arc<Provenance>,
) -> watch::Receiver<Inventory> {
    let parts = CopyParts {
        ledger: base.ledger.clone(),
        tier: Arc::clone(&base.tier),
        blobs: Arc::clone(blobs),
        store: Arc::clone(store),
        provenance: Arc::clone(provenance),
        recorder: base.recorder.clone(),
    };
    copies::start(parts, &base.tasks)
}

fn start_completion(base: &Base, blobs: &Arc<Blobs>) -> Completion {
    let (completion, queue) = Completion::new();
    let parts = CompletionParts {
        ledger: base.ledger.clone(),
        tier: Arc::clone(&base.tier),
        blobs: Arc::clone(blobs),
        control: base.control.clone(),
    };
    queue.start(parts, &base.tasks);
    completion
}

fn manifests(base: &Base, blobs: &Arc<Blobs>, completion: &Completion) -> Arc<Manifests> {
    Arc::new(Manifests::new(ManifestParts {
        ledger: base.ledger.clone(),
        peers: base.peers.clone(),
        sources: Arc::clone(&base.sources),
        blobs: Arc::clone(blobs),
        recorder: base.recorder.clone(),
        completion: completion.clone(),
    }))
}

fn tags(config: &Config, base: &Base, manifests: &Arc<Manifests>, completion: &Completion) -> Tags {
    Tags::new(TagParts {
        ledger: base.ledger.clone(),
        peers: base.peers.clone(),
        sources: Arc::clone(&base.sources),
        manifests: Arc::clone(manifests),
        policies: config.freshness.clone(),
        recorder: base.recorder.clone(),
        completion: completion.clone(),
        tasks: base.tasks.clone(),
    })
}

/// Starts seeing to desired images; what becomes of them is on the board.
fn start_desired(
    base: &Base,
    blobs: &Arc<Blobs>,
    manifests: &Arc<Manifests>,
    tags: &Arc<Tags>,
    completion: Completion,
) -> Arc<Board> {
    let board = Arc::new(Board::new(base.ledger.member().node.get(), base.ledger.boot_count()));
    let filler = Filler::new(FillerParts {
        tags: Arc::clone(tags),
        manifests: Arc::clone(manifests),
        completion,
        blobs: Arc::clone(blobs),
        sources: Arc::clone(&base.sources),
        recorder: base.recorder.clone(),
        tasks: base.tasks.clone(),
    });
    let parts = ObserverParts {
        ledger: base.ledger.clone(),
        tier: Arc::clone(&base.tier),
        blobs: Arc::clone(blobs),
        control: base.control.clone(),
        recorder: base.recorder.clone(),
        filler,
        board: Arc::clone(&board),
    };
    observer::start(parts, &base.tasks);
    board
}

/// The hosts whose port a request path may carry as `host-port`.
fn known_hosts(config: &Config) -> BTreeSet<SourceHost> {
    config
        .upstream
        .hosts
        .keys()
        .filter(|host| host.port().is_some())
        .cloned()
        .collect()
}
