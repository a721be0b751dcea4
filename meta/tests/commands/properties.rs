//! Random command sequences: against the oracle, twice, in batches, through snapshots and through bytes.

use meta::{
    AbandonGens, BootNode, Candidate, Command, CommitBlob, CompleteManifest, Envelope, FeatureLevel, Gen, Link,
    LogPosition, MarkLost, MemoryState, NodeId, Outcome, Overlay, PromoteTag, PutManifest, SetCandidate,
    SetFeatureLevel, SetLayout, StateHash, TagCheck, TagChecked, apply, invariant, snapshot,
};
use oci::{Digest, Repository, Tag};
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use crate::model::Model;
use crate::properties_access::about_access;
use crate::replica::{Replica, addresses, commit, envelope, generation, init, put, raising, register};
use crate::universe::{self, BLOBS, Sample, manifests};

const COMMANDS_MAX: usize = 100;

fn a_repository() -> impl Strategy<Value = Repository> {
    prop_oneof![4 => Just(0), 1 => Just(1)].prop_map(universe::repository)
}

fn a_tag() -> impl Strategy<Value = Tag> {
    prop_oneof![4 => Just(0), 1 => Just(1)].prop_map(universe::tag)
}

/// Any manifest, more often one of an image, the index of it and the index of that index.
fn a_sample() -> impl Strategy<Value = &'static Sample> {
    let any = (0..manifests().len()).prop_map(|number| &manifests()[number]);
    prop_oneof![any, select(vec![&manifests()[0], &manifests()[5], &manifests()[7]])]
}

fn a_manifest() -> impl Strategy<Value = Digest> {
    a_sample().prop_map(|sample| sample.digest.clone())
}

fn a_digest() -> impl Strategy<Value = Digest> {
    prop_oneof![
        a_manifest(),
        (0..BLOBS + 1).prop_map(|number| universe::blob(number).digest)
    ]
}

/// The generation that furnishing commits, or another.
fn a_generation() -> impl Strategy<Value = Gen> {
    let epoch = prop_oneof![9 => Just(1_u64), 1 => Just(2)];
    let other = (epoch, 1..4_u64, 1..3_u64, 0..2_u64).prop_map(|(epoch, node, boot_count, counter)| Gen {
        epoch,
        node: NodeId::new(node),
        boot_count,
        counter,
    });
    prop_oneof![Just(generation(1, 1, 0)), other]
}

fn an_etag() -> impl Strategy<Value = Option<String>> {
    option::of(select(vec!["\"1\"".to_owned(), "\"2\"".to_owned()]))
}

/// A manifest with some of its children, now and then with something else.
fn with_children() -> impl Strategy<Value = (Digest, Vec<Digest>)> {
    (a_sample(), any::<u8>(), option::weighted(0.05, a_digest())).prop_map(|(sample, chosen, odd)| {
        let bits = (0..).map(|bit| chosen >> bit & 1 == 1);
        let children = sample.children.iter().zip(bits).filter(|(_, chosen)| *chosen);
        let children = children.map(|(child, _)| child.clone()).chain(odd).collect();
        (sample.digest.clone(), children)
    })
}

fn about_nodes() -> impl Strategy<Value = Command> {
    let slots = btree_map(0..3_u32, (1..4_u64).prop_map(NodeId::new), 0..3);
    let last_log = option::of((1..3_u64, 0..3_u64).prop_map(|(term, index)| LogPosition { term, index }));
    prop_oneof![
        (1..4_u32).prop_map(register),
        (1..3_u128).prop_map(init),
        (0..3_u32).prop_map(|level| Command::SetFeatureLevel(SetFeatureLevel {
            level: FeatureLevel::new(level)
        })),
        (1..4_u64, 0..3_u64, last_log, option::of(1..9_u32)).prop_map(|(node, boot_count, last_log, moved)| {
            Command::BootNode(BootNode {
                node: NodeId::new(node),
                boot_count,
                last_log,
                feature_level: FeatureLevel::new(1 + u32::from(boot_count > 0)),
                addresses: moved.map(addresses),
            })
        }),
        (0..3_u64, slots).prop_map(|(expected_version, slots)| Command::SetLayout(SetLayout {
            expected_version,
            slots
        })),
        (1..4_u64, 0..3_u64).prop_map(|(node, boots_below)| Command::AbandonGens(AbandonGens {
            node: NodeId::new(node),
            boots_below
        })),
    ]
}

