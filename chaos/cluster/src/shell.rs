//! Commands run to their end, with a deadline.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::wait::now;

/// How often a running command is looked at.
const INTERVAL: Duration = Duration::from_millis(10);

/// Runs a command and returns what it printed.
///
/// # Errors
/// If it cannot be started, does not end within `deadline` (it is killed then), or fails; with what it wrote to stderr.
pub(crate) fn output(mut command: Command, input: Option<&str>, deadline: Duration) -> Result<String> {
    let shown = format!("{command:?}");
    let mut stdout = tempfile::tempfile().context("make a file for the output")?;
    let mut stderr = tempfile::tempfile().context("make a file for the output")?;
    let mut child = command
        .stdin(stdin_of(input)?)
        .stdout(stdout.try_clone().context("share the output")?)
        .stderr(stderr.try_clone().context("share the output")?)
        .spawn()
        .with_context(|| format!("start {shown}"))?;
    let started = now();
    let status = loop {
        if let Some(status) = child.try_wait().context("ask for a child's end")? {
            break status;
        }
        if started.elapsed() >= deadline {
            child.kill().context("kill a child")?;
            child.wait().context("wait for a killed child")?;
            bail!("{shown} did not end within {deadline:?}: {}", text(&mut stderr)?);
        }
        sleep(INTERVAL);
    };
    if !status.success() {
        bail!("{shown}: {status}: {}{}", text(&mut stdout)?, text(&mut stderr)?);
    }
    text(&mut stdout)
}

fn stdin_of(input: Option<&str>) -> Result<Stdio> {
    let Some(input) = input else {
        return Ok(Stdio::null());
    };
    let mut file = tempfile::tempfile().context("make a file for the input")?;
    file.write_all(input.as_bytes()).context("write the input")?;
    file.rewind().context("rewind the input")?;
    Ok(file.into())
}

fn text(file: &mut File) -> Result<String> {
    let mut bytes = Vec::new();
    file.rewind().context("rewind the output")?;
    file.read_to_end(&mut bytes).context("read the output")?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn output_is_returned_and_input_is_given() {
        let output = output(shell("cat; echo more"), Some("some\n"), Duration::from_secs(10)).unwrap();
        assert_eq!(output, "some\nmore\n");
    }

    #[test]
    fn a_failure_says_what_was_written_to_stderr() {
        let error = output(shell("echo why >&2; exit 3"), None, Duration::from_secs(10)).unwrap_err();
        assert!(error.to_string().contains("why"), "{error:#}");
    }

    #[test]
    fn a_command_that_does_not_end_is_killed() {
        let error = output(shell("exec sleep 60"), None, Duration::from_millis(50)).unwrap_err();
        assert!(error.to_string().contains("did not end"), "{error:#}");
    }
}
