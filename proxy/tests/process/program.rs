//! The program as a child of a test.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const DEADLINE: Duration = Duration::from_secs(20);

pub(crate) fn start(directory: &Path, config: &str) -> Child {
    start_within(directory, config, &[])
}

/// The same, with more of an environment.
pub(crate) fn start_within(directory: &Path, config: &str, environment: &[(&str, String)]) -> Child {
    let path = directory.join("proxy.toml");
    std::fs::write(&path, config).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_kuik-proxy"));
    command.arg("--config").arg(&path).arg("--exit-with-stdin");
    command
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// An address that is free now. Another process may take it before the proxy does, which fails the test visibly.
pub(crate) fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

pub(crate) fn until<T>(mut attempt: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(done) = attempt() {
            return done;
        }
        assert!(started.elapsed() < DEADLINE, "too late");
        std::thread::yield_now();
    }
}

/// Runs `kuik-proxy check` on the proxy that was started in `directory`; its exit code and what it says.
pub(crate) fn check(directory: &Path) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_kuik-proxy"))
        .args(["check", "--config"])
        .arg(directory.join("proxy.toml"))
        .output()
        .unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}
