//! One way to start a program: how many threads it gets, and which exit code tells what happened.
//!
//! | code | meaning |
//! |---|---|
//! | 0 | stopped in order, because it was asked to or had nothing left to do |
//! | 1 | failed: an error on the way, a critical task lost, or tasks that did not stop in time |
//! | 2 | never started: a wrong argument or configuration |
//! | 130 | a second signal during the shutdown |

use std::error::Error;
use std::future::Future;
use std::num::NonZeroUsize;
use std::process::ExitCode;
use std::time::Duration;

use crate::shutdown::{Cause, Ended};

/// Overrides how many threads run tasks.
pub const WORKER_THREADS_ENV: &str = "KUIK_WORKER_THREADS";

/// More threads than this do not make one node faster: the network is full long before.
const WORKER_THREADS_MAX: usize = 16;

/// Blocking calls (disk) that may run at once; each waits on the same few disks, so more only queue there.
const BLOCKING_THREADS_MAX: usize = 64;

/// An idle blocking thread keeps its stack; a node that is idle gives them back soon.
const BLOCKING_THREAD_KEEP_ALIVE: Duration = Duration::from_secs(2);

const EXIT_FAILED: u8 = 1;
const EXIT_BAD_START: u8 = 2;

/// Why a program did not run to an orderly end.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// A wrong argument or configuration: starting again without a change will not help. Exit code 2.
    #[error(transparent)]
    BadStart(Box<dyn Error + Send + Sync>),
    /// Anything else. Exit code 1.
    #[error(transparent)]
    Failed(Box<dyn Error + Send + Sync>),
}

impl Failure {
    /// Marks `error` as one of arguments or configuration.
    pub fn bad_start(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::BadStart(error.into())
    }

    /// Marks `error` as one that starting again may get over.
    pub fn failed(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Failed(error.into())
    }
}

/// Runs `main` on a runtime with a thread per core, up to 16 ([`WORKER_THREADS_ENV`] overrides), and turns
/// how it ended into an exit code. A failure is printed to standard error as one line with its causes.
pub fn run(main: impl Future<Output = Result<Ended, Failure>>) -> ExitCode {
    run_on(WORKER_THREADS_MAX, main)
}

/// As [`run`], on at most `threads_max` threads unless [`WORKER_THREADS_ENV`] says otherwise.
pub fn run_on(threads_max: usize, main: impl Future<Output = Result<Ended, Failure>>) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(worker_threads(threads_max).get())
        .max_blocking_threads(BLOCKING_THREADS_MAX)
        .thread_keep_alive(BLOCKING_THREAD_KEEP_ALIVE)
        .thread_name("kuik")
        .enable_all()
        .build();
    let result = match runtime {
        Ok(runtime) => {
            let result = runtime.block_on(main);
            // Tasks were joined by the shutdown; what is left hangs in the kernel, and waiting would not help.
            runtime.shutdown_background();
            result
        }
        Err(error) => Err(Failure::failed(error)),
    };
    exit_code(&result)
}

/// How many threads run tasks: a thread per core the process may use, up to `threads_max`, or what
/// [`WORKER_THREADS_ENV`] says, up to 16.
fn worker_threads(threads_max: usize) -> NonZeroUsize {
    let asked = std::env::var(WORKER_THREADS_ENV).ok();
    let asked = asked.and_then(|text| text.parse().ok());
    let cores = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    let at_most = |n: NonZeroUsize, max| NonZeroUsize::new(n.get().min(max)).unwrap_or(NonZeroUsize::MIN);
    asked.map_or_else(
        || at_most(cores, threads_max),
        |asked| at_most(asked, WORKER_THREADS_MAX),
    )
}

/// An error with all its causes on one line: `read config kuik.toml: no such file`.
pub fn one_line(error: &(dyn Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| (**error).source());
    let texts: Vec<String> = causes.map(ToString::to_string).collect();
    texts.join(": ").replace('\n', " ")
}

fn exit_code(result: &Result<Ended, Failure>) -> ExitCode {
    let ended = match result {
        Ok(ended) => ended,
        Err(failure) => {
            let (code, error) = match failure {
                Failure::BadStart(error) => (EXIT_BAD_START, error),
                Failure::Failed(error) => (EXIT_FAILED, error),
            };
            eprintln!("error: {}", one_line(error.as_ref()));
            return ExitCode::from(code);
        }
    };
    match &ended.cause {
        failed @ (Cause::TaskEnded(_) | Cause::Failed(_)) => {
            eprintln!("error: {failed}");
            ExitCode::from(EXIT_FAILED)
        }
        _ if !ended.still_running.is_empty() => ExitCode::from(EXIT_FAILED),
        Cause::Signal(_) | Cause::ParentGone | Cause::Requested(_) => ExitCode::SUCCESS,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::{StillRunning, TaskEnded};

    fn ended(cause: Cause) -> Result<Ended, Failure> {
        let still_running = Vec::new();
        Ok(Ended { cause, still_running })
    }

    #[test]
    fn asked_for_end_is_success() {
        let code = exit_code(&ended(Cause::Signal("SIGTERM")));
        assert_eq!(code, ExitCode::SUCCESS);
    }

    #[test]
    fn lost_critical_task_is_failure() {
        let end = TaskEnded::Returned { name: "raft" };
        let code = exit_code(&ended(Cause::TaskEnded(end)));
        assert_eq!(code, ExitCode::from(1));
    }

    #[test]
    fn program_that_cannot_go_on_is_failure() {
        let code = exit_code(&ended(Cause::Failed("not let into the cluster".to_owned())));
        assert_eq!(code, ExitCode::from(1));
    }

    #[test]
    fn tasks_that_do_not_stop_are_failure() {
        let hung = StillRunning {
            names: vec!["scrub"],
            count: 1,
            waited: Duration::from_secs(1),
        };
        let result = Ok(Ended {
            cause: Cause::ParentGone,
            still_running: vec![hung],
        });
        assert_eq!(exit_code(&result), ExitCode::from(1));
    }

    #[test]
    fn wrong_configuration_has_its_own_code() {
        let code = exit_code(&Err(Failure::bad_start("unknown key")));
        assert_eq!(code, ExitCode::from(2));
    }

    #[test]
    fn causes_are_told_on_one_line() {
        #[derive(Debug, thiserror::Error)]
        #[error("read config")]
        struct Outer(#[source] std::io::Error);
        let error = Outer(std::io::Error::other("disk\ngone"));
        assert_eq!(one_line(&error), "read config: disk gone");
    }
}
