//! Nodes in one process, over loopback gRPC.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use daemon::task::TaskSet;
use meta::{Addresses, Command, NodeId, Outcome, SetLayout};
use raft::{
    Config, Dependencies, Driver, FormationError, LogDisk, MemoryIdentity, MemoryLog, MemoryStore, MetaHandle,
    Observed, Opened, Peer, PlainConnect, RaftStatus, Retention, Storage, System,
};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::CancellationToken;

/// Long enough for several elections on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(40);

/// What survives a node.
#[derive(Clone)]
pub(crate) enum Disk {
    Memory {
        identity: MemoryIdentity,
        log: MemoryLog,
        state: MemoryStore,
    },
    #[cfg(feature = "rocksdb")]
    Directory(Arc<tempfile::TempDir>),
}

impl Disk {
    pub(crate) fn memory() -> Self {
        Disk::Memory {
            identity: MemoryIdentity::default(),
            log: MemoryLog::new(),
            state: MemoryStore::new(),
        }
    }

    #[cfg(feature = "rocksdb")]
    pub(crate) fn directory() -> Self {
        Disk::Directory(Arc::new(tempfile::tempdir().unwrap()))
    }
}

/// A place for a node: its address, its disk, and what runs there.
pub(crate) struct Place {
    pub(crate) config: Config,
    pub(crate) disk: Disk,
    pub(crate) fatal: Observed,
    pub(crate) health: LogDisk,
    pub(crate) running: Option<Running>,
}

pub(crate) struct Running {
    pub(crate) handle: MetaHandle,
    tasks: TaskSet,
    server: JoinHandle<()>,
}

async fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

/// Places for `n` nodes that know each other.
pub(crate) async fn places(n: u32, disk: impl Fn() -> Disk) -> Vec<Place> {
    // RUST_LOG says what a failing test is about.
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_test_writer()
        .try_init()
        .ok();
    let mut peers = Vec::new();
    for ordinal in 0..n {
        peers.push(Peer {
            ordinal,
            address: free_address().await.to_string(),
        });
    }
    let place = |peer: &Peer| {
        let addresses = Addresses {
            grpc: peer.address.clone(),
            ..Addresses::default()
        };
        let mut config = Config::new(peer.ordinal, peers.clone(), addresses);
        config.allow_genesis = true;
        config.limits.write_deadline = PATIENCE;
        config.limits.read_deadline = PATIENCE;
        Place {
            config,
            disk: disk(),
            fatal: Observed::default(),
            health: LogDisk::default(),
            running: None,
        }
    };
    peers.iter().map(place).collect()
}

impl Place {
    fn open(&self, tasks: &TaskSet) -> Opened {
        let dependencies = Dependencies {
            connect: Arc::new(PlainConnect),
            clock: Arc::new(System),
            entropy: Arc::new(System),
            on_fatal: Arc::new(self.fatal.clone()),
            disk: self.health.clone(),
            tasks: tasks.clone(),
        };
        match &self.disk {
            Disk::Memory { identity, log, state } => {
                let storage = Storage {
                    identity: Arc::new(identity.clone()),
                    log: log.clone(),
                    driver: Driver::Thread,
                    state: state.clone(),
                };
                raft::open::<raft::runtime::Tokio, _, _>(self.config.clone(), dependencies, storage).unwrap()
            }
            #[cfg(feature = "rocksdb")]
            Disk::Directory(directory) => {
                let directory = raft::DataDir::open(directory.path()).unwrap();
                raft::open_on_disk(self.config.clone(), dependencies, directory).unwrap()
            }
        }
    }

    /// Starts the node and waits until it is a member.
    pub(crate) async fn start(&mut self) -> Result<(), FormationError> {
        let tasks = TaskSet::new(CancellationToken::new(), |ended| panic!("{ended}"));
        let Opened { service, formation } = self.open(&tasks);
        let listener = TcpListener::bind(&self.config.addresses.grpc).await.unwrap();
        let server = tonic::transport::Server::builder()
            .add_service(service.into_server())
            .serve_with_incoming_shutdown(TcpListenerStream::new(listener), tasks.stop_token().cancelled_owned());
        let server = tokio::spawn(async move { server.await.unwrap() });
        match formation.run().await {
            Ok(handle) => {
                self.running = Some(Running { handle, tasks, server });
                Ok(())
            }
            Err(error) => {
                server.abort();
                Err(error)
            }
        }
    }

