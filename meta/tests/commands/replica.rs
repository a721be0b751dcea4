//! A replica in memory.

use std::collections::BTreeMap;

use meta::{
    Addresses, ClusterId, Command, CommitBlob, CompleteManifest, Envelope, FeatureLevel, Gen, InitCluster, JoinNonce,
    MemoryState, NodeId, Outcome, PromoteTag, PutManifest, RegisterNode, Rejected, RequestId, SetFeatureLevel,
    SetLayout, StateHash, StorageId, TagRecord, apply, invariant, view,
};
use oci::{Digest, Repository, Tag};

use crate::universe::{Content, Sample};

/// State, its hash, and a clock that ticks with every command.
#[derive(Clone, Debug, Default)]
pub(crate) struct Replica {
    pub(crate) state: MemoryState,
    pub(crate) hash: StateHash,
    proposals: u64,
}

impl Replica {
    /// A replica of a cluster whose nodes 1 and 2 are registered.
    pub(crate) fn formed() -> Self {
        let mut replica = Self::default();
        assert_eq!(replica.propose(init(1)), Outcome::Initialized);
        for nonce in 1..=2 {
            let id = NodeId::new(nonce.into());
            assert_eq!(replica.propose(register(nonce)), Outcome::NodeRegistered { id });
        }
        replica
    }

    /// [`Replica::formed`], at the level of grants and desired images.
    pub(crate) fn raised() -> Self {
        let mut replica = Self::formed();
        for command in raising() {
            replica.accept(command);
        }
        replica
    }

    pub(crate) fn apply(&mut self, envelope: &Envelope) -> Outcome {
        let (outcome, mutations) = apply(&self.state, envelope).unwrap();
        self.hash.fold(&self.state, &mutations).unwrap();
        self.state.apply_mutations(mutations);
        outcome
    }

    /// Applies `command` as a request of its own and checks the invariants.
    pub(crate) fn propose(&mut self, command: Command) -> Outcome {
        self.proposals += 1;
        let envelope = envelope(self.proposals, 1000 * self.proposals, command);
        let outcome = self.apply(&envelope);
        invariant::check_all(&self.state).unwrap();
        outcome
    }

    /// Applies `command`, which must be rejected.
    pub(crate) fn refuse(&mut self, command: Command) -> Rejected {
        self.propose(command).accepted().unwrap_err()
    }

    /// Applies `command`, which must be accepted.
    pub(crate) fn accept(&mut self, command: Command) -> Outcome {
        self.propose(command).accepted().unwrap()
    }

    pub(crate) fn now_ms(&self) -> u64 {
        view::cluster(&self.state).unwrap().unwrap().logical_now_ms
    }

    pub(crate) fn tag(&self, repository: &Repository, tag: &Tag) -> TagRecord {
        let id = view::repository_id(&self.state, repository).unwrap().unwrap();
        view::tag(&self.state, id, tag).unwrap().unwrap()
    }

    pub(crate) fn is_complete(&self, digest: &Digest) -> bool {
        view::manifest(&self.state, digest).unwrap().unwrap().is_complete()
    }

    /// Stores and completes an image or index with all its blobs.
    pub(crate) fn store_whole(&mut self, repository: &Repository, sample: &Sample) {
        self.accept(put(repository, sample));
        for blob in sample.blobs.iter().filter(|blob| blob.required) {
            self.accept(commit(repository, &blob.content(), generation(1, 1, 1)));
        }
        self.accept(complete(&sample.digest, &sample.children));
    }
}

pub(crate) fn envelope(sequence: u64, now_ms: u64, command: Command) -> Envelope {
    let request = RequestId { client: 7, sequence };
    Envelope {
        request,
        now_ms,
        command,
    }
}

/// What raises a formed cluster to the level of grants and desired images.
pub(crate) fn raising() -> Vec<Command> {
    let node = |nonce: u32| {
        let Command::RegisterNode(node) = register(nonce) else {
            unreachable!("a registration");
        };
        Command::RegisterNode(RegisterNode {
            feature_level: FeatureLevel::ACCESS,
            ..node
        })
    };
    let level = FeatureLevel::ACCESS;
    vec![node(1), node(2), Command::SetFeatureLevel(SetFeatureLevel { level })]
}

pub(crate) fn init(id: u128) -> Command {
    Command::InitCluster(InitCluster {
        cluster_id: ClusterId::new(id),
        epoch: 1,
        storage_id: StorageId::new(id),
        feature_level: FeatureLevel::FIRST,
    })
}

pub(crate) fn register(nonce: u32) -> Command {
    Command::RegisterNode(RegisterNode {
        nonce: JoinNonce::new(nonce.into()),
        addresses: addresses(nonce),
        zone: format!("zone-{nonce}"),
        feature_level: FeatureLevel::FIRST,
    })
}

pub(crate) fn addresses(number: u32) -> Addresses {
    let address = |port: u32| format!("node-{number}:{port}");
    Addresses {
        registry: address(5000),
        grpc: address(5001),
        admin: address(8080),
    }
}

pub(crate) fn layout(expected_version: u64, nodes: &[u64]) -> Command {
    let slots: BTreeMap<u32, NodeId> = (0..).zip(nodes.iter().copied().map(NodeId::new)).collect();
    Command::SetLayout(SetLayout {
        expected_version,
        slots,
    })
}

pub(crate) fn generation(node: u64, boot_count: u64, counter: u64) -> Gen {
    Gen {
        epoch: 1,
        node: NodeId::new(node),
        boot_count,
        counter,
    }
}

pub(crate) fn put(repository: &Repository, sample: &Sample) -> Command {
    Command::PutManifest(PutManifest {
        repository: repository.clone(),
        digest: sample.digest.clone(),
        media_type: sample.media_type.clone(),
        content: sample.content.clone(),
        candidate_of: None,
    })
}

pub(crate) fn commit(repository: &Repository, content: &Content, generation: Gen) -> Command {
    Command::CommitBlob(CommitBlob {
        digest: content.digest.clone(),
        size: content.size,
        generation,
        repository: repository.clone(),
    })
}

pub(crate) fn complete(digest: &Digest, children: &[Digest]) -> Command {
    Command::CompleteManifest(CompleteManifest {
        digest: digest.clone(),
        children: children.to_vec(),
    })
}

pub(crate) fn promote(repository: &Repository, tag: &Tag, candidate: &Digest, children: &[Digest]) -> Command {
    Command::PromoteTag(PromoteTag {
        repository: repository.clone(),
        tag: tag.clone(),
        candidate: candidate.clone(),
        children: children.to_vec(),
    })
}
