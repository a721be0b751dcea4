//! `kuik up --demo` with the real programs: three nodes and a proxy, an image pulled through them, again without its
//! source, again with a node killed; and nothing left running when `kuik up` itself is killed.
//!
//! The programs must be built (`cargo xtask test` does); `kuik` finds them beside itself.

#![expect(clippy::unwrap_used, reason = "a test may fail where it stands")]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use oci::Digest;
use serde_json::Value;
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(60);
const POLL_INTERVAL: Duration = Duration::from_millis(50);
const IMAGE: &str = "demo.kuik.local/demo/hello";

struct Running {
    dir: TempDir,
    kuik: Process,
    ready: Value,
}

/// Killed with the test, and its children with it.
struct Process(Child);

impl Running {
    fn start() -> Self {
        Self::start_in(tempfile::tempdir().unwrap())
    }

    fn start_in(dir: TempDir) -> Self {
        let kuik = Command::new(env!("CARGO_BIN_EXE_kuik"))
            .args(["up", "--demo", "--listen", "127.0.0.1:0", "--copies", "3"])
            .arg("--data")
            .arg(dir.path().join("data"))
            .arg("--ready-file")
            .arg(dir.path().join("ready.json"))
            .stdout(std::fs::File::create(dir.path().join("out")).unwrap())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let ready = Value::Null;
        let kuik = Process(kuik);
        let mut running = Self { dir, kuik, ready };
        running.ready = wait_for("the cluster to come up", || {
            let ended = running.kuik.0.try_wait().unwrap();
            assert_eq!(ended, None, "kuik up ended");
            running.ready_file()
        });
        running
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn ready_file(&self) -> Option<Value> {
        let text = std::fs::read(self.path("ready.json")).ok()?;
        serde_json::from_slice(&text).ok()
    }

    fn node_pid(&self, ordinal: usize) -> u64 {
        self.ready_file().unwrap()["nodes"][ordinal]["pid"].as_u64().unwrap()
    }

    /// All processes of the cluster, the demo's source included.
    fn pids(&self) -> Vec<u64> {
        let nodes = (0..3).map(|ordinal| self.node_pid(ordinal));
        let proxy = self.ready["proxy"]["pid"].as_u64().unwrap();
        nodes.chain([proxy, self.source_pid()]).collect()
    }

    /// The banner says how to stop the source.
    fn source_pid(&self) -> u64 {
        let banner = std::fs::read_to_string(self.path("out")).unwrap();
        let command = banner.lines().find_map(|line| line.trim().strip_prefix("kill "));
        command.unwrap().parse().unwrap()
    }

    /// What a `kuik` command says about this cluster.
    fn ask(&self, arguments: &[&str]) -> Value {
        let output = Command::new(env!("CARGO_BIN_EXE_kuik"))
            .args(arguments)
            .args(["--output", "json", "--data"])
            .arg(self.path("data"))
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Pulls the image for amd64 through the proxy as a runtime does, checking every digest.
    fn pull(&self) -> Vec<Digest> {
        let proxy = self.ready["proxy"]["url"].as_str().unwrap();
        let base = format!("{proxy}/v2/{IMAGE}");
        let index: Value = serde_json::from_slice(&get(&format!("{base}/manifests/1"))).unwrap();
        let child: Digest = index["manifests"][0]["digest"].as_str().unwrap().parse().unwrap();
        let manifest = get_verified(&base, "manifests", &child);
        let manifest: Value = serde_json::from_slice(&manifest).unwrap();
        let layers = manifest["layers"].as_array().unwrap();
        let blobs = layers.iter().chain([&manifest["config"]]);
        let blobs: Vec<Digest> = blobs
            .map(|blob| blob["digest"].as_str().unwrap().parse().unwrap())
            .collect();
        for blob in &blobs {
            get_verified(&base, "blobs", blob);
        }
        blobs.into_iter().chain([child]).collect()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _reaped = self.0.wait();
    }
}

fn wait_for<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let attempts = PATIENCE.as_millis() / POLL_INTERVAL.as_millis();
    for _attempt in 0..attempts {
        if let Some(met) = condition() {
            return met;
        }
        std::thread::sleep(POLL_INTERVAL);
    }
    panic!("waited {PATIENCE:?} for {what}");
}

fn get_verified(base: &str, kind: &str, digest: &Digest) -> Vec<u8> {
    let bytes = get(&format!("{base}/{kind}/{digest}"));
    assert_eq!(Digest::sha256(&bytes), *digest);
    bytes
}

fn get(url: &str) -> Vec<u8> {
    let (address, path) = url.trim_start_matches("http://").split_once('/').unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let request = format!("GET /{path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
    let head = String::from_utf8_lossy(&answer[..end]).to_lowercase();
    assert!(
        head.starts_with("http/1.1 200"),
        "{url}: {}",
        String::from_utf8_lossy(&answer)
    );
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let body = answer.split_off(end + 4);
    assert_eq!(length.unwrap().parse(), Ok(body.len()));
    body
}

fn kill(pid: u64, signal: &str) {
    let killed = Command::new("kill").args([signal, &pid.to_string()]).status().unwrap();
    assert!(killed.success());
}

/// A zombie is not running; nobody may have reaped it yet.
fn is_running(pid: u64) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"));
    status.is_ok_and(|status| !status.contains("State:\tZ"))
}

#[test]
fn image_is_served_without_its_source_and_without_any_one_node() {
    let running = Running::start();
    let first = running.pull();
    wait_for("every copy to be made", || {
        let explained = running.ask(&["explain", &format!("{IMAGE}:1"), "--platform", "linux/amd64"]);
        let status = running.ask(&["status"]);
        let made = status["copies"]["complete"] == true && status["copies"]["expected"].as_u64() > Some(0);
        (made && explained["cached"] == true).then_some(())
    });
    kill(running.source_pid(), "-KILL");
    assert_eq!(running.pull(), first, "without the source");
    let pid = running.node_pid(0);
    kill(pid, "-KILL");
    assert_eq!(running.pull(), first, "without node-0");
    wait_for("node-0 to be started again", || {
        (running.node_pid(0) != pid).then_some(())
    });
    wait_for("node-0 to be back", || {
        (running.ask(&["status"])["nodes"][0]["state"] == "ok").then_some(())
    });
    let images = running.ask(&["images"]);
    assert_eq!(images["images"][0]["repository"], IMAGE);
}

#[test]
fn nothing_is_left_running_when_kuik_up_is_killed() {
    let mut running = Running::start();
    let pids = running.pids();
    assert!(pids.iter().all(|pid| is_running(*pid)));
    running.kuik.0.kill().unwrap();
    running.kuik.0.wait().unwrap();
    wait_for("every process to end", || {
        (!pids.iter().any(|pid| is_running(*pid))).then_some(())
    });
}

#[test]
fn signal_stops_everything_in_order_and_the_next_start_is_the_same_cluster() {
    let mut running = Running::start();
    let pids = running.pids();
    let cluster = running.ready["cluster_id"].clone();
    kill(running.kuik.0.id().into(), "-TERM");
    assert!(running.kuik.0.wait().unwrap().success());
    assert!(!pids.iter().any(|pid| is_running(*pid)));
    assert!(!running.path("ready.json").exists());
    let again = Running::start_in(running.dir);
    assert_eq!(again.ready["cluster_id"], cluster);
}
