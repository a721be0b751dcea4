//! What a person sees who got something wrong: one line that says what, and what to do, and nothing left behind.

#![expect(clippy::unwrap_used, reason = "a test may fail where it stands")]

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;

struct Fixture {
    dir: TempDir,
}

impl Fixture {
    /// A place to run in, with programs in `bin` that must never be started: each failure comes before that.
    fn new() -> Self {
        let fixture = Self {
            dir: tempfile::tempdir().unwrap(),
        };
        std::fs::create_dir(fixture.path("bin")).unwrap();
        for program in ["kuik-cache-node", "kuik-proxy"] {
            let path = fixture.path("bin").join(program);
            std::fs::write(&path, "#!/bin/sh\ntouch \"$(dirname \"$0\")/started\"\n").unwrap();
            std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
        }
        fixture
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join(name)
    }

    fn kuik(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kuik"));
        command.args(arguments).arg("--data").arg(self.path("data"));
        command.env("KUIK_BIN_DIR", self.path("bin")).output().unwrap()
    }

    /// Runs `kuik` with something wrong and answers with its one line.
    fn refused(&self, arguments: &[&str]) -> String {
        let output = self.kuik(arguments);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert!(output.stdout.is_empty(), "{output:?}");
        assert!(!self.path("bin/started").exists(), "nothing may be started");
        let line = String::from_utf8(output.stderr).unwrap();
        assert_eq!(line.lines().count(), 1, "{line}");
        line
    }
}

#[test]
fn missing_programs() {
    let fixture = Fixture::new();
    std::fs::remove_file(fixture.path("bin/kuik-proxy")).unwrap();
    let line = fixture.refused(&["up"]);
    assert!(line.starts_with("error: no program kuik-proxy in "), "{line}");
    assert!(line.contains("KUIK_BIN_DIR"), "{line}");
}

#[test]
fn taken_port() {
    let fixture = Fixture::new();
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = other.local_addr().unwrap().to_string();
    let line = fixture.refused(&["up", "--listen", &address]);
    assert!(line.contains(&format!("{address} is taken by ")), "{line}");
    assert!(line.contains("--listen"), "{line}");
    assert!(!fixture.path("data/cluster.toml").exists());
}

#[test]
fn configuration_key_that_does_not_exist() {
    let fixture = Fixture::new();
    let config = fixture.path("kuik.toml");
    std::fs::write(&config, "[upstream.hosts.\"quay.io\"]\nurls = []\n").unwrap();
    let line = fixture.refused(&["up", "--config", config.to_str().unwrap()]);
    assert!(line.contains("kuik.toml line 2: unknown field `urls`"), "{line}");
}

#[test]
fn configuration_that_is_not_there() {
    let line = Fixture::new().refused(&["up", "--config", "/nowhere/kuik.toml"]);
    assert!(line.contains("/nowhere/kuik.toml: No such file"), "{line}");
}

#[test]
fn listen_address_that_others_can_reach() {
    let line = Fixture::new().refused(&["up", "--listen", "0.0.0.0:7439"]);
    assert!(line.contains("loopback addresses only"), "{line}");
}

#[test]
fn data_of_another_cluster() {
    let fixture = Fixture::new();
    std::fs::create_dir_all(fixture.path("data/node-0")).unwrap();
    let line = fixture.refused(&["up", "--listen", "127.0.0.1:0"]);
    assert!(line.contains("data of another cluster"), "{line}");
}

#[test]
fn upstream_rule_without_a_url() {
    let output = Fixture::new().kuik(&["up", "--upstream", "quay.io"]);
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("write HOST=URL"), "{text}");
}

#[test]
fn asking_a_cluster_that_does_not_run() {
    let fixture = Fixture::new();
    for command in [&["status"][..], &["images"], &["explain", "docker.io/library/nginx"]] {
        let output = fixture.kuik(command);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let line = String::from_utf8(output.stderr).unwrap();
        assert!(line.contains("start one with kuik up"), "{line}");
    }
    assert!(is_empty(&fixture.path("data")), "asking leaves nothing behind");
}

fn is_empty(directory: &Path) -> bool {
    std::fs::read_dir(directory).map_or(true, |mut entries| entries.next().is_none())
}
