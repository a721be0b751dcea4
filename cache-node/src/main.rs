//! The program `kuik-cache-node`: arguments, configuration, run.

mod fsck;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use cache_node::{Config, start};
use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, Subcommand};
use daemon::readiness::Readiness;
use daemon::runtime::Failure;
use daemon::shutdown::{Ended, GRACE_DEFAULT, Shutdown};
use daemon::telemetry::{self, Metrics};

/// One node of the cache: holds blobs, votes on metadata, serves registry clients, proxies and its peers.
#[derive(Parser)]
#[command(
    name = "kuik-cache-node",
    version,
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true
)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// Configuration file (TOML)
    #[arg(long, value_name = "FILE", required = true)]
    config: Option<PathBuf>,
    /// Exit when standard input ends: whoever started this process has died
    #[arg(long)]
    exit_with_stdin: bool,
}

#[derive(Subcommand)]
enum Command {
    /// Check the replicated state of a stopped node: compute what is derived from its records again, and compare
    ///
    /// Changes nothing. Prints what differs. Exits with 0 if the state is good, with 1 if it is not, and with 2 if it
    /// could not be checked, as while the node runs.
    Fsck {
        /// The node's data directory
        #[arg(long, value_name = "DIR")]
        data: PathBuf,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match (arguments.command, arguments.config) {
        (Some(Command::Fsck { data }), _) => fsck::run(&data),
        (None, Some(config)) => daemon::runtime::run(run(&config, arguments.exit_with_stdin)),
        (None, None) => Arguments::command()
            .error(ErrorKind::MissingRequiredArgument, "--config <FILE> is missing")
            .exit(),
    }
}

async fn run(config: &Path, exit_with_stdin: bool) -> Result<Ended, Failure> {
    telemetry::init().map_err(Failure::bad_start)?;
    let metrics = Metrics::install().map_err(Failure::failed)?;
    let config = Config::load(config).map_err(Failure::bad_start)?;
    let shutdown = Shutdown::new();
    shutdown.begin_on_signals().map_err(Failure::failed)?;
    if exit_with_stdin {
        shutdown.begin_when_stdin_ends().map_err(Failure::failed)?;
    }
    let readiness = Readiness::new(&shutdown);
    start(config, metrics, &shutdown, &readiness)
        .await
        .map_err(Failure::failed)?;
    Ok(shutdown.run(GRACE_DEFAULT).await)
}
