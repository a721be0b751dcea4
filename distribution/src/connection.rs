//! One connection: HTTP/1.1 over a watched socket, ended when any of its bounds is passed.

mod progress;
mod watchdog;
mod watched;

use std::convert::Infallible;
use std::error::Error;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;
use tracing::debug;

pub(crate) use progress::{Busy, Progress};
pub(crate) use watched::Watched;

use crate::body::Body;
use crate::limits::Limits;
use watchdog::Watchdog;

/// Bytes of answers that may wait in the process for one connection. One chunk of a blob is at most 1 MiB, and a
/// second one is prepared while it is written.
const WRITE_BUFFER_BYTES_MAX: usize = 1024 * 1024;

/// How long a connection without a request is kept once the server drains: its request may be on the way.
const FIRST_REQUEST: Duration = Duration::from_secs(1);

/// Serves requests until the client goes away, a bound is passed or, once `draining`, the answer in flight is out; a
/// connection that had no request by then gets one answered.
pub(crate) async fn serve<IO, F, A>(
    io: IO,
    progress: Arc<Progress>,
    limits: &Limits,
    draining: CancellationToken,
    answer: F,
) where
    IO: AsyncRead + AsyncWrite + Unpin,
    F: Fn(Request<Incoming>) -> A,
    A: Future<Output = Result<Response<Body>, Infallible>>,
{
    let http = http(limits).serve_connection(TokioIo::new(io), service_fn(answer));
    let mut http = pin!(http);
    let mut watchdog = Watchdog::new(limits, Instant::now());
    let mut tick = interval(limits.tick());
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // A token of its own: waiting on the shared one would take its lock at every wake-up of every connection.
    let draining = draining.child_token();
    let drain = async {
        draining.cancelled().await;
        if !progress.had_request() {
            sleep(FIRST_REQUEST).await;
        }
    };
    let mut drain = pin!(drain);
    let mut drain_seen = false;
    loop {
        tokio::select! {
            biased;
            ended = http.as_mut() => {
                if let Err(err) = ended {
                    debug!(error = &err as &dyn Error, "connection ended");
                }
                return;
            }
            () = drain.as_mut(), if !drain_seen => {
                drain_seen = true;
                http.as_mut().graceful_shutdown();
            }
            now = tick.tick() => {
                if let Some(bound) = watchdog.look(&progress, now) {
                    debug!(bound, "connection closed");
                    return;
                }
            }
        }
    }
}

fn http(limits: &Limits) -> http1::Builder {
    let mut http = http1::Builder::new();
    // The watchdog keeps the header bound without setting a timer for every request. `pipeline_flush` stays off:
    // it loses the answer to a malformed head (hyper 1.12), and no client here pipelines.
    http.header_read_timeout(None)
        .max_header_size(limits.head_bytes_max)
        .max_buf_size(WRITE_BUFFER_BYTES_MAX.max(limits.head_bytes_max));
    http
}