fn about_content() -> impl Strategy<Value = Command> {
    let commit = (0..BLOBS, a_generation(), a_repository(), prop::bool::weighted(0.03));
    prop_oneof![
        4 => commit.prop_map(|(number, generation, repository, wrong_size)| {
            let blob = universe::blob(number);
            let size = blob.size + u64::from(wrong_size);
            Command::CommitBlob(CommitBlob { digest: blob.digest, size, generation, repository })
        }),
        3 => (a_repository(), a_sample(), option::of((a_tag(), an_etag()))).prop_map(|(repository, sample, tag)| {
            Command::PutManifest(PutManifest {
                repository,
                digest: sample.digest.clone(),
                media_type: sample.media_type.clone(),
                content: sample.content.clone(),
                candidate_of: tag.map(|(tag, upstream_etag)| Candidate { tag, upstream_etag }),
            })
        }),
        4 => with_children().prop_map(|(digest, children)| Command::CompleteManifest(CompleteManifest { digest, children })),
        1 => (0..BLOBS, a_generation()).prop_map(|(number, generation)| {
            Command::MarkLost(MarkLost { digest: universe::blob(number).digest, generation })
        }),
        1 => (a_repository(), a_digest()).prop_map(|(repository, digest)| Command::Link(Link { repository, digest })),
    ]
}

fn about_tags() -> impl Strategy<Value = Command> {
    let check = prop_oneof![
        (a_manifest(), an_etag()).prop_map(|(digest, upstream_etag)| TagCheck::Confirmed { digest, upstream_etag }),
        Just(TagCheck::Failed),
    ];
    let place = || (a_repository(), a_tag());
    prop_oneof![
        2 => (place(), a_manifest(), an_etag(), option::weighted(0.3, a_manifest())).prop_map(
            |((repository, tag), digest, upstream_etag, expected_serving)| Command::SetCandidate(SetCandidate {
                repository,
                tag,
                digest,
                upstream_etag,
                expected_serving
            })
        ),
        3 => (place(), with_children()).prop_map(|((repository, tag), (candidate, children))| {
            Command::PromoteTag(PromoteTag {
                repository,
                tag,
                candidate,
                children,
            })
        }),
        2 => (place(), 0..9_000_u64, check).prop_map(|((repository, tag), at_ms, check)| {
            Command::TagChecked(TagChecked {
                repository,
                tag,
                at_ms,
                check,
            })
        }),
    ]
}

/// Commands that make the cluster.
fn forming() -> Vec<Command> {
    vec![init(1), register(1), register(2)]
}

/// Commands that store every blob and manifest.
fn furnishing() -> Vec<Command> {
    let place = universe::repository(0);
    let blobs = (0..BLOBS).map(|number| commit(&place, &universe::blob(number), generation(1, 1, 0)));
    let manifests = manifests().iter().map(|sample| put(&place, sample));
    blobs.chain(manifests).collect()
}

/// Envelopes with distinct requests and a clock that now and then goes back.
fn envelopes() -> impl Strategy<Value = Vec<Envelope>> {
    let command = prop_oneof![2 => about_nodes(), 6 => about_content(), 6 => about_tags(), 6 => about_access()];
    let beginning = prop_oneof![
        1 => Just(Vec::new()),
        3 => Just(forming()),
        3 => Just([forming(), furnishing()].concat()),
        6 => Just([forming(), furnishing(), raising()].concat()),
    ];
    (beginning, vec((command, 0..200_u64), 1..COMMANDS_MAX)).prop_map(|(beginning, commands)| {
        let beginning = beginning.into_iter().map(|command| (command, 0));
        let numbered = (1..).zip(beginning.chain(commands));
        numbered
            .map(|(sequence, (command, jitter))| envelope(sequence, 100 * sequence + jitter, command))
            .collect()
    })
}

