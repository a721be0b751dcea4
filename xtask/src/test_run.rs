//! Runs the tests through `cargo test` and adds up what its runners report.

use std::fmt;
use std::io::{BufRead, BufReader};
use std::ops::AddAssign;
use std::process::Stdio;

use anyhow::{Context, Result};

use crate::metadata::workspace_root;
use crate::step::{cargo, run};

/// Tests by their end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) skipped: u64,
}

impl Counts {
    /// Reads a runner's own line, `test result: ok. 3 passed; 0 failed; 1 ignored; ...`.
    fn parse(line: &str) -> Option<Self> {
        let (_, numbers) = line.strip_prefix("test result: ")?.split_once(". ")?;
        let mut counts = Self::default();
        for part in numbers.split(';') {
            match part.trim().split_once(' ') {
                Some((number, "passed")) => counts.passed = number.parse().ok()?,
                Some((number, "failed")) => counts.failed = number.parse().ok()?,
                Some((number, "ignored")) => counts.skipped = number.parse().ok()?,
                _ => {}
            }
        }
        Some(counts)
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)?;
        if self.skipped > 0 {
            write!(f, ", {} skipped", self.skipped)?;
        }
        Ok(())
    }
}

/// Runs all tests; `arguments` go to `cargo test` as they are.
///
/// # Errors
/// If the programs do not build, or cargo cannot be started. A failed test is counted, not an error, and
/// a test program that dies without a count is one failed test.
pub(crate) fn run_all(arguments: &[&str]) -> Result<Counts> {
    build_programs()?;
    count(&[&["test", "--locked", "--workspace", "--no-fail-fast"], arguments].concat())
}

/// Runs the end-to-end tests alone, those too that are too long for the gate; `arguments` choose among them by name.
///
/// # Errors
/// As [`run_all`].
pub(crate) fn run_end_to_end(arguments: &[&str]) -> Result<Counts> {
    build_programs()?;
    let files = end_to_end_files()?;
    let files: Vec<&str> = files.iter().flat_map(|name| ["--test", name]).collect();
    count(
        &[
            &["test", "--locked", "--workspace", "--no-fail-fast"],
            files.as_slice(),
            &["--", "--include-ignored"],
            arguments,
        ]
        .concat(),
    )
}

/// Where the end-to-end tests are.
const END_TO_END: [&str; 2] = ["chaos/sandbox/tests", "chaos/cluster/tests"];

/// The names of the end-to-end test programs. They are chosen from the whole workspace, not by package: with another
/// choice of packages cargo would turn other features on, and build everything again.
fn end_to_end_files() -> Result<Vec<String>> {
    let mut names = Vec::new();
    for directory in END_TO_END {
        for entry in std::fs::read_dir(workspace_root().join(directory)).context("list the end-to-end tests")? {
            let path = entry.context("list the end-to-end tests")?.path();
            if path.extension().is_some_and(|extension| extension == "rs") {
                names.extend(path.file_stem().map(|name| name.to_string_lossy().into_owned()));
            }
        }
    }
    Ok(names)
}

/// The end-to-end tests start the programs themselves, so these must be as new as the tests are. Built with the
/// tests, they share the tests' dependencies.
fn build_programs() -> Result<()> {
    run(cargo(&["build", "--locked", "--workspace", "--bins", "--tests"])).context("build the programs")
}

fn count(arguments: &[&str]) -> Result<Counts> {
    let mut child = cargo(arguments)
        .stdout(Stdio::piped())
        .spawn()
        .context("start cargo test")?;
    let stdout = child.stdout.take().context("cargo test has no output")?;
    let mut total = Counts::default();
    for line in BufReader::new(stdout).split(b'\n') {
        let line = String::from_utf8_lossy(&line.context("read cargo test's output")?).into_owned();
        println!("{line}");
        if let Some(counts) = Counts::parse(&line) {
            total += counts;
        }
    }
    let status = child.wait().context("wait for cargo test")?;
    if !status.success() && total.failed == 0 {
        eprintln!("    a test program did not build, or died without a count: {status}");
        total.failed = 1;
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_runners_line_is_read_and_others_are_not() {
        let line = "test result: FAILED. 3 passed; 2 failed; 1 ignored; 0 measured; 9 filtered out; finished in 0.10s";
        assert_eq!(
            Counts::parse(line),
            Some(Counts {
                passed: 3,
                failed: 2,
                skipped: 1
            })
        );
        assert_eq!(Counts::parse("running 3 tests"), None);
    }

    #[test]
    fn the_last_line_counts_skipped_tests_only_when_there_are_some() {
        let mut counts = Counts {
            passed: 3,
            failed: 0,
            skipped: 0,
        };
        assert_eq!(counts.to_string(), "3 passed, 0 failed");
        counts += Counts {
            passed: 1,
            failed: 2,
            skipped: 4,
        };
        assert_eq!(counts.to_string(), "4 passed, 2 failed, 4 skipped");
    }
}
