//! Opens a node on its stores.

use std::future::Future;
use std::io;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;

use daemon::task::TaskSet;
use meta::JoinNonce;

use crate::config::Config;
use crate::connect::{Connect, Peers};
use crate::environment::{Clock, Entropy};
use crate::error::{FormationError, OpenError};
use crate::fatal::OnFatal;
use crate::formation::{Formation, Founding};
use crate::handle::MetaHandle;
use crate::identity::{Identity, IdentityStore};
use crate::log_disk::LogDisk;
use crate::log_io::LogIo;
use crate::log_store::{Driver, LogStore};
use crate::runtime::Runtime;
use crate::server::RaftService;
use crate::state_machine::StateMachine;
use crate::state_store::StateStore;

/// What a node takes from outside.
#[derive(Clone)]
pub struct Dependencies {
    /// Reaches the other nodes.
    pub connect: Arc<dyn Connect>,
    /// Stamps commands with the time.
    pub clock: Arc<dyn Clock>,
    /// Draws ids.
    pub entropy: Arc<dyn Entropy>,
    /// Ends this node when it must not go on.
    pub on_fatal: Arc<dyn OnFatal>,
    /// What is known of the disk.
    pub disk: LogDisk,
    /// Owns the tasks of consensus.
    pub tasks: TaskSet,
}

/// Where a node keeps what must survive it.
pub struct Storage<IO, S> {
    /// Who the disk belongs to.
    pub identity: Arc<dyn IdentityStore>,
    /// The log.
    pub log: IO,
    /// What runs the log's writer.
    pub driver: Driver,
    /// The state.
    pub state: S,
}

/// A node whose disk is open.
pub struct Opened {
    /// To be served before the formation runs: peers ask it whether this node is empty.
    pub service: RaftService,
    /// Makes the node a member.
    pub formation: Formation,
}

/// Opens a node on `storage`.
///
/// # Errors
/// [`OpenError`]: something on the disk is damaged, or it fails.
pub fn open<RT: Runtime, IO: LogIo, S: StateStore>(
    config: Config,
    dependencies: Dependencies,
    storage: Storage<IO, S>,
) -> Result<Opened, OpenError> {
    let identity = start_boot(&*storage.identity, &*dependencies.entropy).map_err(OpenError::Identity)?;
    let service = RaftService::new(config.ordinal);
    if let Some(member) = identity.member {
        service.set_member(member);
    }
    let on_fatal = Arc::clone(&dependencies.on_fatal);
    let disk = &dependencies.disk;
    let (log, closed) = LogStore::open(storage.log, storage.driver, on_fatal, disk.clone()).map_err(OpenError::Log)?;
    let state = StateMachine::open(storage.state, disk.clone()).map_err(OpenError::State)?;
    let peers = Arc::new(Peers::new(Arc::clone(&dependencies.connect)));
    let founding = Founding::<RT, IO, S> {
        config,
        dependencies,
        identities: storage.identity,
        identity,
        log,
        closed,
        state,
        service: service.clone(),
        peers,
        runtime: PhantomData,
    };
    let run: Pin<Box<dyn Future<Output = Result<MetaHandle, FormationError>> + Send>> = Box::pin(founding.run());
    Ok(Opened {
        service,
        formation: Formation::new(run),
    })
}

/// Opens a node on a data directory, on RocksDB and tokio.
///
/// # Errors
/// [`OpenError`]: the directory is in use, or something in it is damaged. Nothing is ever repaired by leaving a part
/// out, since that part may hold what this node has promised to others.
#[cfg(feature = "rocksdb")]
pub fn open_on_disk(
    config: Config,
    dependencies: Dependencies,
    directory: crate::data_dir::DataDir,
) -> Result<Opened, OpenError> {
    use crate::rocks_log::RocksLog;
    use crate::rocks_state::RocksState;

    let log = RocksLog::open(&directory.join("log")).map_err(OpenError::Log)?;
    let state = RocksState::open(directory.join("state"), directory.join("snap")).map_err(OpenError::State)?;
    let directory = Arc::new(directory);
    let identity: Arc<dyn IdentityStore> = Arc::<crate::data_dir::DataDir>::clone(&directory);
    let storage = Storage {
        identity,
        log,
        driver: Driver::Thread,
        state: state.keep_locked(directory),
    };
    open::<crate::runtime::Tokio, _, _>(config, dependencies, storage)
}

/// Counts this boot, and draws a nonce on an empty disk.
fn start_boot(store: &dyn IdentityStore, entropy: &dyn Entropy) -> io::Result<Identity> {
    let mut identity = match store.load()? {
        Some(identity) => identity,
        None => Identity {
            nonce: JoinNonce::new(entropy.draw()),
            boot_count: 0,
            member: None,
        },
    };
    identity.boot_count += 1;
    store.store(&identity)?;
    Ok(identity)
}