    pub(crate) fn handle(&self) -> &MetaHandle {
        &self.running.as_ref().expect("the node runs").handle
    }

    /// Ends the node without giving anything over, and waits until its disk is closed.
    pub(crate) async fn kill(&mut self) {
        let Some(Running { handle, tasks, server }) = self.running.take() else {
            return;
        };
        handle.shutdown().await;
        drop(handle);
        tasks.stop(PATIENCE).await.unwrap();
        // Connections end with it; aborted, it would leave them open.
        server.await.unwrap();
    }

    pub(crate) async fn wait_until(&self, what: &str, condition: impl Fn(&RaftStatus) -> bool) {
        let mut status = self.handle().status();
        let waited = tokio::time::timeout(PATIENCE, status.wait_for(|status| condition(status))).await;
        assert!(waited.is_ok(), "not within {PATIENCE:?}: {what}: {:?}", self.handle());
    }
}

/// Starts all nodes at once and waits until they have formed.
pub(crate) async fn start_all(places: &mut [Place]) {
    let started = futures::future::join_all(places.iter_mut().map(Place::start)).await;
    started.into_iter().for_each(|result| result.unwrap());
    let expected = places[0].config.voters_expected();
    for place in places.iter() {
        place
            .wait_until("formed", |status| {
                status.voters.len() == expected && status.leader.is_some()
            })
            .await;
    }
}

/// Index of the place whose node leads.
pub(crate) async fn leader(places: &[Place]) -> usize {
    let waited = tokio::time::timeout(PATIENCE, async {
        loop {
            for (at, place) in places.iter().enumerate() {
                let running = place.running.as_ref().map(|running| running.handle.status());
                if running.is_some_and(|status| status.borrow().is_leader() && status.borrow().has_quorum) {
                    return at;
                }
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    waited.await.expect("there is a leader in time")
}

/// A write that can be told from others: the layout's version grows by one.
pub(crate) async fn write_layout(handle: &MetaHandle) -> u64 {
    let view = handle.local();
    let mut expected_version = meta::view::layout(&view).unwrap().version;
    loop {
        let slots = [(u32::try_from(expected_version % 1000).unwrap(), NodeId::FIRST)].into();
        let command = Command::SetLayout(SetLayout {
            expected_version,
            slots,
        });
        match handle.write(command).await.unwrap() {
            Outcome::LayoutSet { version } => return version,
            // This node's view was behind.
            Outcome::Rejected(meta::Rejected::LayoutChanged { version }) => expected_version = version,
            other => panic!("{other:?}"),
        }
    }
}

pub(crate) fn layout_version(handle: &MetaHandle) -> u64 {
    meta::view::layout(&handle.local()).unwrap().version
}

/// Waits until all running nodes have applied as much, and compares their state.
pub(crate) async fn assert_same_state(places: &[Place]) {
    let waited = tokio::time::timeout(PATIENCE, async {
        loop {
            let running = places.iter().filter_map(|place| place.running.as_ref());
            let states: BTreeSet<_> = running
                .map(|node| node.handle.state_hash())
                .map(|(i, h)| (i, h.to_bytes()))
                .collect();
            if states.len() == 1 {
                return;
            }
            let indexes: BTreeSet<u64> = states.iter().map(|(index, _)| *index).collect();
            assert_eq!(indexes.len(), states.len(), "different states at one index: {states:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    waited.await.expect("nodes catch up in time");
}

/// A log that is cut short often.
pub(crate) fn short_log() -> Retention {
    Retention {
        snapshot_entries: 20,
        kept_entries: 5,
        lag_entries_max: 25,
        purge_batch_entries: 1,
    }
}
