//! A handful of seeds, and proof that a run would notice.

use std::process::{Command, Output};

fn fuzz(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_fuzz"))
        .args(arguments)
        .output()
        .expect("the program starts")
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn crashes_and_partitions_lose_nothing_that_was_acknowledged() {
    let output = fuzz(&["--from", "1", "--count", "5"]);
    assert!(output.status.success(), "{}", text(&output));
}

#[test]
fn a_seed_decides_everything() {
    let first = fuzz(&["--seed", "42", "--seconds", "15"]);
    assert!(first.status.success(), "{}", text(&first));
    // A run in which nothing happens would prove nothing.
    assert!(
        text(&first).contains("Crash") && text(&first).contains("commit_blob"),
        "{}",
        text(&first)
    );
    assert_eq!(text(&first), text(&fuzz(&["--seed", "42", "--seconds", "15"])));
    assert_ne!(text(&first), text(&fuzz(&["--seed", "43", "--seconds", "15"])));
}

#[test]
fn disks_that_acknowledge_before_they_sync_are_found_out() {
    let output = fuzz(&["--seed", "1", "--lying-disks"]);
    assert!(!output.status.success());
    assert!(text(&output).contains("durable on"), "{}", text(&output));
}
