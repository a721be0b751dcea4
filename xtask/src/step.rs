//! Named steps: each says its name and its time, and a failure does not keep the next from running.

use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::test_run::Counts;

/// One part of the gate.
pub(crate) struct Step {
    pub(crate) name: &'static str,
    pub(crate) run: fn() -> Result<()>,
}

/// What happened so far, and how the program ends.
#[derive(Default)]
pub(crate) struct Report {
    failed: Vec<&'static str>,
    counts: Option<Counts>,
}

/// Runs every step, whatever the earlier ones said.
pub(crate) fn run_all(steps: &[Step]) -> Report {
    let mut report = Report::default();
    for step in steps {
        if timed(step.name, step.run).is_err() {
            report.failed.push(step.name);
        }
    }
    report
}

impl Report {
    /// Runs the tests after the steps, so that their count is the last thing printed.
    pub(crate) fn and_then_tests(mut self, run: impl FnOnce() -> Result<Counts>) -> Self {
        match timed("test", run) {
            Ok(counts) => self.counts = Some(counts),
            Err(Failed) => {
                self.failed.push("test");
                self.counts = Some(Counts {
                    failed: 1,
                    ..Counts::default()
                });
            }
        }
        self
    }

    /// Prints the summary, the tests' count last.
    pub(crate) fn finish(self) -> ExitCode {
        if !self.failed.is_empty() {
            eprintln!("\nfailed: {}", self.failed.join(", "));
        }
        let tests_passed = match self.counts {
            Some(counts) => {
                println!("{counts}");
                counts.failed == 0
            }
            None => true,
        };
        if self.failed.is_empty() && tests_passed {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        }
    }
}

/// The step failed, and its error has been printed.
struct Failed;

fn timed<T>(name: &str, run: impl FnOnce() -> Result<T>) -> std::result::Result<T, Failed> {
    eprintln!("==> {name}");
    #[expect(clippy::disallowed_methods, reason = "a chore measures real time")]
    let started = Instant::now();
    let result = run();
    let seconds = started.elapsed().max(Duration::from_millis(1)).as_secs_f64();
    match result {
        Ok(value) => {
            eprintln!("    {name}: ok, {seconds:.1} s");
            Ok(value)
        }
        Err(error) => {
            eprintln!("    {name}: FAILED, {seconds:.1} s: {error:#}");
            Err(Failed)
        }
    }
}

/// A cargo command with the build's environment (`tools/with-env`), from the workspace's root.
pub(crate) fn cargo(arguments: &[&str]) -> Command {
    let root = crate::metadata::workspace_root();
    let mut command = Command::new(root.join("tools/with-env"));
    command.arg("cargo").args(arguments).current_dir(root);
    command
}

/// Runs a command to its end.
///
/// # Errors
/// If it cannot be started, or ends with anything but success.
pub(crate) fn run(mut command: Command) -> Result<()> {
    let status = command
        .status()
        .with_context(|| format!("start {:?}", command.get_program()))?;
    if !status.success() {
        bail!("{status}");
    }
    Ok(())
}
