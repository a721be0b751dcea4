//! The command line of the cache: `kuik up` runs a whole cluster on one machine, the other commands ask one.
//!
//! It starts the cache nodes and the proxy as processes of their own and talks to them over their admin ports;
//! it links neither RocksDB nor Raft.

pub mod report;
