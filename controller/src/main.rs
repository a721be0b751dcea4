//! The program `kuik-controller`: arguments, configuration, run.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use controller::{Config, crd};
use daemon::admin::Admin;
use daemon::readiness::Readiness;
use daemon::runtime::Failure;
use daemon::shutdown::{Cause, Ended, GRACE_DEFAULT, Phase, Shutdown};
use daemon::telemetry::{self, Metrics};
use tokio::net::TcpListener;

/// Most of the time nothing happens, and each thread costs memory.
const THREADS_MAX: usize = 2;

/// Keeps certificates and Kubernetes objects, and tells the tier what the cluster uses.
#[derive(Parser)]
#[command(name = "kuik-controller", version, args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// Configuration file (TOML)
    #[arg(long, value_name = "FILE", required = true)]
    config: Option<PathBuf>,
    /// Name of this program's pod
    #[arg(long, env = "POD_NAME", default_value = "controller", hide = true)]
    pod: String,
}

#[derive(Subcommand)]
enum Command {
    /// Print the definitions of CachedImage and Repository
    Crds {
        /// With validation rules, for servers of Kubernetes 1.25 and later
        #[arg(long)]
        rules: bool,
    },
    /// Before an uninstall: delete the webhook's configuration, give waiting pods their images back, list the others
    Cleanup {
        /// Configuration file (TOML)
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Ask the webhook, by a dry run, and the proxy of this node, for `helm test`
    SelfTest {
        /// Namespace whose pods are rewritten
        #[arg(long, default_value = "default")]
        namespace: String,
        /// Port of the proxy
        #[arg(long, default_value_t = 7439)]
        proxy_port: u16,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match (arguments.command, arguments.config) {
        (Some(Command::Crds { rules }), _) => print_definitions(rules),
        (Some(Command::Cleanup { config }), _) => daemon::runtime::run_on(THREADS_MAX, clean_up(config)),
        (Some(Command::SelfTest { namespace, proxy_port }), _) => {
            daemon::runtime::run_on(THREADS_MAX, self_test(namespace, proxy_port))
        }
        (None, Some(config)) => daemon::runtime::run_on(THREADS_MAX, run(config, arguments.pod)),
        (None, None) => unreachable!("clap requires --config without a subcommand"),
    }
}

fn print_definitions(rules: bool) -> ExitCode {
    match crd::print(rules) {
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(path: PathBuf, pod: String) -> Result<Ended, Failure> {
    telemetry::init().map_err(Failure::bad_start)?;
    let metrics = Metrics::install().map_err(Failure::failed)?;
    let config = Config::load(&path).map_err(Failure::bad_start)?;
    let shutdown = Shutdown::new();
    shutdown.begin_on_signals().map_err(Failure::failed)?;
    let readiness = Readiness::new(&shutdown);
    metrics.start_upkeep(shutdown.tasks(Phase::Flush));
    let listener = TcpListener::bind(config.admin).await.map_err(Failure::failed)?;
    Admin::new(readiness.clone(), metrics).start(listener, shutdown.tasks(Phase::Flush));
    let client = kube::Client::try_default().await.map_err(Failure::failed)?;
    controller::start(config, client, &identity(&pod), &shutdown, &readiness);
    Ok(shutdown.run(GRACE_DEFAULT).await)
}

async fn clean_up(path: PathBuf) -> Result<Ended, Failure> {
    telemetry::init().map_err(Failure::bad_start)?;
    let config = Config::load(&path).map_err(Failure::bad_start)?;
    let client = kube::Client::try_default().await.map_err(Failure::failed)?;
    let leftovers = controller::clean_up(&client, &config).await.map_err(Failure::failed)?;
    for pod in &leftovers.restored {
        println!("pod {pod}: original images put back");
    }
    for pod in &leftovers.running {
        println!("pod {pod}: runs from images named through the proxy; delete it to have it made anew");
    }
    for undone in &leftovers.undone {
        println!("left undone: {undone}");
    }
    if leftovers.n_undone > leftovers.undone.len() {
        println!("left undone: {} in all", leftovers.n_undone);
    }
    let cause = Cause::Requested("cleaned up");
    Ok(Ended {
        cause,
        still_running: Vec::new(),
    })
}

async fn self_test(namespace: String, proxy_port: u16) -> Result<Ended, Failure> {
    telemetry::init().map_err(Failure::bad_start)?;
    let client = kube::Client::try_default().await.map_err(Failure::failed)?;
    let tested = controller::self_test(&client, &namespace, proxy_port).await;
    tested.map_err(Failure::failed)?;
    println!("the webhook answers for namespace {namespace}, and the proxy at localhost:{proxy_port}");
    Ok(Ended {
        cause: Cause::Requested("tested"),
        still_running: Vec::new(),
    })
}

/// A restarted container is another participant: what it held before it died is not its own.
fn identity(pod: &str) -> String {
    format!(
        "{pod}-{}-{}",
        std::process::id(),
        jiff::Timestamp::now().as_millisecond()
    )
}
