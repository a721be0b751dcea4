//! States on disk, good and altered.

use meta::{
    Addresses, ClusterId, Command, Envelope, Family, FeatureLevel, InitCluster, JoinNonce, MemoryState, Mutation, Read,
    RegisterNode, RequestId, StorageId,
};

use super::*;
use crate::state_store::StateStore;

const ZONE: &[u8] = b"zone-a";

/// The directory of a node that has stopped, with two nodes in its state.
struct Stopped(tempfile::TempDir);

fn register(nonce: u64) -> Envelope {
    let command = RegisterNode {
        nonce: JoinNonce::new(nonce.into()),
        addresses: Addresses::default(),
        zone: String::from_utf8_lossy(ZONE).into_owned(),
        feature_level: FeatureLevel::SUPPORTED,
    };
    Envelope {
        request: RequestId {
            client: 1,
            sequence: nonce,
        },
        now_ms: 1,
        command: Command::RegisterNode(command),
    }
}

fn init() -> Envelope {
    let command = InitCluster {
        cluster_id: ClusterId::new(1),
        epoch: 1,
        storage_id: StorageId::new(1),
        feature_level: FeatureLevel::SUPPORTED,
    };
    Envelope {
        command: Command::InitCluster(command),
        ..register(1)
    }
}

impl Stopped {
    fn new() -> Self {
        let stopped = Stopped(tempfile::tempdir().unwrap());
        drop(DataDir::open(stopped.0.path()).unwrap());
        let (mut state, mut applied) = (MemoryState::new(), Applied::default());
        for envelope in [init(), register(7), register(8)] {
            let (outcome, mutations) = meta::apply(&state, &envelope).unwrap();
            assert!(!matches!(outcome, meta::Outcome::Rejected(_)), "{outcome:?}");
            applied.hash.fold(&state, &mutations).unwrap();
            state.apply_mutations(mutations.clone());
            stopped.state().commit(mutations, applied.encode()).unwrap();
        }
        stopped
    }

    fn state(&self) -> RocksState {
        RocksState::open(self.0.path().join("state"), self.0.path().join("snap")).unwrap()
    }

    /// Changes the first record of a family, which the hash does not learn of.
    fn alter(&self, family: Family, change: impl FnOnce(Vec<u8>) -> Option<Vec<u8>>) {
        let state = self.state();
        let (key, value) = state.latest().scan(family, b"", None, 1).unwrap().remove(0);
        let value = change(value);
        let applied = state.applied().unwrap().unwrap();
        state.commit(vec![Mutation { family, key, value }], applied).unwrap();
    }

    fn findings(&self) -> Vec<String> {
        let report = fsck(self.0.path()).unwrap();
        report.findings.iter().map(Finding::to_string).collect()
    }
}

#[test]
fn a_good_state_has_no_findings() {
    assert_eq!(Stopped::new().findings(), Vec::<String>::new());
}

#[test]
fn a_record_that_says_something_else_is_noticed_by_the_hash() {
    let stopped = Stopped::new();
    stopped.alter(Family::Nodes, |mut value| {
        let at = value.windows(ZONE.len()).position(|bytes| bytes == ZONE).unwrap();
        value[at] ^= 1;
        Some(value)
    });
    let findings = stopped.findings();
    assert!(
        findings.len() == 1 && findings[0].starts_with("state hash"),
        "{findings:?}"
    );
}

#[test]
fn a_record_that_leads_nowhere_is_named() {
    let stopped = Stopped::new();
    stopped.alter(Family::NodeNonces, |_| None);
    let findings = stopped.findings();
    assert!(findings[0].starts_with("state hash"), "{findings:?}");
    assert!(findings[1].starts_with("node ids are unique: node "), "{findings:?}");
}

#[test]
fn a_record_that_cannot_be_read_is_named() {
    let stopped = Stopped::new();
    stopped.alter(Family::Nodes, |_| Some(vec![0xff]));
    let findings = stopped.findings();
    assert!(
        findings.iter().any(|finding| finding.contains("record of nodes")),
        "{findings:?}"
    );
}

#[test]
fn a_directory_in_use_is_not_checked() {
    let stopped = Stopped::new();
    let _running = DataDir::open(stopped.0.path()).unwrap();
    let result = fsck(stopped.0.path());
    assert!(
        matches!(result, Err(FsckError::DataDir(DataDirError::InUse { .. }))),
        "{result:?}"
    );
}

#[test]
fn what_is_no_data_directory_stays_as_it_is() {
    let temp = tempfile::tempdir().unwrap();
    let result = fsck(temp.path());
    assert!(
        matches!(result, Err(FsckError::DataDir(DataDirError::NotOne { .. }))),
        "{result:?}"
    );
    assert_eq!(std::fs::read_dir(temp.path()).unwrap().count(), 0);
}

#[test]
fn a_check_changes_no_file() {
    let stopped = Stopped::new();
    let files = || {
        let entries = std::fs::read_dir(stopped.0.path().join("state/1")).unwrap();
        let mut files: Vec<_> = entries
            .map(|entry| entry.unwrap())
            .map(|entry| (entry.file_name(), std::fs::read(entry.path()).unwrap()))
            .collect();
        files.sort();
        files
    };
    let before = files();
    fsck(stopped.0.path()).unwrap();
    assert!(files() == before);
}
