//! One simulated node: what runs on a host, and what survives it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use daemon::task::TaskSet;
use meta::Addresses;
use raft::{
    Clock, Config, Dependencies, Driver, Entropy, LogDisk, MemoryIdentity, MemoryStore, MetaHandle, Observed, Opened,
    Peer, Retention, Storage,
};
use tokio_util::sync::CancellationToken;

use crate::disk::SimulatedLog;
use crate::network::{PORT, SimulatedConnect, incoming};
use crate::oracle::Oracle;
use crate::workload::Workload;

/// Time of day when a simulation begins, in milliseconds since the Unix epoch.
const EPOCH_MS: u64 = 1_700_000_000_000;
/// Slowest sync of a healthy simulated disk.
const SYNC_MAX_MS: u64 = 15;

/// A host for a node. Clones share everything.
#[derive(Clone)]
pub(crate) struct Place {
    pub(crate) name: String,
    config: Config,
    identity: MemoryIdentity,
    pub(crate) log: SimulatedLog,
    pub(crate) state: MemoryStore,
    pub(crate) fatal: Observed,
    running: Arc<Mutex<Option<MetaHandle>>>,
    random: SharedRandom,
    clock_skew_ms: u64,
}

/// A seeded generator several tasks of one simulation draw from.
#[derive(Clone)]
pub(crate) struct SharedRandom(Arc<Mutex<fastrand::Rng>>);

impl SharedRandom {
    pub(crate) fn new(seed: u64) -> Self {
        SharedRandom(Arc::new(Mutex::new(fastrand::Rng::with_seed(seed))))
    }

    pub(crate) fn below(&self, end: u64) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).u64(0..end)
    }
}

impl Entropy for SharedRandom {
    fn draw(&self) -> u128 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).u128(..)
    }
}

struct SimulatedClock {
    skew_ms: u64,
}

impl Clock for SimulatedClock {
    fn now_ms(&self) -> u64 {
        let elapsed = turmoil::sim_elapsed().unwrap_or_default();
        EPOCH_MS + self.skew_ms + u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)
    }
}

pub(crate) fn name(ordinal: u32) -> String {
    format!("node-{ordinal}")
}

impl Place {
    pub(crate) fn new(ordinal: u32, nodes: u32, log: SimulatedLog, random: SharedRandom) -> Self {
        let address = |ordinal| format!("{}:{PORT}", name(ordinal));
        let peers = (0..nodes)
            .map(|ordinal| Peer {
                ordinal,
                address: address(ordinal),
            })
            .collect();
        let addresses = Addresses {
            grpc: address(ordinal),
            ..Addresses::default()
        };
        let mut config = Config::new(ordinal, peers, addresses);
        config.allow_genesis = true;
        if random.below(2) == 0 {
            // Half of all nodes cut their logs short, so that snapshots are taken and sent.
            config.retention = Retention {
                snapshot_entries: 40,
                kept_entries: 10,
                lag_entries_max: 50,
                purge_batch_entries: 1,
            };
        }
        Place {
            name: name(ordinal),
            config,
            identity: MemoryIdentity::default(),
            log,
            state: MemoryStore::new(),
            fatal: Observed::default(),
            running: Arc::default(),
            clock_skew_ms: random.below(60_000),
            random,
        }
    }

    /// The member that runs here now.
    pub(crate) fn handle(&self) -> Option<MetaHandle> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_handle(&self, handle: Option<MetaHandle>) {
        *self.running.lock().unwrap_or_else(PoisonError::into_inner) = handle;
    }

    /// Loses power; the host itself is stopped by who calls this.
    pub(crate) fn lose_power(&self) {
        self.set_handle(None);
        let unsynced = self.log.memory.unsynced_writes() as u64;
        self.log
            .memory
            .crash(usize::try_from(self.random.below(unsynced + 1)).unwrap_or(0));
        self.state.crash();
    }

    /// Everything that runs on the host, until it crashes.
    pub(crate) async fn run(self, oracle: Oracle) -> turmoil::Result {
        let tasks = TaskSet::new(CancellationToken::new(), |ended| panic!("{ended}"));
        let Opened { service, formation } = self.open(tasks)?;
        let server = tonic::transport::Server::builder()
            .add_service(service.into_server())
            .serve_with_incoming(incoming().await?);
        let member = async {
            let handle = formation.run().await?;
            self.set_handle(Some(handle.clone()));
            Workload::new(handle, self.random.clone(), oracle).run().await;
            Ok(())
        };
        tokio::select! {
            biased;
            result = server => Ok(result?),
            result = member => result,
        }
    }

    fn open(&self, tasks: TaskSet) -> Result<Opened, raft::OpenError> {
        let dependencies = Dependencies {
            connect: Arc::new(SimulatedConnect),
            clock: Arc::new(SimulatedClock {
                skew_ms: self.clock_skew_ms,
            }),
            entropy: Arc::new(self.random.clone()),
            on_fatal: Arc::new(self.fatal.clone()),
            disk: LogDisk::default(),
            tasks,
        };
        let random = self.random.clone();
        let delay = move || Duration::from_millis(random.below(SYNC_MAX_MS) + 1);
        let storage = Storage {
            identity: Arc::new(self.identity.clone()),
            log: self.log.clone(),
            driver: Driver::Task(Box::new(delay)),
            state: self.state.clone(),
        };
        raft::open::<raft::runtime::Seeded, _, _>(self.config.clone(), dependencies, storage)
    }
}
