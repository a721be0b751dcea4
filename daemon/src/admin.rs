//! The admin endpoint of a process: `/livez`, `/readyz`, `/metrics`, and JSON documents a program adds.
//!
//! Plain HTTP, meant for the pod network or loopback. It answers until the very end of the shutdown, so that
//! the last state of a process can be seen. It reads no request bodies and changes nothing.

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use serde::Serialize;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::readiness::Readiness;
use crate::task::TaskSet;
use crate::telemetry::Metrics;

/// A prober or scraper needs one connection; a leak of them must not take the memory of the process.
const CONNECTIONS_MAX: usize = 64;
/// A client that does not send its request in this time is cut off; idle connections as well.
const REQUEST_HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// What `accept` fails with (out of descriptors) passes; asking again at once would only burn the processor.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(100);

/// What a JSON document of the admin endpoint can fail with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AdminError {
    /// The query is wrong; the text says how. Answered with 400.
    #[error("{0}")]
    BadRequest(String),
    /// There is no such thing. Answered with 404.
    #[error("{0}")]
    NotFound(String),
    /// It cannot be told now; asking again later may help. Answered with 503.
    #[error("{0}")]
    Unavailable(String),
}

/// The query parameters of a request for a JSON document.
#[derive(Clone, Debug, Default)]
pub struct Parameters(HashMap<String, String>);

impl Parameters {
    /// The value of `name`, if it was given.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// The value of `name`.
    ///
    /// # Errors
    /// [`AdminError::BadRequest`] if it was not given.
    pub fn require(&self, name: &str) -> Result<&str, AdminError> {
        let missing = || AdminError::BadRequest(format!("parameter {name} is missing"));
        self.get(name).ok_or_else(missing)
    }
}

/// An admin endpoint that is not listening yet.
pub struct Admin {
    router: Router,
}

impl Admin {
    /// Makes an endpoint with `/livez`, `/readyz` (200 "ready", or 503 with one reason per line) and `/metrics`.
    pub fn new(readiness: Readiness, metrics: Metrics) -> Self {
        let router = Router::new()
            .route("/livez", get(async || "alive\n"))
            .route("/readyz", get(readyz).with_state(readiness))
            .route("/metrics", get(render_metrics).with_state(metrics));
        Self { router }
    }

    /// Adds a JSON document at `path` ("/status"), made anew for each GET from its query parameters.
    /// Errors are answered as `{"error": "..."}`.
    #[must_use]
    pub fn json<T, F, A>(self, path: &'static str, document: F) -> Self
    where
        T: Serialize,
        F: Fn(Parameters) -> A + Clone + Send + Sync + 'static,
        A: Future<Output = Result<T, AdminError>> + Send,
    {
        let handler = async move |Query(query): Query<HashMap<String, String>>| {
            let made = document(Parameters(query)).await;
            made.map(|document| Json(document).into_response())
        };
        Self {
            router: self.router.route(path, get(handler)),
        }
    }

    /// Serves on `listener` until `tasks` stop; losing the listener's task ends the process.
    pub fn start(self, listener: TcpListener, tasks: &TaskSet) {
        let connections = tasks.clone();
        let service = TowerToHyperService::new(self.router);
        tasks.spawn_critical("admin", async move {
            let stop = connections.stop_token();
            let accepting = accept(listener, service, connections);
            stop.run_until_cancelled_owned(accepting).await;
        });
    }
}

async fn accept(listener: TcpListener, service: TowerToHyperService<Router>, tasks: TaskSet) -> Infallible {
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let slot = Arc::clone(&slots).acquire_owned().await;
        match listener.accept().await {
            Ok((stream, _peer)) => {
                let serving = serve(stream, service.clone(), tasks.clone());
                tasks.spawn_request(async move {
                    let _slot = slot;
                    serving.await;
                });
            }
            Err(error) => {
                tracing::warn!(%error, "admin endpoint cannot accept");
                tokio::time::sleep(ACCEPT_RETRY_DELAY).await;
            }
        }
    }
}

async fn serve(stream: TcpStream, service: TowerToHyperService<Router>, tasks: TaskSet) {
    let stop = tasks.stop_token();
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(REQUEST_HEADER_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let served = tokio::select! {
        served = connection.as_mut() => served,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = served {
        tracing::debug!(%error, "admin connection ended");
    }
}

async fn readyz(State(readiness): State<Readiness>) -> (StatusCode, String) {
    let reasons = readiness.unready_reasons();
    if reasons.is_empty() {
        return (StatusCode::OK, "ready\n".to_owned());
    }
    (StatusCode::SERVICE_UNAVAILABLE, reasons.join("\n") + "\n")
}

async fn render_metrics(State(metrics): State<Metrics>) -> impl IntoResponse {
    const TEXT_FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";
    ([(header::CONTENT_TYPE, TEXT_FORMAT)], metrics.render())
}

impl IntoResponse for AdminError {
    fn into_response(self) -> Response {
        let status = match self {
            Self::BadRequest(_) => StatusCode::BAD_REQUEST,
            Self::NotFound(_) => StatusCode::NOT_FOUND,
            Self::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
        };
        let document = HashMap::from([("error", self.to_string())]);
        (status, Json(document)).into_response()
    }
}

#[cfg(test)]
mod tests;
