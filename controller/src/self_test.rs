//! `kuik-controller self-test`: whether an install does what it is for. `helm test` runs it on the host's network of a node.
//!
//! Two questions: does the API server call the webhook for a new pod (by a dry run, so that no pod is made), and does the
//! proxy of this node answer. Right after an install both take a moment, so each is asked again for a bounded time.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::api::PostParams;
use kube::{Api, Client, ResourceExt};
use proto::pod::LABEL_MANAGED;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

/// For each question. `helm test` gives up after five minutes.
const DEADLINE: Duration = Duration::from_secs(60);
/// Between two attempts.
const RETRY: Duration = Duration::from_secs(1);
/// For one answer of the proxy.
const ANSWER: Duration = Duration::from_secs(5);
/// More than a status line needs.
const ANSWER_BYTES_MAX: u64 = 4096;

/// What does not work.
#[derive(Debug, thiserror::Error)]
pub enum SelfTestError {
    /// The API server refuses the pod, or does not answer.
    #[error("dry run of a pod in namespace {namespace}")]
    Api {
        /// Where.
        namespace: String,
        /// Why.
        source: Box<kube::Error>,
    },
    /// The pod came back as it was.
    #[error("the API server does not call the webhook for a pod in namespace {0}")]
    NotCalled(String),
    /// The proxy does not answer, or not as a registry does.
    #[error("proxy at {address}: {reason}")]
    Proxy {
        /// Where.
        address: String,
        /// What came instead.
        reason: String,
    },
}

/// Asks both questions; `namespace` is one whose pods are rewritten.
///
/// # Errors
/// [`SelfTestError`] of the last attempt, after a minute.
pub async fn self_test(client: &Client, namespace: &str, proxy_port: u16) -> Result<(), SelfTestError> {
    until_good(|| ask_webhook(client, namespace)).await?;
    until_good(|| ask_proxy(proxy_port)).await
}

async fn until_good<F: Future<Output = Result<(), SelfTestError>>>(
    mut ask: impl FnMut() -> F,
) -> Result<(), SelfTestError> {
    let end = Instant::now() + DEADLINE;
    loop {
        match ask().await {
            Err(_) if Instant::now() < end => tokio::time::sleep(RETRY).await,
            answered => return answered,
        }
    }
}

async fn ask_webhook(client: &Client, namespace: &str) -> Result<(), SelfTestError> {
    let parameters = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let seen = pods.create(&parameters, &sample()).await;
    let seen = seen.map_err(|source| SelfTestError::Api {
        namespace: namespace.to_owned(),
        source: Box::new(source),
    })?;
    match seen.labels().get(LABEL_MANAGED) {
        Some(_) => Ok(()),
        None => Err(SelfTestError::NotCalled(namespace.to_owned())),
    }
}

/// A pod that any namespace takes; its image is nowhere, which the webhook does not mind.
fn sample() -> Pod {
    let pod = json!({
        "metadata": { "name": "kuik-self-test" },
        "spec": {
            "securityContext": { "runAsNonRoot": true, "seccompProfile": { "type": "RuntimeDefault" } },
            "containers": [{
                "name": "test",
                "image": "kuik.invalid/self-test:1",
                "resources": { "requests": { "cpu": "1m", "memory": "1Mi" }, "limits": { "cpu": "1m", "memory": "1Mi" } },
                "securityContext": { "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] } },
            }],
        },
    });
    serde_json::from_value(pod).expect("the sample is a pod")
}

async fn ask_proxy(port: u16) -> Result<(), SelfTestError> {
    let address = format!("localhost:{port}");
    let answer = tokio::time::timeout(ANSWER, status_line(&address)).await;
    let reason = match answer {
        Ok(Ok(line)) if line.starts_with("HTTP/1.1 200 ") => return Ok(()),
        Ok(Ok(line)) => format!("answers {line:?}"),
        Ok(Err(error)) => error.to_string(),
        Err(_elapsed) => "no answer in time".to_owned(),
    };
    Err(SelfTestError::Proxy { address, reason })
}

async fn status_line(address: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET /v2/ HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer).await?;
    let text = String::from_utf8_lossy(&answer);
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    /// What is said of a server that answers one request so.
    async fn asked(answer: &str) -> Result<(), SelfTestError> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let serve = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 512];
            let n_bytes = stream.read(&mut request).await.unwrap();
            assert!(request[..n_bytes].starts_with(b"GET /v2/ "));
            stream.write_all(answer.as_bytes()).await.unwrap();
        };
        tokio::join!(serve, ask_proxy(port)).1
    }

    #[tokio::test]
    async fn a_registry_is_told_from_anything_else_on_the_port() {
        asked("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").await.unwrap();
        let error = asked("HTTP/1.1 404 Not Found\r\n\r\n").await.unwrap_err().to_string();
        assert!(error.contains("404"), "{error}");
        assert!(asked("").await.is_err());
    }

    #[test]
    fn the_sample_is_a_pod() {
        assert_eq!(sample().name_any(), "kuik-self-test");
    }
}
