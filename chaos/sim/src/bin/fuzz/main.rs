//! Runs seeds, each in a process of its own, and prints the line that replays a failure.

mod entropy;

use std::process::{Command, ExitCode};
use std::time::Duration;

use clap::Parser;
use sim::{Honesty, Options};

/// Simulate clusters that crash and part.
#[derive(Parser)]
struct Arguments {
    /// Run this seed, and print all that happens.
    #[arg(long, conflicts_with_all = ["from", "count"])]
    seed: Option<u64>,
    /// First of the seeds to run.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// How many seeds to run.
    #[arg(long, default_value_t = 20)]
    count: u64,
    /// Simulated seconds of faults per seed.
    #[arg(long, default_value_t = 30)]
    seconds: u64,
    /// Disks that say they synced what they did not: such a run must fail.
    #[arg(long)]
    lying_disks: bool,
}

impl Arguments {
    fn options(&self) -> Options {
        let disks = if self.lying_disks {
            Honesty::AcknowledgesEarly
        } else {
            Honesty::Honest
        };
        Options {
            faults_for: Duration::from_secs(self.seconds),
            disks,
        }
    }

    /// What makes a process run one seed of this run.
    fn for_seed(&self, seed: u64) -> Vec<String> {
        let mut arguments = vec![
            "--seed".to_owned(),
            seed.to_string(),
            "--seconds".to_owned(),
            self.seconds.to_string(),
        ];
        if self.lying_disks {
            arguments.push("--lying-disks".to_owned());
        }
        arguments
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match arguments.seed {
        Some(seed) => run_here(seed, &arguments.options()),
        None => run_each(&arguments),
    }
}

fn run_here(seed: u64, options: &Options) -> ExitCode {
    match sim::run(seed, options) {
        Ok(report) => {
            report.journal.iter().for_each(|line| println!("{line}"));
            let seconds = report.elapsed.as_secs();
            println!(
                "seed {seed}: ok, {} entries in {seconds} s, {:?}",
                report.committed, report.acknowledged
            );
            ExitCode::SUCCESS
        }
        Err(failure) => {
            failure.journal.iter().for_each(|line| println!("{line}"));
            println!("{failure}");
            ExitCode::FAILURE
        }
    }
}

/// Each seed in a process of its own: libraries count, per process, what their random choices start from.
fn run_each(arguments: &Arguments) -> ExitCode {
    for seed in arguments.from..arguments.from.saturating_add(arguments.count) {
        let arguments = arguments.for_seed(seed);
        let output = std::env::current_exe().and_then(|program| Command::new(program).args(&arguments).output());
        let output = match output {
            Ok(output) => output,
            Err(error) => {
                println!("cannot start a run: {error}");
                return ExitCode::FAILURE;
            }
        };
        let text = String::from_utf8_lossy(&output.stdout);
        if !output.status.success() {
            println!("{text}{}", String::from_utf8_lossy(&output.stderr));
            println!("replay: cargo run -p sim --bin fuzz -- {}", arguments.join(" "));
            return ExitCode::FAILURE;
        }
        println!("{}", text.lines().next_back().unwrap_or_default());
    }
    ExitCode::SUCCESS
}
