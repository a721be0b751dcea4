//! Runs one child process: starts it, starts it again when it dies, stops it in order.
//!
//! A child is in a process group of its own, so that the terminal's Ctrl-C reaches it through us and in order. Its
//! standard input is a pipe that we hold: when we are gone, however, it ends, and the child with it.

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use daemon::task::TaskSet;
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::child_log;
use crate::console::Console;

/// Wait before the first restart; doubles with each one.
const BACKOFF_MIN: Duration = Duration::from_millis(200);
/// Restarts are never further apart than this: whoever repairs the cause does not wait long.
const BACKOFF_MAX: Duration = Duration::from_secs(10);
/// A child that lived this long had started well, so the next wait is the shortest again.
const LIVED_WELL: Duration = Duration::from_secs(30);
/// A little more than the grace the children give themselves.
const STOP_GRACE: Duration = Duration::from_secs(27);
const LOG_CHECK_INTERVAL: Duration = Duration::from_secs(30);
/// The exit code of a program that cannot start as it is configured (`daemon::runtime`).
const EXIT_BAD_START: i32 = 2;

/// What to run.
#[derive(Clone, Debug)]
pub(crate) struct ChildProgram {
    /// For people: `node-0`.
    pub(crate) name: String,
    pub(crate) path: PathBuf,
    pub(crate) arguments: Vec<OsString>,
    pub(crate) log: PathBuf,
}

/// What to do when it ends by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Restart {
    /// Start it again, unless it says that its configuration is wrong.
    Always,
    Never,
}

/// Where a child is in its life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ChildState {
    Starting,
    Running {
        pid: u32,
    },
    /// It ended by itself, and why; it is about to be started again.
    Restarting {
        reason: String,
    },
    /// It ended and stays so.
    Ended {
        reason: String,
    },
}

/// A child under supervision, as others see it.
#[derive(Clone, Debug)]
pub(crate) struct Supervised {
    pub(crate) name: String,
    pub(crate) log: PathBuf,
    state: watch::Receiver<ChildState>,
}

impl Supervised {
    pub(crate) fn state(&self) -> ChildState {
        self.state.borrow().clone()
    }

    /// Its process id while it runs.
    pub(crate) fn pid(&self) -> Option<u32> {
        match *self.state.borrow() {
            ChildState::Running { pid } => Some(pid),
            ChildState::Starting | ChildState::Restarting { .. } | ChildState::Ended { .. } => None,
        }
    }

    /// Waits until the state changes. Pending for ever once the child is no longer supervised. Cancel safe.
    pub(crate) async fn changed(&mut self) {
        if self.state.changed().await.is_err() {
            std::future::pending().await
        }
    }
}

/// Starts `program` and keeps it running as `restart` says, until `tasks` stop; then it is stopped.
pub(crate) fn start(program: ChildProgram, restart: Restart, tasks: &TaskSet, console: &Console) -> Supervised {
    let (state, watched) = watch::channel(ChildState::Starting);
    let supervised = Supervised {
        name: program.name.clone(),
        log: program.log.clone(),
        state: watched,
    };
    let supervisor = Supervisor {
        program,
        restart,
        state,
        stop: tasks.stop_token(),
        console: console.clone(),
    };
    tasks.spawn("supervisor", supervisor.run());
    supervised
}

struct Supervisor {
    program: ChildProgram,
    restart: Restart,
    state: watch::Sender<ChildState>,
    stop: CancellationToken,
    console: Console,
}

/// How one life of the child ended.
enum Life {
    Stopped,
    Ended { reason: String, may_restart: bool },
}

impl Supervisor {
    async fn run(self) {
        let mut backoff = BACKOFF_MIN;
        while !self.stop.is_cancelled() {
            let born = Instant::now();
            let Life::Ended { reason, may_restart } = self.live().await else {
                return;
            };
            if !may_restart {
                return self.end(reason).await;
            }
            if born.elapsed() >= LIVED_WELL {
                backoff = BACKOFF_MIN;
            }
            self.console.note(&format!(
                "{}: {reason}; starting it again in {backoff:?}",
                self.program.name
            ));
            self.state.send_replace(ChildState::Restarting { reason });
            self.stop.run_until_cancelled(tokio::time::sleep(backoff)).await;
            backoff = (backoff * 2).min(BACKOFF_MAX);
        }
    }

    async fn end(&self, reason: String) {
        self.console.note(&format!("{}: {reason}", self.program.name));
        self.state.send_replace(ChildState::Ended { reason });
        // The state stays visible until the whole cluster stops.
        self.stop.cancelled().await;
    }

    /// Runs the program once.
    async fn live(&self) -> Life {
        let (mut child, pid) = match self.spawn() {
            Ok(spawned) => spawned,
            Err(error) => {
                let reason = format!("cannot start {}: {error}", self.program.path.display());
                return self.ended(reason, true);
            }
        };
        // Waiting for a child closes its standard input, unless that is held elsewhere.
        let _held_open = child.stdin.take();
        self.state.send_replace(ChildState::Running {
            pid: pid.as_raw_pid().unsigned_abs(),
        });
        let status = tokio::select! {
            status = child.wait() => status,
            () = self.stop.cancelled() => {
                self.terminate(&mut child, pid).await;
                return Life::Stopped;
            }
            () = self.keep_log_small() => return Life::Stopped,
        };
        match status {
            Ok(status) => self.ended(self.describe(status, pid), status.code() != Some(EXIT_BAD_START)),
            Err(error) => self.ended(format!("lost: {error}"), true),
        }
    }

    fn describe(&self, status: ExitStatus, pid: Pid) -> String {
        let pid = pid.as_raw_pid();
        let Some(code) = status.code() else {
            return format!("process {pid} ended by {status}");
        };
        let why = child_log::last_error(&self.program.log).filter(|_error| code != 0);
        let why = why.map(|error| format!(": {error}")).unwrap_or_default();
        format!("process {pid} ended with code {code}{why}")
    }

    fn ended(&self, reason: String, may_restart: bool) -> Life {
        let may_restart = may_restart && self.restart == Restart::Always;
        Life::Ended { reason, may_restart }
    }

    fn spawn(&self) -> io::Result<(Child, Pid)> {
        let log = child_log::open(&self.program.log)?;
        let child = Command::new(&self.program.path)
            .args(&self.program.arguments)
            .stdin(Stdio::piped())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        let pid = child.id().and_then(|pid| Pid::from_raw(pid.cast_signed()));
        let pid = pid.ok_or_else(|| io::Error::other("it ended at once"))?;
        Ok((child, pid))
    }

    async fn terminate(&self, child: &mut Child, pid: Pid) {
        // The child has not been waited for, so its id cannot belong to anyone else.
        let asked = kill_process(pid, Signal::TERM);
        let ended = tokio::time::timeout(STOP_GRACE, child.wait()).await;
        if asked.is_err() || ended.is_err() {
            self.console.note(&format!(
                "{}: did not stop in {STOP_GRACE:?}, killed",
                self.program.name
            ));
            // It can only fail if the child is gone already.
            let _gone = child.kill().await;
        }
    }

    async fn keep_log_small(&self) {
        let mut ticks = tokio::time::interval(LOG_CHECK_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if let Err(error) = child_log::keep_small(&self.program.log) {
                self.console
                    .note(&format!("{}: its log cannot be kept small: {error}", self.program.name));
            }
        }
    }
}

#[cfg(test)]
mod tests;
