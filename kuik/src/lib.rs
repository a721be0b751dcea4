//! The command line of the cache: `kuik up` runs a whole cluster on one machine, the other commands ask one.
//!
//! It starts the cache nodes and the proxy as processes of their own and talks to them over their admin ports;
//! it links neither RocksDB nor Raft.

mod admin_client;
mod args;
mod ask;
mod banner;
mod certificates;
mod child_log;
mod children;
mod cluster;
mod console;
mod data_dir;
mod demo;
mod explain;
mod formation;
mod images;
mod platform;
mod port_owner;
mod ports;
mod programs;
mod ready_file;
mod settings;
mod status;
mod supervisor;
mod text;
mod up;

use std::process::ExitCode;

use clap::Parser;
use daemon::runtime;

use args::{Arguments, Command};

/// Runs the program with the arguments of the process, and tells its exit code.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    runtime::run(async {
        if std::env::var_os(daemon::telemetry::LOG_ENV).is_some() {
            daemon::telemetry::init().map_err(runtime::Failure::bad_start)?;
        }
        match arguments.command {
            Command::Up(arguments) => up::run(arguments).await,
            Command::Status(arguments) => status::run(arguments).await,
            Command::Images(arguments) => images::run(arguments).await,
            Command::Explain(arguments) => explain::run(arguments).await,
            Command::DemoSource(arguments) => demo::serve(arguments).await,
        }
    })
}
