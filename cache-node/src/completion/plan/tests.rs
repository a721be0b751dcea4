use meta::{
    Addresses, ClusterId, Command, CommitBlob, CompleteManifest, Envelope, FeatureLevel, Gen, InitCluster, JoinNonce,
    ManifestContent, MemoryState, NodeId, Outcome, PutManifest, RegisterNode, RequestId, StorageId,
};
use testkit::{Image, image};

use super::*;
use crate::whole::{is_whole, newest};

/// A state that commands are applied to, as a cluster of one would.
struct State {
    memory: MemoryState,
    sequence: u64,
}

impl State {
    fn new() -> Self {
        let mut state = Self {
            memory: MemoryState::default(),
            sequence: 0,
        };
        state.apply(Command::InitCluster(InitCluster {
            cluster_id: ClusterId::new(1),
            epoch: 1,
            storage_id: StorageId::new(1),
            feature_level: FeatureLevel::SUPPORTED,
        }));
        state.apply(Command::RegisterNode(RegisterNode {
            nonce: JoinNonce::new(1),
            addresses: Addresses::default(),
            zone: String::new(),
            feature_level: FeatureLevel::SUPPORTED,
        }));
        state
    }

    fn apply(&mut self, command: Command) {
        self.sequence += 1;
        let request = RequestId {
            client: 1,
            sequence: self.sequence,
        };
        let (outcome, mutations) = meta::apply(
            &self.memory,
            &Envelope {
                request,
                now_ms: 1,
                command,
            },
        )
        .unwrap();
        assert!(!matches!(outcome, Outcome::Rejected(_)), "{outcome:?}");
        self.memory.apply_mutations(mutations);
    }

    fn put(&mut self, image: &Image, digest: &Digest) {
        let raw = &image.manifests()[digest];
        self.apply(Command::PutManifest(PutManifest {
            repository: repository(),
            digest: digest.clone(),
            media_type: raw.media_type().clone(),
            content: ManifestContent::Inline {
                bytes: raw.bytes().to_vec(),
            },
            candidate_of: None,
        }));
    }

    fn commit(&mut self, blob: &MissingBlob) {
        self.sequence += 1;
        self.apply(Command::CommitBlob(CommitBlob {
            digest: blob.digest.clone(),
            size: blob.size_bytes,
            generation: Gen {
                epoch: 1,
                node: NodeId::FIRST,
                boot_count: 0,
                counter: self.sequence,
            },
            repository: repository(),
        }));
    }

    fn complete(&mut self, digest: &Digest, children: Vec<Digest>) {
        self.apply(Command::CompleteManifest(CompleteManifest {
            digest: digest.clone(),
            children,
        }));
    }

    fn next(&self, digest: &Digest) -> Next {
        next(&self.memory, digest).unwrap()
    }

    /// Does what is said to be next until there is nothing left to do here.
    fn make_whole(&mut self, digest: &Digest) {
        while let Next::Fetch(blobs) = self.next(digest) {
            blobs.iter().for_each(|blob| self.commit(blob));
        }
        if let Next::Complete(children) = self.next(digest) {
            self.complete(digest, children);
        }
    }
}

fn repository() -> oci::Repository {
    oci::Repository::new("source.example".parse().unwrap(), "team/app".parse().unwrap())
}

fn two_platforms() -> Image {
    image("team/app")
        .platform("linux/amd64")
        .layer("a")
        .platform("linux/arm64")
        .layer("b")
        .index()
        .build()
}

#[test]
fn an_image_is_fetched_then_complete_then_done() {
    let image = image("team/app").platform("linux/amd64").layer("a").build();
    let mut state = State::new();
    assert_eq!(state.next(image.root()), Next::AwaitManifest);
    state.put(&image, image.root());
    let Next::Fetch(blobs) = state.next(image.root()) else {
        panic!("blobs are missing")
    };
    assert_eq!(blobs.len(), image.blobs().len());
    state.commit(&blobs[0]);
    assert_eq!(
        state.next(image.root()),
        Next::Fetch(blobs[1..].to_vec()),
        "what is present is not fetched again"
    );
    blobs[1..].iter().for_each(|blob| state.commit(blob));
    assert_eq!(state.next(image.root()), Next::Complete(Vec::new()));
    state.complete(image.root(), Vec::new());
    assert_eq!(state.next(image.root()), Next::Done);
}

#[test]
fn an_index_waits_until_someone_asks_for_a_child() {
    let image = two_platforms();
    let mut state = State::new();
    state.put(&image, image.root());
    assert_eq!(state.next(image.root()), Next::AwaitChildren(Vec::new()));
    assert!(!is_whole(&state.memory, image.root()).unwrap());
}

#[test]
fn an_index_is_whole_for_the_platforms_asked_for() {
    let image = two_platforms();
    let (amd64, arm64) = (image.child("linux/amd64"), image.child("linux/arm64"));
    let mut state = State::new();
    state.put(&image, image.root());
    state.put(&image, amd64);
    assert_eq!(state.next(image.root()), Next::AwaitChildren(vec![amd64.clone()]));
    state.make_whole(amd64);
    assert_eq!(state.next(image.root()), Next::Complete(vec![amd64.clone()]));
    state.make_whole(image.root());
    assert_eq!(state.next(image.root()), Next::Done);
    assert!(is_whole(&state.memory, image.root()).unwrap());
    state.put(&image, arm64);
    assert!(
        !is_whole(&state.memory, image.root()).unwrap(),
        "another platform is wanted by now"
    );
    state.make_whole(arm64);
    state.make_whole(image.root());
    assert!(is_whole(&state.memory, image.root()).unwrap());
}

#[test]
fn without_its_source_a_tag_is_the_newest_whole_image() {
    let (old, new) = (
        two_platforms(),
        image("team/app").platform("linux/amd64").layer("new").build(),
    );
    let mut state = State::new();
    state.put(&new, new.root());
    let tag = |serving: Option<&Digest>| meta::TagRecord {
        serving: serving.cloned(),
        candidate: Some(new.root().clone()),
        ..meta::TagRecord::default()
    };
    let answer = |state: &State, tag| newest(&state.memory, &tag).unwrap().unwrap();
    assert_eq!(
        &answer(&state, tag(Some(old.root()))),
        old.root(),
        "the candidate lacks blobs"
    );
    assert_eq!(&answer(&state, tag(None)), new.root(), "there is nothing better");
    state.make_whole(new.root());
    assert_eq!(&answer(&state, tag(Some(old.root()))), new.root());
}
