//! The program `kuik-webhook`: arguments, configuration, run.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use daemon::admin::Admin;
use daemon::readiness::Readiness;
use daemon::runtime::Failure;
use daemon::shutdown::{Ended, GRACE_DEFAULT, Phase, Shutdown};
use daemon::telemetry;
use tokio::net::TcpListener;
use webhook::{Config, Metrics, proxies};

/// Reviews are short and few; each further thread costs memory.
const THREADS_MAX: usize = 2;

/// Sends the images of new pods through the proxy on their node.
#[derive(Parser)]
#[command(name = "kuik-webhook", version)]
struct Arguments {
    /// Configuration file (TOML)
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    daemon::runtime::run_on(THREADS_MAX, run(arguments))
}

async fn run(arguments: Arguments) -> Result<Ended, Failure> {
    telemetry::init().map_err(Failure::bad_start)?;
    let recorder = telemetry::Metrics::install().map_err(Failure::failed)?;
    let config = Config::load(&arguments.config).map_err(Failure::bad_start)?;
    let shutdown = Shutdown::new();
    shutdown.begin_on_signals().map_err(Failure::failed)?;
    let readiness = Readiness::new(&shutdown);
    recorder.start_upkeep(shutdown.tasks(Phase::Flush));
    let metrics = Metrics::new();
    let admin = bind(config.admin).await?;
    Admin::new(readiness.clone(), recorder).start(admin, shutdown.tasks(Phase::Flush));
    let client = kube::Client::try_default().await.map_err(Failure::failed)?;
    let gate = readiness.gate("proxies");
    let proxies = proxies::start(
        client,
        &config.proxy,
        gate,
        metrics.clone(),
        shutdown.tasks(Phase::Work),
    );
    let listener = bind(config.listen).await?;
    tracing::info!(address = %config.listen, "listening");
    webhook::start(&config, listener, proxies, metrics, &shutdown, &readiness);
    Ok(shutdown.run(GRACE_DEFAULT).await)
}

async fn bind(address: SocketAddr) -> Result<TcpListener, Failure> {
    let bound = TcpListener::bind(address).await;
    bound.map_err(|error| Failure::failed(format!("listen on {address}: {error}")))
}