fn replay(envelopes: &[Envelope]) -> Replica {
    let mut replica = Replica::default();
    for envelope in envelopes {
        replica.apply(envelope);
    }
    replica
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn answers_and_views_are_those_of_the_oracle(envelopes in envelopes()) {
        let (mut replica, mut model) = (Replica::default(), Model::default());
        for envelope in &envelopes {
            let expected = model.apply(envelope.now_ms, &envelope.command);
            prop_assert_eq!(replica.apply(envelope), expected, "{:?}", envelope);
            invariant::check_all(&replica.state).unwrap();
            model.assert_shown_by(&replica.state);
        }
        prop_assert_eq!(replica.hash, StateHash::of(&replica.state).unwrap());
    }

    #[test]
    fn an_envelope_applied_again_answers_the_same_and_changes_nothing(envelopes in envelopes(), again: Index) {
        let mut replica = Replica::default();
        let outcomes: Vec<Outcome> = envelopes.iter().map(|envelope| replica.apply(envelope)).collect();
        let place = again.index(envelopes.len());
        let founded = envelopes[..=place].iter().any(|envelope| matches!(envelope.command, Command::InitCluster(_)));
        prop_assume!(founded);
        let late = Envelope { now_ms: u64::MAX, ..envelopes[place].clone() };
        let (outcome, mutations) = apply(&replica.state, &late).unwrap();
        prop_assert_eq!(&outcome, &outcomes[place]);
        prop_assert_eq!(mutations, []);
    }

    #[test]
    fn a_snapshot_and_the_rest_of_the_log_equal_the_whole_log(envelopes in envelopes(), cut: Index) {
        let (before, after) = envelopes.split_at(cut.index(envelopes.len()));
        let mut bytes = Vec::new();
        snapshot::write(&replay(before).state, &mut bytes).unwrap();

        let mut restored = Replica::default();
        restored.hash = snapshot::read(&mut bytes.as_slice(), |record| {
            restored.state.apply_mutations([record]);
            Ok(())
        }).unwrap();
        for envelope in after {
            restored.apply(envelope);
        }
        let straight = replay(&envelopes);
        prop_assert_eq!(restored.hash, straight.hash);
        prop_assert_eq!(restored.state, straight.state);
    }

    #[test]
    fn batches_of_any_size_give_the_same_state(envelopes in envelopes(), sizes in vec(1..9_usize, COMMANDS_MAX + 30)) {
        let (mut state, mut hash) = (MemoryState::new(), StateHash::EMPTY);
        let mut rest = envelopes.as_slice();
        for size in sizes {
            let (batch, later) = rest.split_at(size.min(rest.len()));
            rest = later;
            let mut overlay = Overlay::new(&state);
            for envelope in batch {
                let (_, mutations) = apply(&overlay, envelope).unwrap();
                overlay.push(mutations);
            }
            let mutations = overlay.into_mutations();
            hash.fold(&state, &mutations).unwrap();
            state.apply_mutations(mutations);
        }
        let straight = replay(&envelopes);
        prop_assert_eq!(hash, straight.hash);
        prop_assert_eq!(state, straight.state);
    }

    #[test]
    fn bytes_lead_back_to_what_they_encode(envelopes in envelopes()) {
        let mut replica = Replica::default();
        for envelope in envelopes {
            let decoded = Envelope::decode(&envelope.encode()).unwrap();
            let outcome = replica.apply(&decoded);
            prop_assert_eq!(Outcome::decode(&outcome.encode()).unwrap(), outcome);
            prop_assert_eq!(Command::decode(&envelope.command.encode()).unwrap(), envelope.command.clone());
            prop_assert_eq!(decoded, envelope);
        }
    }

    #[test]
    fn damaged_bytes_decode_to_an_error_or_to_something_that_applies(
        envelopes in envelopes(),
        damage in vec((any::<Index>(), any::<u8>()), 1..4),
        garbage in vec(any::<u8>(), 0..64),
    ) {
        let mut replica = Replica::default();
        for envelope in envelopes {
            let mut bytes = envelope.encode();
            for (place, value) in &damage {
                let place = place.index(bytes.len());
                bytes[place] = *value;
            }
            if let Ok(damaged) = Envelope::decode(&bytes) {
                let _ = apply(&replica.state, &damaged);
            }
            replica.apply(&envelope);
        }
        let _ = (Envelope::decode(&garbage), Command::decode(&garbage), Outcome::decode(&garbage));
        let _ = snapshot::read(&mut garbage.as_slice(), |_| Ok(()));
    }
}
