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
        if timed(step.name, step.run, |()| true).is_err() {
            report.failed.push(step.name);
        }
    }
    report
}

impl Report {
    /// Runs the tests after the steps, so that their count is the last thing printed.
    pub(crate) fn and_then_tests(mut self, run: impl FnOnce() -> Result<Counts>) -> Self {
        match timed("test", run, |counts| counts.failed == 0) {
            Ok(counts) => self.counts = Some(counts),
            Err(counts) => {
                self.failed.push("test");
                let died = Counts {
                    failed: 1,
                    ..Counts::default()
                };
                self.counts = Some(counts.unwrap_or(died));
            }
        }
        self
    }

    /// Prints the summary, the tests' count last.
    pub(crate) fn finish(self) -> ExitCode {
        if !self.failed.is_empty() {
            eprintln!("\nfailed: {}", self.failed.join(", "));
        }
        if let Some(counts) = self.counts {
            println!("{counts}");
        }
        if self.failed.is_empty() {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        }
    }
}

/// Runs a step and says how it went. One that failed gives back what it came to, if it came to an end.
fn timed<T>(
    name: &str,
    run: impl FnOnce() -> Result<T>,
    is_well: impl FnOnce(&T) -> bool,
) -> std::result::Result<T, Option<T>> {
    eprintln!("==> {name}");
    #[expect(clippy::disallowed_methods, reason = "a chore measures real time")]
    let started = Instant::now();
    let result = run();
    let seconds = started.elapsed().max(Duration::from_millis(1)).as_secs_f64();
    match result {
        Ok(value) if is_well(&value) => {
            eprintln!("    {name}: ok, {seconds:.1} s");
            Ok(value)
        }
        Ok(value) => {
            eprintln!("    {name}: FAILED, {seconds:.1} s");
            Err(Some(value))
        }
        Err(error) => {
            eprintln!("    {name}: FAILED, {seconds:.1} s: {error:#}");
            Err(None)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failed_tests_fail_the_report_and_keep_their_count() {
        let counts = Counts {
            passed: 2,
            failed: 1,
            skipped: 0,
        };
        let report = Report::default().and_then_tests(|| Ok(counts));
        assert_eq!((report.failed, report.counts), (vec!["test"], Some(counts)));
    }

    #[test]
    fn a_run_that_dies_is_one_failed_test() {
        let report = Report::default().and_then_tests(|| bail!("no cargo"));
        assert_eq!(report.counts.map(|counts| counts.failed), Some(1));
    }
}
