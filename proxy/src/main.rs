//! The program `kuik-proxy`: arguments, configuration, run.
//!
//! It stays with the system's allocator: idle it holds 0.8 MiB of its own beside 7.5 MiB of mapped program text (8.3 MiB
//! resident), and 9 to 12 MiB after bodies of 1 GiB; mimalloc was measured at nearly twice as much for such a server.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use daemon::admin::Admin;
use daemon::readiness::Readiness;
use daemon::runtime::{Failure, one_line};
use daemon::shutdown::{Ended, Phase, Shutdown};
use daemon::telemetry::{self, Metrics};
use proxy::{BoundSocket, Config, StartError, bind_all, check};

/// Threads that pass bytes on. Four fill the network of most machines, and each further one costs memory on every
/// machine of a cluster. Two instead of one raise what a single client gets by a third, for a tenth more processor time.
const THREADS_MAX: usize = 4;

/// What the process needs at its end beside the time for answers in flight.
const AFTER_DRAIN: Duration = Duration::from_secs(10);

/// What container runtimes pull through: the cache nodes first, the source registry when they cannot help.
#[derive(Parser)]
#[command(
    name = "kuik-proxy",
    version,
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true
)]
struct Arguments {
    /// Configuration file (TOML)
    #[arg(long, value_name = "FILE", required = true)]
    config: Option<PathBuf>,
    /// Exit when standard input ends: whoever started this process has died
    #[arg(long)]
    exit_with_stdin: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Asks the running proxy whether it is ready; exits with 0 if it is
    Check {
        /// Its configuration file, which has the key `check_socket`
        #[arg(long, value_name = "FILE", required_unless_present = "socket")]
        config: Option<PathBuf>,
        /// Its socket
        #[arg(long, value_name = "PATH")]
        socket: Option<PathBuf>,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match (arguments.command, arguments.config) {
        (Some(Command::Check { config, socket }), _) => check(config.as_deref(), socket),
        (None, config) => {
            let config = config.unwrap_or_default();
            daemon::runtime::run_on(THREADS_MAX, run(config, arguments.exit_with_stdin))
        }
    }
}

fn check(config: Option<&Path>, socket: Option<PathBuf>) -> ExitCode {
    let socket = socket.map_or_else(|| Config::load_check_socket(config.unwrap_or(Path::new(""))), Ok);
    let asked = socket
        .map_err(Failure::bad_start)
        .and_then(|socket| check::ask(&socket).map_err(Failure::failed));
    match asked {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", one_line(&error));
            ExitCode::FAILURE
        }
    }
}

async fn run(config: PathBuf, exit_with_stdin: bool) -> Result<Ended, Failure> {
    telemetry::init().map_err(Failure::bad_start)?;
    let metrics = Metrics::install().map_err(Failure::failed)?;
    let config = Config::load(&config).map_err(Failure::bad_start)?;
    let shutdown = Shutdown::new();
    shutdown.begin_on_signals().map_err(Failure::failed)?;
    if exit_with_stdin {
        shutdown.begin_when_stdin_ends().map_err(Failure::failed)?;
    }
    let readiness = Readiness::new(&shutdown);
    metrics.start_upkeep(shutdown.tasks(Phase::Flush));
    if let Some(address) = config.admin {
        let listener = BoundSocket::bind(address, config.reuse_port).and_then(BoundSocket::listen);
        let listener = listener.map_err(Failure::failed)?;
        // Where the port is shared, scrapes must not go to and fro between the old proxy and the new one.
        let phase = if config.reuse_port { Phase::Serve } else { Phase::Flush };
        Admin::new(readiness.clone(), metrics).start(listener, shutdown.tasks(phase));
    }
    if let Some(socket) = &config.check_socket {
        check::serve(socket, readiness.clone(), &shutdown).map_err(Failure::failed)?;
    }
    let sockets = bind_all(&config.listen, config.reuse_port).map_err(Failure::failed)?;
    let grace = config.drain + AFTER_DRAIN;
    let proxy = proxy::start(config, sockets, &shutdown, &readiness).map_err(|error| match error {
        StartError::Listen(error) => Failure::failed(error),
        error => Failure::bad_start(error),
    })?;
    tracing::info!(addresses = ?proxy.addresses(), "listening");
    Ok(shutdown.run(grace).await)
}
