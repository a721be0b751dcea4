//! Measures kuik beside docker-registry, distribution and nginx, in one run on one machine.
//!
//! All contenders hold the same image and serve it from the page cache over loopback; the rounds alternate between
//! them, and what is printed is the median of the rounds. Clients and servers share the machine's cores, so only the
//! ratios mean something elsewhere.

mod cold;
mod contender;
mod image;
mod measure;
mod rate;
mod report;
mod statistics;
mod throughput;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Parser;

use contender::Field;
use measure::Plan;
use report::Report;

/// Measures kuik beside docker-registry, distribution and nginx.
#[derive(Parser)]
struct Arguments {
    /// Size of the blob.
    #[arg(long, default_value_t = 1024)]
    blob_mib: u64,
    /// How often each contender is measured; the median counts.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds of manifest requests per contender, method and round.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Connections that ask for manifests at once.
    #[arg(long, default_value_t = 16)]
    connections: usize,
    /// Leave out kuik, to look at the others alone.
    #[arg(long)]
    without_kuik: bool,
    /// Where the figures go, as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    if arguments.rounds == 0 || arguments.connections == 0 || arguments.blob_mib == 0 || arguments.seconds <= 0.0 {
        bail!("rounds, connections, the blob's size and the seconds must be above zero");
    }
    let plan = Plan {
        rounds: arguments.rounds,
        duration: Duration::from_secs_f64(arguments.seconds),
        connections: arguments.connections,
    };
    eprintln!("starting the contenders with a blob of {} MiB", arguments.blob_mib);
    let field = Field::start(arguments.blob_mib * 1024 * 1024, !arguments.without_kuik)?;
    let warm = measure::run(&field, &plan)?;
    let cold = field.cold.as_ref().map(cold::run).transpose()?;
    let figures = Report { warm, cold };
    print!("{figures}");
    let path = arguments.json.unwrap_or_else(|| PathBuf::from("bench.json"));
    let json = serde_json::to_vec_pretty(&figures).context("print the figures as JSON")?;
    std::fs::write(&path, json).with_context(|| format!("write {}", path.display()))?;
    println!("figures: {}", path.display());
    Ok(())
}
