//! Asks the admin port of a part: one small GET, on a connection of its own, within a deadline.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::TcpStream;

/// A node that takes longer than this to say how it is counts as gone.
pub(crate) const ASK_TIMEOUT: Duration = Duration::from_secs(2);
/// The list of images of a large cluster, and some.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Why a part did not answer as it should.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AskError {
    /// Nothing that understands us answers there.
    #[error("{0}")]
    Unreachable(String),
    /// It answers, but not with what was asked for.
    #[error("{0}")]
    Refused(String),
    /// It knows of no such thing.
    #[error("not known here")]
    NotFound,
}

/// Asks for the JSON document at `path`.
pub(crate) async fn ask<T: DeserializeOwned>(admin: SocketAddr, path: &str) -> Result<T, AskError> {
    let (status, body) = get(admin, path).await?;
    match status {
        StatusCode::OK => serde_json::from_slice(&body)
            .map_err(|error| AskError::Refused(format!("answered {path} with something else: {error}"))),
        StatusCode::NOT_FOUND => Err(AskError::NotFound),
        _ => Err(AskError::Refused(error_text(status, &body))),
    }
}

/// Whether the part says it is ready; if not, why.
pub(crate) async fn readiness(admin: SocketAddr) -> Result<(), AskError> {
    let (status, body) = get(admin, "/readyz").await?;
    if status == StatusCode::OK {
        return Ok(());
    }
    let reasons: Vec<_> = String::from_utf8_lossy(&body).lines().map(str::to_owned).collect();
    Err(AskError::Refused(reasons.join(", ")))
}

async fn get(admin: SocketAddr, path: &str) -> Result<(StatusCode, Bytes), AskError> {
    match tokio::time::timeout(ASK_TIMEOUT, exchange(admin, path)).await {
        Ok(exchanged) => exchanged.map_err(|error| AskError::Unreachable(error.to_string())),
        Err(_elapsed) => Err(AskError::Unreachable(format!("no answer in {ASK_TIMEOUT:?}"))),
    }
}

type ExchangeError = Box<dyn std::error::Error + Send + Sync>;

async fn exchange(admin: SocketAddr, path: &str) -> Result<(StatusCode, Bytes), ExchangeError> {
    let stream = TcpStream::connect(admin).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let request = Request::get(path)
        .header(header::HOST, admin.to_string())
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())?;
    let answering = async {
        let response = sender.send_request(request).await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await?;
        Ok((status, body.to_bytes()))
    };
    tokio::pin!(answering);
    tokio::select! {
        answered = &mut answering => answered,
        // The connection may be done before its last answer is read.
        ended = connection => match ended {
            Ok(()) => answering.await,
            Err(error) => Err(error.into()),
        },
    }
}

fn error_text(status: StatusCode, body: &[u8]) -> String {
    let document: Option<serde_json::Value> = serde_json::from_slice(body).ok();
    let text = document.as_ref().and_then(|document| document.get("error")?.as_str());
    text.map_or_else(|| format!("answered {status}"), str::to_owned)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use daemon::admin::{Admin, AdminError};
    use daemon::readiness::Readiness;
    use daemon::shutdown::{Phase, Shutdown};
    use daemon::telemetry::Metrics;
    use tokio::net::TcpListener;

    use super::*;

    async fn serve(shutdown: &Shutdown, readiness: &Readiness) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        Admin::new(readiness.clone(), Metrics::install().unwrap())
            .json("/status", async |_| Ok(BTreeMap::from([("term", 4)])))
            .json("/images", async |_| {
                Err::<(), _>(AdminError::Unavailable("disk gone".to_owned()))
            })
            .start(listener, shutdown.tasks(Phase::Flush));
        address
    }

    #[tokio::test]
    async fn documents_and_refusals_are_told_apart() {
        let shutdown = Shutdown::new();
        let readiness = Readiness::new(&shutdown);
        let admin = serve(&shutdown, &readiness).await;
        let status: BTreeMap<String, u64> = ask(admin, "/status").await.unwrap();
        assert_eq!(status["term"], 4);
        let refused = ask::<()>(admin, "/images").await.unwrap_err();
        assert_eq!(refused, AskError::Refused("disk gone".to_owned()));
        assert_eq!(ask::<()>(admin, "/nothing").await, Err(AskError::NotFound));
    }

    #[tokio::test]
    async fn reasons_of_unreadiness_are_passed_on() {
        let shutdown = Shutdown::new();
        let readiness = Readiness::new(&shutdown);
        let admin = serve(&shutdown, &readiness).await;
        let gate = readiness.gate("raft");
        gate.close("no leader yet");
        let unready = AskError::Refused("raft: no leader yet".to_owned());
        assert_eq!(super::readiness(admin).await, Err(unready));
        gate.open();
        super::readiness(admin).await.unwrap();
    }

    #[tokio::test]
    async fn silence_is_unreachable_within_the_deadline() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let silent = listener.local_addr().unwrap();
        let asked = tokio::time::Instant::now();
        assert!(matches!(
            ask::<()>(silent, "/status").await,
            Err(AskError::Unreachable(_))
        ));
        assert!(asked.elapsed() < ASK_TIMEOUT * 2);
        drop(listener);
        assert!(matches!(
            ask::<()>(silent, "/status").await,
            Err(AskError::Unreachable(_))
        ));
    }
}
