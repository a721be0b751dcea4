//! The HTTPS port the API server asks.
//!
//! Everything is bounded: connections, bodies, reviews at once, time. What does not fit is let through.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use daemon::runtime::one_line;
use daemon::task::TaskSet;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::metrics::Outcome;
use crate::review::{Review, answer};
use crate::reviewer::{REVIEW_DEADLINE, SharedReviewer};

/// Where kube-image-keeper v1 answered.
pub(crate) const REVIEW_PATH: &str = "/mutate-core-v1-pod";
/// A review holds a pod twice at most, and an API server takes 3 MiB per object.
const BODY_BYTES_MAX: usize = 8 << 20;
/// Bytes of bodies in memory at once. A body is about 10 KiB, so this is thousands of them.
const BODIES_BYTES_MAX: usize = 32 << 20;
/// A share of [`BODIES_BYTES_MAX`].
const BODY_SHARE_BYTES: usize = 1 << 10;
/// API servers keep a few dozen connections each.
const CONNECTIONS_MAX: usize = 512;
/// A client that has not shaken hands after this is gone.
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(5);
/// An idle connection; longer than the 90 s after which an API server closes it, so that none is closed under a request.
const IDLE_MAX: Duration = Duration::from_secs(120);
/// The answer has to be back before the API server stops listening.
const ANSWER_MARGIN: Duration = Duration::from_millis(300);
/// After the stop the port answers for this long, until every API server has heard that it goes.
const LINGER: Duration = Duration::from_secs(5);
/// What `accept` fails with (out of descriptors) passes; asking again at once would only burn the processor.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(100);

#[derive(Clone)]
struct Reviews {
    reviewer: SharedReviewer,
    room: Arc<Semaphore>,
}

/// Serves on `listener` until `tasks` stop, and [`LINGER`] longer. Losing the listener's task ends the process.
pub(crate) fn start(listener: TcpListener, tls: Arc<ServerConfig>, reviewer: SharedReviewer, tasks: &TaskSet) {
    let reviews = Reviews {
        reviewer,
        room: Arc::new(Semaphore::new(BODIES_BYTES_MAX / BODY_SHARE_BYTES)),
    };
    let router = Router::new().route(REVIEW_PATH, post(review)).with_state(reviews);
    let (connections, stop, closing) = (tasks.clone(), tasks.stop_token(), CancellationToken::new());
    let port = Port {
        tls: TlsAcceptor::from(tls),
        service: TowerToHyperService::new(router),
        closing: closing.clone(),
    };
    tasks.spawn_critical("admission", async move {
        let lingered = async {
            stop.cancelled().await;
            tokio::time::sleep(LINGER).await;
        };
        tokio::select! {
            never = port.accept(listener, connections) => match never {},
            () = lingered => closing.cancel(),
        }
    });
}

#[derive(Clone)]
struct Port {
    tls: TlsAcceptor,
    service: TowerToHyperService<Router>,
    closing: CancellationToken,
}

impl Port {
    async fn accept(&self, listener: TcpListener, tasks: TaskSet) -> Infallible {
        let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            let slot = Arc::clone(&slots).acquire_owned().await;
            match listener.accept().await {
                Ok((stream, _peer)) => {
                    let port = self.clone();
                    tasks.spawn_request(async move {
                        let _slot = slot;
                        port.serve(stream).await;
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "admission port cannot accept");
                    tokio::time::sleep(ACCEPT_RETRY_DELAY).await;
                }
            }
        }
    }

    async fn serve(self, stream: TcpStream) {
        let shaken = tokio::time::timeout(HANDSHAKE_DEADLINE, self.tls.accept(stream)).await;
        let stream = match shaken {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return tracing::debug!(%error, "TLS handshake failed"),
            Err(_elapsed) => return tracing::debug!("TLS handshake took too long"),
        };
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(IDLE_MAX)
            .serve_connection(TokioIo::new(stream), self.service);
        tokio::pin!(connection);
        let served = tokio::select! {
            served = connection.as_mut() => served,
            () = self.closing.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = served {
            tracing::debug!(%error, "admission connection ended");
        }
    }
}

async fn review(State(reviews): State<Reviews>, request: Request) -> Response {
    let metrics = &reviews.reviewer.metrics;
    let time = time_of(request.uri().query()).saturating_sub(ANSWER_MARGIN);
    let deadline = Instant::now() + time.min(REVIEW_DEADLINE);
    let read = timeout_at(deadline, read(request, &reviews.room)).await;
    let (body, _room) = match read.unwrap_or(Err(StatusCode::SERVICE_UNAVAILABLE)) {
        Ok(read) => read,
        Err(status) => {
            metrics.reviewed(Outcome::Unread, Duration::ZERO);
            return status.into_response();
        }
    };
    match Review::parse(&body) {
        Ok(review) => {
            let patch = reviews.reviewer.review(review.incoming, deadline).await;
            let json = [(header::CONTENT_TYPE, "application/json")];
            (json, answer(&review.uid, &patch)).into_response()
        }
        Err(error) => {
            let error = one_line(&error);
            tracing::warn!(error, "no admission review");
            metrics.reviewed(Outcome::Malformed, Duration::ZERO);
            (StatusCode::BAD_REQUEST, error + "\n").into_response()
        }
    }
}

/// The body, once there is room for it.
async fn read(request: Request, room: &Semaphore) -> Result<(Bytes, SemaphorePermit<'_>), StatusCode> {
    let length = request.headers().get(header::CONTENT_LENGTH);
    let length = length.and_then(|length| length.to_str().ok()?.parse().ok());
    let length: usize = length.ok_or(StatusCode::LENGTH_REQUIRED)?;
    if length > BODY_BYTES_MAX {
        return Err(StatusCode::PAYLOAD_TOO_LARGE);
    }
    let shares = u32::try_from(length / BODY_SHARE_BYTES + 1).unwrap_or(u32::MAX);
    let room = room.acquire_many(shares).await;
    let room = room.map_err(|_closed| StatusCode::SERVICE_UNAVAILABLE)?;
    let body = axum::body::to_bytes(request.into_body(), BODY_BYTES_MAX).await;
    let body = body.map_err(|_cut_short| StatusCode::BAD_REQUEST)?;
    Ok((body, room))
}

/// How long the API server waits: it says so in `?timeout=10s`.
fn time_of(query: Option<&str>) -> Duration {
    let mut parameters = query.unwrap_or_default().split('&');
    let timeout = parameters.find_map(|parameter| parameter.strip_prefix("timeout="));
    let seconds = timeout.and_then(|text| text.strip_suffix('s')?.parse().ok());
    seconds.map_or(Duration::MAX, Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn api_servers_say_how_long_they_wait() {
        assert_eq!(time_of(Some("timeout=2s")), Duration::from_secs(2));
        assert_eq!(time_of(Some("a=b&timeout=10s")), Duration::from_secs(10));
        for unknown in [None, Some(""), Some("timeout=1m0s"), Some("timeout=")] {
            assert_eq!(time_of(unknown), Duration::MAX);
        }
    }
}
