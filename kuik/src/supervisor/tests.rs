//! The supervisor over real processes: small shell scripts in place of the children.

use std::path::Path;

use daemon::shutdown::{Cause, Phase, Shutdown};
use tempfile::TempDir;

use super::*;

const PATIENCE: Duration = Duration::from_secs(10);

struct Fixture {
    dir: TempDir,
    shutdown: Shutdown,
}

impl Fixture {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            shutdown: Shutdown::new(),
        }
    }

    /// Runs `script` with the fixture's directory as `$0`.
    fn start(&self, script: &str, restart: Restart) -> Supervised {
        let arguments = ["-c".into(), script.into(), self.dir.path().into()];
        let program = ChildProgram {
            name: "node-0".to_owned(),
            path: "/bin/sh".into(),
            arguments: arguments.to_vec(),
            log: self.dir.path().join("node-0.log"),
        };
        start(program, restart, self.shutdown.tasks(Phase::Work), &Console::new())
    }

    async fn stop(&self) {
        self.shutdown.begin(Cause::Requested("test"));
        let ended = self.shutdown.run(PATIENCE).await;
        assert!(ended.still_running.is_empty());
    }
}

async fn wait_for(child: &mut Supervised, wanted: impl Fn(&ChildState) -> bool) -> ChildState {
    let reached = async {
        while !wanted(&child.state()) {
            child.changed().await;
        }
        child.state()
    };
    tokio::time::timeout(PATIENCE, reached).await.unwrap()
}

async fn running_pid(child: &mut Supervised, other_than: Option<u32>) -> u32 {
    wait_for(
        child,
        |state| matches!(state, ChildState::Running { pid } if Some(*pid) != other_than),
    )
    .await;
    child.pid().unwrap()
}

async fn wait_for_file(path: &Path) {
    let there = async {
        while !path.exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, there).await.unwrap();
}

fn kill(pid: u32) {
    let pid = Pid::from_raw(pid.cast_signed()).unwrap();
    kill_process(pid, Signal::KILL).unwrap();
}

#[tokio::test]
async fn killed_child_is_started_again() {
    let fixture = Fixture::new();
    let mut child = fixture.start("exec sleep 60", Restart::Always);
    let first = running_pid(&mut child, None).await;
    kill(first);
    let second = running_pid(&mut child, Some(first)).await;
    assert_ne!(first, second);
    fixture.stop().await;
}

#[tokio::test]
async fn killed_child_stays_dead_when_told_so() {
    let fixture = Fixture::new();
    let mut child = fixture.start("exec sleep 60", Restart::Never);
    let pid = running_pid(&mut child, None).await;
    kill(pid);
    let ended = wait_for(&mut child, |state| matches!(state, ChildState::Ended { .. })).await;
    let ChildState::Ended { reason } = ended else {
        panic!("{ended:?}")
    };
    assert!(
        reason.contains(&pid.to_string()) && reason.contains("signal: 9"),
        "{reason}"
    );
    fixture.stop().await;
}

#[tokio::test]
async fn wrong_configuration_is_not_tried_again() {
    let fixture = Fixture::new();
    let mut child = fixture.start("echo 'error: unknown key' >&2; exit 2", Restart::Always);
    let ended = wait_for(&mut child, |state| matches!(state, ChildState::Ended { .. })).await;
    let ChildState::Ended { reason } = ended else {
        panic!("{ended:?}")
    };
    assert!(reason.ends_with("ended with code 2: unknown key"), "{reason}");
    fixture.stop().await;
}

#[tokio::test]
async fn stop_lets_the_child_finish() {
    let fixture = Fixture::new();
    let script = r#"trap 'touch "$0/flushed"; exit 0' TERM; touch "$0/up"; while :; do sleep 0.01; done"#;
    fixture.start(script, Restart::Always);
    wait_for_file(&fixture.dir.path().join("up")).await;
    fixture.stop().await;
    assert!(fixture.dir.path().join("flushed").exists());
}

#[tokio::test]
async fn child_does_not_see_its_input_end_while_it_is_supervised() {
    let fixture = Fixture::new();
    let script = r#"touch "$0/up"; exec cat"#;
    let mut child = fixture.start(script, Restart::Never);
    let pid = running_pid(&mut child, None).await;
    wait_for_file(&fixture.dir.path().join("up")).await;
    kill(pid);
    let ended = wait_for(&mut child, |state| matches!(state, ChildState::Ended { .. })).await;
    let ChildState::Ended { reason } = ended else {
        panic!("{ended:?}")
    };
    assert!(
        reason.contains("signal: 9"),
        "it must not have ended by itself: {reason}"
    );
    fixture.stop().await;
}

#[tokio::test]
async fn program_that_cannot_be_started_is_named() {
    let fixture = Fixture::new();
    let program = ChildProgram {
        name: "proxy".to_owned(),
        path: fixture.dir.path().join("kuik-proxy"),
        arguments: Vec::new(),
        log: fixture.dir.path().join("proxy.log"),
    };
    let tasks = fixture.shutdown.tasks(Phase::Work);
    let mut child = start(program, Restart::Always, tasks, &Console::new());
    let state = wait_for(&mut child, |state| matches!(state, ChildState::Restarting { .. })).await;
    let ChildState::Restarting { reason } = state else {
        panic!("{state:?}")
    };
    assert!(reason.contains("kuik-proxy"), "{reason}");
    fixture.stop().await;
}
