//! What several nodes' views add up to.

use proto::report::{BlobCount, DiskSpace};

use super::*;
use crate::admin_client::AskError;

/// A node that is well: node id `ordinal + 1`, led by node 1, three voters.
pub(crate) fn node_status(ordinal: u32) -> NodeStatus {
    let node_id = u64::from(ordinal) + 1;
    NodeStatus {
        node_id: Some(node_id),
        ordinal,
        cluster_id: Some("c1".to_owned()),
        role: if node_id == 1 { Role::Leader } else { Role::Follower },
        leader: Some(1),
        term: 4,
        last_log_index: 90,
        applied_index: 90,
        voters: vec![1, 2, 3],
        learners: Vec::new(),
        blobs: BlobCount { count: 4, bytes: 4000 },
        copies: CopyCount {
            expected: 4,
            missing: 0,
        },
        desired_images: 7,
        fills: Vec::new(),
        disk: DiskSpace {
            free_bytes: 1 << 30,
            total_bytes: 1 << 32,
        },
        degraded: Vec::new(),
    }
}

fn answer(status: NodeStatus) -> Answer<NodeStatus> {
    let node = format!("node-{}", status.ordinal);
    Answer {
        node,
        result: Ok(status),
    }
}

fn unreachable(ordinal: u32) -> Answer<NodeStatus> {
    let result = Err(AskError::Unreachable("connection refused".to_owned()));
    Answer {
        node: format!("node-{ordinal}"),
        result,
    }
}

fn well(ordinals: std::ops::Range<u32>) -> Vec<Answer<NodeStatus>> {
    ordinals.map(|ordinal| answer(node_status(ordinal))).collect()
}

#[test]
fn healthy_cluster_has_leader_quorum_and_all_copies() {
    let status = merge(well(0..3));
    assert_eq!((status.leader, status.term, status.quorum), (Some(1), Some(4), true));
    let all = CopiesStatus {
        expected: 12,
        missing: 0,
        complete: true,
    };
    assert_eq!(status.copies, all);
    assert!(
        status
            .nodes
            .iter()
            .all(|node| node.state == MemberState::Ok && node.lag == Some(0))
    );
}

#[test]
fn node_that_does_not_answer_is_shown_and_its_copies_are_not_counted_as_made() {
    let mut answers = well(0..2);
    answers.push(unreachable(2));
    let status = merge(answers);
    assert!(status.quorum);
    assert!(!status.copies.complete);
    assert_eq!(status.nodes[2].state, MemberState::Unreachable);
    assert!(status.to_string().contains("unreachable"), "{status}");
}

#[test]
fn majority_is_of_voters_and_needs_the_leader() {
    assert!(!merge(vec![answer(node_status(0)), unreachable(1), unreachable(2)]).quorum);
    assert!(!merge(vec![unreachable(0), answer(node_status(1)), answer(node_status(2))]).quorum);
}

#[test]
fn newer_term_is_believed() {
    let mut old = node_status(0);
    old.term = 3;
    let mut new = node_status(1);
    (new.term, new.leader) = (5, Some(2));
    let status = merge(vec![answer(old), answer(new)]);
    assert_eq!((status.leader, status.term), (Some(2), Some(5)));
}

#[test]
fn lag_is_behind_the_longest_log() {
    let mut behind = node_status(1);
    (behind.last_log_index, behind.applied_index) = (80, 75);
    let status = merge(vec![answer(node_status(0)), answer(behind)]);
    assert_eq!(status.nodes[1].lag, Some(15));
}

#[test]
fn fills_are_listed_with_their_node_and_progress() {
    let mut filling = node_status(1);
    filling.fills.push(FillProgress {
        digest: "sha256:0123456789abcdef".to_owned(),
        repository: "docker.io/library/nginx".to_owned(),
        bytes_done: 1 << 20,
        bytes_total: Some(4 << 20),
        source: "upstream".to_owned(),
        started_ms_ago: 3000,
    });
    let status = merge(vec![answer(node_status(0)), answer(filling)]);
    assert_eq!(status.fills[0].node, "node-1");
    let text = status.to_string();
    assert!(text.contains("1.0 MiB of 4.0 MiB (25 %)"), "{text}");
}

#[test]
fn json_form_is_stable() {
    let json = serde_json::to_value(merge(well(0..1))).unwrap();
    let keys: Vec<_> = json.as_object().unwrap().keys().map(String::as_str).collect();
    let promised = [
        "cluster_id",
        "copies",
        "desired_images",
        "fills",
        "leader",
        "learners",
        "nodes",
        "quorum",
        "term",
        "voters",
    ];
    assert_eq!(keys, promised);
    assert_eq!(json["nodes"][0]["state"], "ok");
    assert_eq!(json["nodes"][0]["status"]["role"], "leader");
    assert_eq!(json["copies"]["expected"], 4);
}

#[test]
fn process_to_kill_is_not_mistaken_for_the_raft_id() {
    let mut status = merge(well(0..3));
    status.nodes[1].pid = Some(4242);
    let text = status.to_string();
    let lines: Vec<_> = text.lines().collect();
    assert!(lines[3].starts_with("NODE    PID   RAFT ID"), "{text}");
    assert!(lines[5].starts_with("node-1  4242  2 "), "{text}");
    assert!(lines[6].starts_with("node-2  -     3 "), "{text}");
}

#[test]
fn how_many_images_are_kept_is_said() {
    let status = merge(well(0..3));
    assert!(status.to_string().contains("made, 7 images desired"), "{status}");
    assert_eq!(serde_json::to_value(&status).unwrap()["desired_images"], 7);
}
