//! A child process that does not outlive its owner, its output in a file.

use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::wait;

/// How long a process may take to end by itself before it is killed; `kuik up` gives its children 27 s.
const GRACE: Duration = Duration::from_secs(40);

/// How much of a log is shown when a process fails.
const LOG_TAIL_LINES: usize = 40;

/// A running child. Dropping it ends it: politely, then not.
#[derive(Debug)]
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command` with its output going to `log` and no input.
    ///
    /// # Errors
    /// If the program is not there or cannot be started.
    pub fn start(command: &mut Command, log: &Path) -> Result<Self> {
        let output = File::create(log).with_context(|| format!("create {}", log.display()))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(output.try_clone().context("share the log")?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("start {:?}", command.get_program()))?;
        Ok(Self {
            child,
            log: log.to_owned(),
        })
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How the process ended, if it has.
    ///
    /// # Errors
    /// If the system cannot say.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.child.try_wait().context("ask for a child's end")
    }

    /// Fails if the process is no longer there, with the end of its log.
    ///
    /// # Errors
    /// If it has ended.
    pub fn check(&mut self) -> Result<()> {
        match self.ended()? {
            None => Ok(()),
            Some(status) => bail!("{status}\n{}", self.log_tail()),
        }
    }

    /// The last lines of its output.
    pub fn log_tail(&self) -> String {
        tail_of(&self.log)
    }

    /// Asks the process to end, and kills it if it does not within a grace period.
    ///
    /// # Errors
    /// If it had to be killed, with the end of its log.
    pub fn stop(&mut self) -> Result<ExitStatus> {
        if let Some(status) = self.ended()? {
            return Ok(status);
        }
        signal(self.pid(), Signal::TERM)?;
        match wait::until(GRACE, "a process to end", || self.ended()) {
            Ok(status) => Ok(status),
            Err(error) => {
                self.kill()?;
                Err(error.context(self.log_tail()))
            }
        }
    }

    /// Kills the process at once, as a crash would.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill().context("kill a child")?;
        self.child.wait().context("wait for a killed child")?;
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.stop().is_err() {
            // Nothing is left to be done about a child that can be neither stopped nor killed.
            let _ = self.kill();
        }
    }
}

/// The last lines of a log; nothing if it cannot be read.
pub(crate) fn tail_of(log: &Path) -> String {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LOG_TAIL_LINES)..].join("\n")
}

/// Sends a signal to a process.
///
/// # Errors
/// If there is no such process.
pub(crate) fn signal(pid: u32, signal: Signal) -> Result<()> {
    let pid = i32::try_from(pid)
        .ok()
        .and_then(Pid::from_raw)
        .context("a process id")?;
    kill_process(pid, signal).with_context(|| format!("signal process {}", pid.as_raw_nonzero()))
}

/// Whether a process is there and not yet a zombie.
pub(crate) fn is_alive(pid: u32) -> bool {
    stat(pid).is_ok_and(|fields| fields[0] != "Z" && fields[0] != "X")
}

/// The processor time a process has used so far, its ended children left out.
///
/// # Errors
/// If there is no such process.
pub fn cpu_seconds(pid: u32) -> Result<f64> {
    /// Linux reports these in hundredths of a second on every machine (`USER_HZ`).
    const TICKS_PER_SECOND: f64 = 100.0;
    let fields = stat(pid)?;
    let ticks = |index: usize| -> Result<f64> { fields[index].parse().context("a number of ticks") };
    Ok((ticks(11)? + ticks(12)?) / TICKS_PER_SECOND)
}

/// A process and its children, in no order.
pub fn with_children(pid: u32) -> Vec<u32> {
    let path = format!("/proc/{pid}/task/{pid}/children");
    let children = std::fs::read_to_string(path).unwrap_or_default();
    children
        .split_whitespace()
        .filter_map(|word| word.parse().ok())
        .chain([pid])
        .collect()
}

/// The physical memory a process holds now.
///
/// # Errors
/// If there is no such process.
pub fn resident_bytes(pid: u32) -> Result<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).with_context(|| format!("process {pid}"))?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .context("no VmRSS")?;
    let kibibytes: u64 = line.trim().trim_end_matches(" kB").parse().context("VmRSS")?;
    Ok(kibibytes * 1024)
}

/// The fields of `/proc/PID/stat` from the third (the state) on.
fn stat(pid: u32) -> Result<Vec<String>> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).with_context(|| format!("process {pid}"))?;
    let (_, rest) = text.rsplit_once(')').context("no end of the name in /proc/PID/stat")?;
    Ok(rest.split_whitespace().map(str::to_owned).collect())
}

/// A loopback port that nothing listened on a moment ago.
///
/// # Errors
/// If there is none.
pub fn free_port() -> Result<u16> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).context("find a free port")?;
    Ok(listener.local_addr().context("read the port")?.port())
}

/// One of our programs, built beside the test or in `KUIK_BIN_DIR`.
///
/// # Errors
/// If it has not been built.
pub fn program(name: &str) -> Result<PathBuf> {
    let directory = match std::env::var_os("KUIK_BIN_DIR") {
        Some(directory) => PathBuf::from(directory),
        None => {
            let test = std::env::current_exe().context("find this test's program")?;
            let beside = test.ancestors().find(|path| !path.ends_with("deps") && path.is_dir());
            beside.context("a program has no directory")?.to_owned()
        }
    };
    let path = directory.join(name);
    if !path.is_file() {
        bail!("no {}: run `cargo xtask e2e`, which builds it", path.display());
    }
    Ok(path)
}
