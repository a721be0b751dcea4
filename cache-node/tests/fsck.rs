//! The command `fsck` of the program, on the data directory of a node that runs and then does not.

#![expect(clippy::unwrap_used, reason = "a test that meets an error is to stop there")]

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use testkit::eventually;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const PROGRAM: &str = env!("CARGO_BIN_EXE_kuik-cache-node");
const SOON: Duration = Duration::from_secs(20);

struct Running {
    child: Child,
    admin: String,
}

impl Drop for Running {
    fn drop(&mut self) {
        // As a crash ends it; it may have ended by itself.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn start(directory: &Path) -> Running {
    let ports: Vec<TcpListener> = (0..3).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    let port = |n: usize| ports[n].local_addr().unwrap().to_string();
    let (registry, grpc, admin) = (port(0), port(1), port(2));
    let text = format!(
        r#"
        ordinal = 0
        data_dir = "{data}"
        copies = 1
        allow_genesis = true
        listen = {{ registry = "{registry}", grpc = "{grpc}", admin = "{admin}" }}
        peers = [{{ ordinal = 0, grpc = "http://{grpc}", registry = "http://{registry}" }}]
        "#,
        data = directory.join("node").display(),
    );
    let file = directory.join("node.toml");
    std::fs::write(&file, text).unwrap();
    drop(ports);
    let mut command = Command::new(PROGRAM);
    command.arg("--config").arg(file).arg("--exit-with-stdin");
    let command = command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let child = command.spawn().unwrap();
    Running { child, admin }
}

async fn is_ready(admin: &str) -> Option<()> {
    let mut stream = TcpStream::connect(admin).await.ok()?;
    let request = b"GET /readyz HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n";
    stream.write_all(request).await.ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    answer.starts_with("HTTP/1.1 200").then_some(())
}

fn fsck(directory: &Path) -> (Option<i32>, String) {
    let mut command = Command::new(PROGRAM);
    let Output { status, stdout, .. } = command.arg("fsck").arg("--data").arg(directory).output().unwrap();
    (status.code(), String::from_utf8(stdout).unwrap())
}

#[tokio::test]
async fn a_node_is_checked_once_it_has_stopped() {
    let temp = tempfile::tempdir().unwrap();
    let data = temp.path().join("node");
    let (code, text) = fsck(&data);
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("is not the data directory of a node"), "{text}");

    let running = start(temp.path());
    eventually(SOON, "a ready node", || is_ready(&running.admin)).await;
    let (code, text) = fsck(&data);
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("is in use by another process"), "{text}");
    drop(running);

    let (code, text) = fsck(&data);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.ends_with("is good\n"), "{text}");
}
