//! The two RocksDB databases of a node: their column families and options.

use std::io;
use std::path::Path;

use meta::Family;
use rocksdb::{BlockBasedOptions, Cache, ColumnFamilyDescriptor, DB, DBCompressionType, DBRecoveryMode, Options};

/// Log entries, by big-endian index.
pub(crate) const ENTRIES: &str = "entries";
/// Vote, committed and purged log ids.
pub(crate) const HARD: &str = "hard";
/// The applied record of the state.
pub(crate) const APPLIED: &str = "applied";

/// Memory for writes of the log database. Entries leave it within seconds; more would only idle.
const LOG_WRITE_BUFFER_BYTES: usize = 8 << 20;
/// Memory for writes of the state database, shared by all its families.
const STATE_WRITE_BUFFERS_BYTES: usize = 16 << 20;
/// Memory per family before it is flushed.
const STATE_WRITE_BUFFER_BYTES: usize = 4 << 20;
/// Blocks of the state kept uncompressed. The state is 2-4 GB at the largest planned size; its hot part is small.
const STATE_CACHE_BYTES: usize = 16 << 20;
/// Write-ahead logs above this force old memory to be flushed, so that opening never replays more.
const WAL_BYTES_MAX: u64 = 64 << 20;
/// Info logs of RocksDB itself, per database.
const INFO_LOG_BYTES_MAX: usize = 1 << 20;
const INFO_LOG_FILES: usize = 2;
const BACKGROUND_JOBS: i32 = 2;
const BLOOM_BITS_PER_KEY: f64 = 10.0;

pub(crate) fn to_io(error: rocksdb::Error) -> io::Error {
    let kind = match error.kind() {
        rocksdb::ErrorKind::Corruption => io::ErrorKind::InvalidData,
        rocksdb::ErrorKind::NotFound => io::ErrorKind::NotFound,
        _ => io::ErrorKind::Other,
    };
    io::Error::new(kind, error)
}

fn common() -> Options {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    options.set_max_background_jobs(BACKGROUND_JOBS);
    options.set_max_total_wal_size(WAL_BYTES_MAX);
    options.set_max_log_file_size(INFO_LOG_BYTES_MAX);
    options.set_keep_log_file_num(INFO_LOG_FILES);
    // A torn end is what a crash leaves. Damage before the end is not: opening must fail then, since going on with
    // what can be read would silently drop entries this node has acknowledged.
    options.set_wal_recovery_mode(DBRecoveryMode::TolerateCorruptedTailRecords);
    // A recycled file could make old records look like a torn end.
    options.set_recycle_log_file_num(0);
    options.set_track_and_verify_wals_in_manifest(true);
    options
}

fn family_options(write_buffer_bytes: usize, cache: Option<&Cache>) -> Options {
    let mut options = Options::default();
    options.set_compression_type(DBCompressionType::Lz4);
    options.set_write_buffer_size(write_buffer_bytes);
    let mut table = BlockBasedOptions::default();
    match cache {
        Some(cache) => {
            table.set_block_cache(cache);
            table.set_bloom_filter(BLOOM_BITS_PER_KEY, false);
        }
        None => table.disable_cache(),
    }
    options.set_block_based_table_factory(&table);
    options
}

pub(crate) fn open_log(path: &Path) -> io::Result<DB> {
    // Entries are read once by each lagging follower, in order: a cache would not help.
    let families =
        [ENTRIES, HARD].map(|name| ColumnFamilyDescriptor::new(name, family_options(LOG_WRITE_BUFFER_BYTES, None)));
    DB::open_cf_descriptors(&common(), path, families).map_err(to_io)
}

pub(crate) fn open_state(path: &Path) -> io::Result<DB> {
    let mut options = common();
    options.set_db_write_buffer_size(STATE_WRITE_BUFFERS_BYTES);
    DB::open_cf_descriptors(&options, path, state_families()).map_err(to_io)
}

/// Opens a database that nobody writes to, and writes nothing.
pub(crate) fn open_state_read_only(path: &Path) -> io::Result<DB> {
    // What was written last may be in the write-ahead log alone; it is read from there.
    const FAIL_IF_LOG_EXISTS: bool = false;
    DB::open_cf_descriptors_read_only(&common(), path, state_families(), FAIL_IF_LOG_EXISTS).map_err(to_io)
}

fn state_families() -> Vec<ColumnFamilyDescriptor> {
    let cache = Cache::new_lru_cache(STATE_CACHE_BYTES);
    let names = Family::ALL.iter().map(|family| family.name()).chain([APPLIED]);
    names
        .map(|name| ColumnFamilyDescriptor::new(name, family_options(STATE_WRITE_BUFFER_BYTES, Some(&cache))))
        .collect()
}

pub(crate) fn family<'db>(db: &'db DB, name: &str) -> io::Result<&'db rocksdb::ColumnFamily> {
    db.cf_handle(name)
        .ok_or_else(|| io::Error::other(format!("column family {name} is missing")))
}
