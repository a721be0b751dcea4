//! Checks that the arrows between the crates point down only (docs/architecture.md has the picture).

use anyhow::{Result, bail};

use crate::metadata::{Graph, Kind};

/// Every member and its floor. An arrow may only point to a lower floor.
const FLOORS: &[(&str, u8)] = &[
    ("oci", 0),
    ("meta", 1),
    ("proto", 1),
    ("daemon", 1),
    ("raft", 2),
    ("upstream", 2),
    ("distribution", 2),
    ("cache-node", 3),
    ("proxy", 3),
    ("webhook", 3),
    ("controller", 3),
    ("testkit", 3),
    ("kuik", 4),
    ("sandbox", 4),
    ("sim", 4),
    ("cluster", 4),
    ("xtask", 4),
    // It measures the clusters that the sandbox starts.
    ("bench", 5),
];

/// Never part of a shipped program; any crate's tests may use it.
const TEST_ONLY: &str = "testkit";

/// Programs that are shipped; they never link [`TEST_ONLY`].
const SHIPPED: &[&str] = &["cache-node", "proxy", "webhook", "controller", "kuik"];

/// What a member must not reach through normal dependencies, however far away.
const UNREACHABLE: &[(&str, &[&str])] = &[
    ("oci", &["tokio", "hyper"]),
    ("meta", &["tokio", "hyper", "tonic", "openraft", "rocksdb"]),
    ("proxy", &["openraft", "rocksdb", "librocksdb-sys"]),
    ("kuik", &["openraft", "rocksdb", "librocksdb-sys"]),
    ("webhook", &["openraft", "rocksdb", "librocksdb-sys"]),
    ("controller", &["openraft", "rocksdb", "librocksdb-sys"]),
    ("cache-node", &["kube"]),
];

/// Runs the check on the workspace.
///
/// # Errors
/// Names every arrow that points the wrong way.
pub(crate) fn check() -> Result<()> {
    let graph = Graph::load()?;
    let wrong: Vec<String> = arrows(&graph).into_iter().chain(reaches(&graph)).collect();
    if !wrong.is_empty() {
        bail!("\n    {}", wrong.join("\n    "));
    }
    Ok(())
}

fn arrows(graph: &Graph) -> Vec<String> {
    let mut wrong = Vec::new();
    for member in graph.members() {
        let Some(floor) = floor_of(&member.name) else {
            wrong.push(format!("{} has no floor: add it to xtask/src/floors.rs", member.name));
            continue;
        };
        for (kind, target) in graph.member_dependencies(member) {
            if let Some(complaint) = judge(&member.name, floor, kind, target) {
                wrong.push(complaint);
            }
        }
    }
    wrong
}

/// Why this arrow is wrong, if it is.
fn judge(from: &str, floor: u8, kind: Kind, target: &str) -> Option<String> {
    if target == TEST_ONLY {
        let in_tests = kind == Kind::Dev || (floor >= 4 && !SHIPPED.contains(&from));
        return (!in_tests).then(|| format!("{from} -> {target}: {target} is for tests only"));
    }
    let target_floor = floor_of(target)?;
    (target_floor >= floor && kind != Kind::Dev || target_floor > floor)
        .then(|| format!("{from} (floor {floor}) -> {target} (floor {target_floor}): arrows point down only"))
}

fn reaches(graph: &Graph) -> Vec<String> {
    let pairs = UNREACHABLE
        .iter()
        .flat_map(|(from, targets)| targets.iter().map(move |to| (*from, *to)));
    pairs
        .filter_map(|(from, to)| graph.normal_path(from, to))
        .map(|path| format!("must not be linked: {}", path.join(" -> ")))
        .collect()
}

fn floor_of(name: &str) -> Option<u8> {
    FLOORS
        .iter()
        .find(|(member, _)| *member == name)
        .map(|(_, floor)| *floor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_arrow_down_is_fine_and_one_up_or_sideways_is_not() {
        assert_eq!(judge("proxy", 3, Kind::Normal, "oci"), None);
        assert!(judge("oci", 0, Kind::Normal, "meta").is_some());
        assert!(judge("proxy", 3, Kind::Normal, "cache-node").is_some());
        assert!(judge("meta", 1, Kind::Build, "proto").is_some());
    }

    #[test]
    fn testkit_is_for_tests_of_any_floor_but_never_shipped() {
        assert_eq!(judge("upstream", 2, Kind::Dev, "testkit"), None);
        assert_eq!(judge("sandbox", 4, Kind::Normal, "testkit"), None);
        assert!(judge("kuik", 4, Kind::Normal, "testkit").is_some());
        assert!(judge("proxy", 3, Kind::Normal, "testkit").is_some());
    }
}
