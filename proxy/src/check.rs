//! `kuik-proxy check`: whether the proxy in this container is ready, asked over a Unix socket.
//!
//! Ready means that its listeners are bound and accepting and that it is not stopping. The cache nodes do not count,
//! since it pulls from sources without them. A port could not be asked instead: two proxies share each while one takes
//! over from the other.

use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use daemon::readiness::Readiness;
use daemon::shutdown::{Phase, Shutdown};
use tokio::net::UnixListener;

/// What is answered when all is well.
const READY: &str = "ready\n";
/// A proxy that does not answer within this is not well; a probe of Kubernetes waits as long.
const DEADLINE: Duration = Duration::from_secs(1);
/// An answer is a line per closed gate.
const ANSWER_BYTES_MAX: u64 = 4096;
/// What `accept` fails with (out of descriptors) passes; asking again at once would only burn the processor.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(100);

/// Why a check failed, or cannot be answered.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// Nobody answers.
    #[error("no proxy answers at {}", path.display())]
    Unanswered {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It answers that it is not ready.
    #[error("not ready: {reasons}")]
    NotReady {
        /// One per closed gate.
        reasons: String,
    },
    /// The socket cannot be made.
    #[error("listen on {}", path.display())]
    Listen {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Asks the proxy behind `socket`; returns once it said that it is ready.
///
/// # Errors
/// [`CheckError::Unanswered`], also after a second of silence, and [`CheckError::NotReady`].
pub fn ask(socket: &Path) -> Result<(), CheckError> {
    let answer = read_answer(socket).map_err(|source| CheckError::Unanswered {
        path: socket.to_owned(),
        source,
    })?;
    if answer == READY {
        return Ok(());
    }
    Err(CheckError::NotReady {
        reasons: answer.trim().replace('\n', ", "),
    })
}

fn read_answer(socket: &Path) -> io::Result<String> {
    let stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(DEADLINE))?;
    let mut answer = String::new();
    stream.take(ANSWER_BYTES_MAX).read_to_string(&mut answer)?;
    Ok(answer)
}

/// Answers whoever connects to `socket`, until the end of the shutdown. A socket that an earlier proxy left is replaced.
///
/// # Errors
/// [`CheckError::Listen`].
pub fn serve(socket: &Path, readiness: Readiness, shutdown: &Shutdown) -> Result<(), CheckError> {
    let listen = || {
        match std::fs::remove_file(socket) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        UnixListener::bind(socket)
    };
    let listener = listen().map_err(|source| CheckError::Listen {
        path: socket.to_owned(),
        source,
    })?;
    let tasks = shutdown.tasks(Phase::Flush);
    let stop = tasks.stop_token();
    tasks.spawn_critical("check", async move {
        stop.run_until_cancelled(answer_all(&listener, &readiness)).await;
    });
    Ok(())
}

async fn answer_all(listener: &UnixListener, readiness: &Readiness) {
    loop {
        match listener.accept().await {
            // A line fits the buffer of a new socket; a caller that is gone needs no answer.
            Ok((stream, _caller)) => drop(stream.try_write(answer(readiness).as_bytes())),
            Err(error) => {
                tracing::warn!(%error, "check socket cannot accept");
                tokio::time::sleep(ACCEPT_RETRY_DELAY).await;
            }
        }
    }
}

fn answer(readiness: &Readiness) -> String {
    match readiness.unready_reasons() {
        reasons if reasons.is_empty() => READY.to_owned(),
        reasons => reasons.join("\n"),
    }
}

#[cfg(test)]
mod tests {
    use daemon::shutdown::Cause;

    use super::*;

    async fn asked(socket: &Path) -> Result<(), CheckError> {
        let socket = socket.to_owned();
        tokio::task::spawn_blocking(move || ask(&socket)).await.unwrap()
    }

    #[tokio::test]
    async fn what_is_not_ready_is_told_and_stopping_is_not_ready() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("proxy.sock");
        assert!(matches!(asked(&socket).await, Err(CheckError::Unanswered { .. })));
        // As a crash leaves it.
        drop(UnixListener::bind(&socket).unwrap());
        assert!(matches!(asked(&socket).await, Err(CheckError::Unanswered { .. })));
        let shutdown = Shutdown::new();
        let readiness = Readiness::new(&shutdown);
        let gate = readiness.gate("proxy");
        serve(&socket, readiness, &shutdown).unwrap();
        assert_eq!(
            asked(&socket).await.unwrap_err().to_string(),
            "not ready: proxy: starting"
        );
        gate.open();
        asked(&socket).await.unwrap();
        shutdown.begin(Cause::Signal("SIGTERM"));
        assert!(matches!(asked(&socket).await, Err(CheckError::NotReady { .. })));
    }
}
