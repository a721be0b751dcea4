//! The admin endpoint over a real socket.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::shutdown::{Cause, Phase, Shutdown};

struct Running {
    shutdown: Shutdown,
    readiness: Readiness,
    address: SocketAddr,
}

async fn start(add: impl FnOnce(Admin) -> Admin) -> Running {
    let shutdown = Shutdown::new();
    let readiness = Readiness::new(&shutdown);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let admin = Admin::new(readiness.clone(), Metrics::install().unwrap());
    add(admin).start(listener, shutdown.tasks(Phase::Flush));
    Running {
        shutdown,
        readiness,
        address,
    }
}

async fn get_path(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn alive_before_ready_and_reasons_are_told() {
    let running = start(|admin| admin).await;
    let gate = running.readiness.gate("raft");
    assert!(get_path(running.address, "/livez").await.starts_with("HTTP/1.1 200"));
    let unready = get_path(running.address, "/readyz").await;
    assert!(unready.starts_with("HTTP/1.1 503"));
    assert!(unready.ends_with("raft: starting\n"));
    gate.open();
    assert!(get_path(running.address, "/readyz").await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn documents_get_parameters_and_errors_are_json() {
    let running = start(|admin| {
        admin.json("/explain", async |parameters: Parameters| {
            let image = parameters.require("image")?.to_owned();
            Ok(HashMap::from([("image", image)]))
        })
    })
    .await;
    let found = get_path(running.address, "/explain?image=docker.io%2Flibrary%2Fnginx").await;
    assert!(found.ends_with(r#"{"image":"docker.io/library/nginx"}"#));
    let refused = get_path(running.address, "/explain").await;
    assert!(refused.starts_with("HTTP/1.1 400"));
    assert!(refused.ends_with(r#"{"error":"parameter image is missing"}"#));
    let unknown = get_path(running.address, "/nothing").await;
    assert!(unknown.starts_with("HTTP/1.1 404"));
}

#[tokio::test]
async fn metrics_are_rendered() {
    let running = start(|admin| admin).await;
    metrics::counter!("kube_image_keeper_test_total").increment(1);
    let answer = get_path(running.address, "/metrics").await;
    assert!(answer.contains("kube_image_keeper_test_total 1"));
}

#[tokio::test]
async fn idle_connection_does_not_hold_up_the_shutdown() {
    let running = start(|admin| admin).await;
    let mut idle = TcpStream::connect(running.address).await.unwrap();
    get_path(running.address, "/livez").await;
    running.shutdown.begin(Cause::Requested("test"));
    let ended = running.shutdown.run(Duration::from_secs(5)).await;
    assert!(ended.still_running.is_empty());
    let mut rest = Vec::new();
    idle.read_to_end(&mut rest).await.unwrap();
    assert!(rest.is_empty());
}
