//! A command that runs beside a test and writes down what happens.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::wait;

/// How long a command may take to end once its input has ended.
const END_DEADLINE: Duration = Duration::from_secs(120);

/// Runs until it is stopped, or dropped.
#[derive(Debug)]
pub struct Recording {
    child: Child,
    output: File,
    shown: String,
}

impl Recording {
    pub(crate) fn start(mut command: Command) -> Result<Self> {
        let shown = format!("{command:?}");
        let output = tempfile::tempfile().context("make a file for the output")?;
        let child = command
            .stdin(Stdio::piped())
            .stdout(output.try_clone().context("share the output")?)
            .spawn()
            .with_context(|| format!("start {shown}"))?;
        Ok(Self { child, output, shown })
    }

    /// What it has written until now; the last line may not be whole.
    ///
    /// # Errors
    /// If that cannot be read.
    pub fn so_far(&self) -> Result<String> {
        let length = self.output.metadata().context("ask for the output's length")?.len();
        let mut bytes = vec![0; usize::try_from(length)?];
        // The file's position is the child's too, and stays where it is.
        self.output.read_exact_at(&mut bytes, 0).context("read the output")?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Kills it, and returns what it wrote.
    ///
    /// # Errors
    /// If it had ended by itself, so that what it wrote is not all there was.
    pub fn stop(mut self) -> Result<String> {
        let ended = self.child.try_wait().context("ask for a child's end")?;
        ensure!(ended.is_none(), "{} ended too early: {ended:?}", self.shown);
        self.child.kill().context("kill a child")?;
        self.child.wait().context("wait for a killed child")?;
        self.so_far()
    }

    /// Ends its input, waits for it to end by that, and returns what it wrote.
    ///
    /// # Errors
    /// If it had ended before, does not end, or fails.
    pub fn finish(mut self) -> Result<String> {
        let ended = self.child.try_wait().context("ask for a child's end")?;
        ensure!(ended.is_none(), "{} ended too early: {ended:?}", self.shown);
        drop(self.child.stdin.take());
        let (status, _) = wait::until(END_DEADLINE, &self.shown, || {
            self.child.try_wait().context("ask for a child's end")
        })?;
        ensure!(status.success(), "{}: {status}", self.shown);
        self.so_far()
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        // It has ended already, or ends with this.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
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
    fn what_was_written_until_the_stop_is_returned() {
        let recording = Recording::start(shell("echo one; exec sleep 60")).unwrap();
        let written = || Ok((recording.so_far()? == "one\n").then_some(()));
        wait::until(Duration::from_secs(10), "a line", written).unwrap();
        assert_eq!(recording.stop().unwrap(), "one\n");
    }

    #[test]
    fn one_that_reads_its_input_ends_with_it() {
        let recording = Recording::start(shell("cat; echo end")).unwrap();
        assert_eq!(recording.finish().unwrap(), "end\n");
    }

    #[test]
    fn one_that_ended_by_itself_is_an_error() {
        let mut recording = Recording::start(shell("exit 1")).unwrap();
        recording.child.wait().unwrap();
        assert!(recording.stop().unwrap_err().to_string().contains("too early"));
    }
}
