//! openraft's own suite, over our stores.

use std::sync::Arc;

use openraft::StorageError;
use openraft::testing::log::{StoreBuilder, Suite};

use crate::fatal::Observed;
use crate::log_disk::LogDisk;
use crate::log_io::LogIo;
use crate::log_store::{Driver, LogStore};
use crate::memory_log::MemoryLog;
use crate::memory_state::MemoryStore;
use crate::runtime::Tokio;
use crate::state_machine::StateMachine;
use crate::state_store::StateStore;
use crate::types::TypeConfig;

fn stores<IO: LogIo, S: StateStore>(io: IO, state: S) -> (LogStore<IO>, StateMachine<S>) {
    let on_fatal = Arc::new(Observed::default());
    let (log, _closed) = LogStore::open(io, Driver::Thread, on_fatal, LogDisk::default()).expect("the log opens");
    (
        log,
        StateMachine::open(state, LogDisk::default()).expect("the state opens"),
    )
}

struct Memory;

impl StoreBuilder<TypeConfig<Tokio>, LogStore<MemoryLog>, StateMachine<MemoryStore>> for Memory {
    async fn build(
        &self,
    ) -> Result<((), LogStore<MemoryLog>, StateMachine<MemoryStore>), StorageError<TypeConfig<Tokio>>> {
        let (log, state) = stores(MemoryLog::new(), MemoryStore::new());
        Ok(((), log, state))
    }
}

#[tokio::test]
async fn memory_stores_pass_the_suite() {
    Suite::test_all(Memory).await.unwrap();
}

#[cfg(feature = "rocksdb")]
mod on_disk {
    use tempfile::TempDir;

    use super::*;
    use crate::rocks_log::RocksLog;
    use crate::rocks_state::RocksState;

    struct Rocks;

    impl StoreBuilder<TypeConfig<Tokio>, LogStore<RocksLog>, StateMachine<RocksState>, TempDir> for Rocks {
        async fn build(
            &self,
        ) -> Result<(TempDir, LogStore<RocksLog>, StateMachine<RocksState>), StorageError<TypeConfig<Tokio>>> {
            let temp = tempfile::tempdir().unwrap();
            let log = RocksLog::open(&temp.path().join("log")).unwrap();
            let state = RocksState::open(temp.path().join("state"), temp.path().join("snap")).unwrap();
            let (log, state) = stores(log, state);
            Ok((temp, log, state))
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn stores_on_disk_pass_the_suite() {
        Suite::test_all(Rocks).await.unwrap();
    }
}
