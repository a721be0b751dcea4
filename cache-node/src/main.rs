//! The program `kuik-cache-node`: arguments, configuration, run.

use std::path::PathBuf;
use std::process::ExitCode;

use cache_node::{Config, start};
use clap::Parser;
use daemon::readiness::Readiness;
use daemon::runtime::Failure;
use daemon::shutdown::{Ended, GRACE_DEFAULT, Shutdown};
use daemon::telemetry::{self, Metrics};

/// One node of the cache: holds blobs, votes on metadata, serves registry clients, proxies and its peers.
#[derive(Parser)]
#[command(name = "kuik-cache-node", version)]
struct Arguments {
    /// Configuration file (TOML)
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Exit when standard input ends: whoever started this process has died
    #[arg(long)]
    exit_with_stdin: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    daemon::runtime::run(run(arguments))
}

async fn run(arguments: Arguments) -> Result<Ended, Failure> {
    telemetry::init().map_err(Failure::bad_start)?;
    let metrics = Metrics::install().map_err(Failure::failed)?;
    let config = Config::load(&arguments.config).map_err(Failure::bad_start)?;
    let shutdown = Shutdown::new();
    shutdown.begin_on_signals().map_err(Failure::failed)?;
    if arguments.exit_with_stdin {
        shutdown.begin_when_stdin_ends().map_err(Failure::failed)?;
    }
    let readiness = Readiness::new(&shutdown);
    start(config, metrics, &shutdown, &readiness)
        .await
        .map_err(Failure::failed)?;
    Ok(shutdown.run(GRACE_DEFAULT).await)
}
