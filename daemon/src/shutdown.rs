//! The end of a process, in order: unready, stop accepting and drain, stop workers, flush, exit.
//!
//! A [`Shutdown`] owns one [`TaskSet`] per [`Phase`]. Whoever begins it (a signal, a parent that went away, a
//! critical task that ended, the program itself) only gives the reason; [`Shutdown::run`] does the rest within
//! one grace deadline. A second signal ends the process at once.

use std::io::{self, Read};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::task::{StillRunning, TaskEnded, TaskSet};

/// Kubernetes' default grace period is 30 s; a process that takes less than that is never killed halfway.
pub const GRACE_DEFAULT: Duration = Duration::from_secs(25);

/// The exit code of a process that a second signal ended, as a shell reports an interrupted program.
const EXIT_INTERRUPTED: i32 = 130;

/// When in the shutdown a task is told to stop. Each phase begins when the one before is joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Listeners and connections: accept no more, finish the requests in hand.
    Serve,
    /// Background work: fills, repair, refresh, Raft.
    Work,
    /// What must outlive the work: the admin endpoint, writers that flush.
    Flush,
}

impl Phase {
    const ORDER: [Self; 3] = [Self::Serve, Self::Work, Self::Flush];
}

/// Why the process is ending.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Cause {
    /// SIGTERM or SIGINT.
    #[error("signal {0}")]
    Signal(&'static str),
    /// The process that started this one went away (standard input closed).
    #[error("parent process gone")]
    ParentGone,
    /// The program had done what it was for, or was told to stop by its owner.
    #[error("{0}")]
    Requested(&'static str),
    /// The program cannot go on, and why. The process ends as failed.
    #[error("{0}")]
    Failed(String),
    /// A task the process cannot do without is no longer there.
    #[error(transparent)]
    TaskEnded(#[from] TaskEnded),
}

/// How a process ended. [`crate::runtime`] turns it into an exit code.
#[derive(Debug)]
pub struct Ended {
    /// What began the shutdown.
    pub cause: Cause,
    /// Phases whose tasks did not stop in time.
    pub still_running: Vec<StillRunning>,
}

/// The one object through which a process ends. Clones share it.
#[derive(Clone)]
pub struct Shutdown {
    begun: Begun,
    sets: [TaskSet; Phase::ORDER.len()],
}

#[derive(Clone)]
struct Begun {
    token: CancellationToken,
    cause: Arc<OnceLock<Cause>>,
}

impl Begun {
    fn begin(&self, cause: Cause) {
        // The first cause is the real one; what follows is usually its consequence.
        if self.cause.set(cause).is_ok() {
            self.token.cancel();
        }
    }
}

impl Default for Shutdown {
    fn default() -> Self {
        Self::new()
    }
}

impl Shutdown {
    /// Makes a shutdown that nothing has begun.
    pub fn new() -> Self {
        let begun = Begun {
            token: CancellationToken::new(),
            cause: Arc::default(),
        };
        let sets = Phase::ORDER.map(|_phase| {
            let begun = begun.clone();
            TaskSet::new(CancellationToken::new(), move |end| {
                tracing::error!(error = %end, "critical task lost, stopping");
                begun.begin(Cause::TaskEnded(end));
            })
        });
        Self { begun, sets }
    }

    /// The tasks that stop in `phase`.
    pub fn tasks(&self, phase: Phase) -> &TaskSet {
        &self.sets[phase as usize]
    }

    /// Begins the shutdown. The first cause is kept, later calls do nothing.
    pub fn begin(&self, cause: Cause) {
        self.begun.begin(cause);
    }

    /// Whether the shutdown has begun: the process is no longer ready, though it still answers.
    pub fn is_begun(&self) -> bool {
        self.begun.token.is_cancelled()
    }

    /// Cancelled when the shutdown begins, before the first phase.
    pub fn begun_token(&self) -> CancellationToken {
        self.begun.token.clone()
    }

    /// Begins the shutdown at the first SIGTERM or SIGINT and exits at once, with code 130, at the second.
    ///
    /// # Errors
    /// If the operating system refuses the signal handlers.
    pub fn begin_on_signals(&self) -> io::Result<()> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let begun = self.begun.clone();
        // Not waited for at the end: it must hear the second signal while everything else is joined.
        let abandoned = TaskSet::new(CancellationToken::new(), |_end| {});
        abandoned.spawn("signals", async move {
            loop {
                let name = tokio::select! {
                    _ = terminate.recv() => "SIGTERM",
                    _ = interrupt.recv() => "SIGINT",
                };
                if begun.token.is_cancelled() {
                    tracing::warn!(signal = name, "second signal, exiting at once");
                    std::process::exit(EXIT_INTERRUPTED);
                }
                tracing::info!(signal = name, "stopping");
                begun.begin(Cause::Signal(name));
            }
        });
        Ok(())
    }

    /// Begins the shutdown when standard input ends: for a child whose parent holds the other end of the pipe
    /// open and may be killed without a chance to say goodbye.
    ///
    /// # Errors
    /// If the thread that reads cannot be started.
    pub fn begin_when_stdin_ends(&self) -> io::Result<()> {
        const STACK_BYTES: usize = 64 * 1024;
        let begun = self.begun.clone();
        // A thread, because a blocking read on the runtime's own pool would hold up its end.
        let thread = std::thread::Builder::new()
            .name("stdin".to_owned())
            .stack_size(STACK_BYTES);
        thread.spawn(move || {
            discard_until_end(&mut io::stdin().lock());
            begun.begin(Cause::ParentGone);
        })?;
        Ok(())
    }

    /// Waits until the shutdown begins, then stops the phases in order, all of them within `grace`.
    ///
    /// A phase that does not stop in time is aborted, and the phases after it still get their turn for a
    /// moment, so that a hanging connection never costs a flush.
    pub async fn run(&self, grace: Duration) -> Ended {
        const LAST_CHANCE: Duration = Duration::from_millis(500);
        self.begun.token.cancelled().await;
        let deadline = Instant::now() + grace;
        let mut still_running = Vec::new();
        for phase in Phase::ORDER {
            let left = deadline.saturating_duration_since(Instant::now());
            let stopped = self.tasks(phase).stop(left.max(LAST_CHANCE)).await;
            if let Err(hung) = stopped {
                tracing::warn!(?phase, error = %hung, "tasks did not stop");
                still_running.push(hung);
            }
        }
        Ended {
            cause: self.cause(),
            still_running,
        }
    }

    /// Drops every task at its next wait, as a crash would. For tests that kill a node inside one process.
    pub fn abort(&self) {
        self.begin(Cause::Requested("aborted"));
        self.sets.iter().for_each(TaskSet::abort);
    }

    fn cause(&self) -> Cause {
        let cause = self.begun.cause.get().cloned();
        cause.unwrap_or(Cause::Requested("stopped"))
    }
}

fn discard_until_end(input: &mut impl Read) {
    let mut buffer = [0; 64];
    loop {
        match input.read(&mut buffer) {
            Ok(0) => return,
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return,
            Ok(_) | Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::sync::{Mutex, PoisonError};

    use super::*;

    type Journal = Arc<Mutex<Vec<&'static str>>>;

    fn note_when_stopped(shutdown: &Shutdown, phase: Phase, journal: &Journal, name: &'static str) {
        let stop = shutdown.tasks(phase).stop_token();
        let journal = Arc::clone(journal);
        shutdown.tasks(phase).spawn_critical(name, async move {
            stop.cancelled().await;
            tokio::time::sleep(Duration::from_millis(10)).await;
            let mut journal = journal.lock().unwrap_or_else(PoisonError::into_inner);
            journal.push(name);
        });
    }

    #[tokio::test(start_paused = true)]
    async fn phases_stop_in_order() {
        let shutdown = Shutdown::new();
        let journal = Journal::default();
        note_when_stopped(&shutdown, Phase::Flush, &journal, "flush");
        note_when_stopped(&shutdown, Phase::Work, &journal, "work");
        note_when_stopped(&shutdown, Phase::Serve, &journal, "serve");
        shutdown.begin(Cause::Requested("test"));
        let ended = shutdown.run(GRACE_DEFAULT).await;
        assert_eq!(*journal.lock().unwrap(), ["serve", "work", "flush"]);
        assert_eq!(ended.cause, Cause::Requested("test"));
        assert!(ended.still_running.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn hanging_connection_does_not_cost_the_flush() {
        let shutdown = Shutdown::new();
        let journal = Journal::default();
        shutdown.tasks(Phase::Serve).spawn("connection", pending());
        note_when_stopped(&shutdown, Phase::Flush, &journal, "flush");
        shutdown.begin(Cause::Signal("SIGTERM"));
        let ended = shutdown.run(Duration::from_secs(3)).await;
        assert_eq!(ended.still_running.len(), 1);
        assert_eq!(ended.still_running[0].names, ["connection"]);
        assert_eq!(*journal.lock().unwrap(), ["flush"]);
    }

    #[tokio::test(start_paused = true)]
    async fn lost_critical_task_begins_the_shutdown_and_stays_its_cause() {
        let shutdown = Shutdown::new();
        shutdown.tasks(Phase::Work).spawn_critical("raft", async {});
        shutdown.begun_token().cancelled().await;
        shutdown.begin(Cause::Signal("SIGTERM"));
        let ended = shutdown.run(GRACE_DEFAULT).await;
        assert_eq!(ended.cause, Cause::TaskEnded(TaskEnded::Returned { name: "raft" }));
    }

    #[test]
    fn input_is_discarded_to_its_end() {
        let mut input = io::Cursor::new(vec![b'x'; 1000]);
        discard_until_end(&mut input);
        assert_eq!(input.position(), 1000);
    }
}
