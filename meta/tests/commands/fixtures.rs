//! The bytes of format version 1, pinned: what a running cluster has in its logs, states and snapshots.
//!
//! A line that differs means that older and newer versions no longer understand each other. A new command, field or
//! record gets a line of its own; an existing line is never edited. The files list name and hex.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use meta::{
    AbandonGens, BootNode, Candidate, ChangeDesired, Command, CredentialId, DesiredImage, Envelope, FeatureLevel,
    KnowHosts, Link, LogPosition, ManifestContent, MarkGrants, MarkLost, NodeId, NodePlacement, NoteDesired, Outcome,
    Platform, PutGrant, PutManifest, Rejected, RepositoryItem, ResealCredential, RevokeGrants, SetCandidate,
    SetFeatureLevel, SetPlacements, SetVisibility, TagCheck, TagChecked,
};

use oci::ImageReference;

use crate::replica::{
    Replica, addresses, commit, complete, envelope, generation, init, layout, promote, put, register,
};
use crate::universe::{blob, image, image_with, index, large_image, repository, tag};

const ENVELOPES: &str = include_str!("fixtures/envelopes-v1.txt");
const OUTCOMES: &str = include_str!("fixtures/outcomes-v1.txt");
const RECORDS: &str = include_str!("fixtures/records-v1.txt");
const RECORDS_OF_LEVEL_2: &str = include_str!("fixtures/records-level-2.txt");

/// A script that proposes every command at least once.
fn script() -> Vec<Command> {
    let (repository, tag) = (repository(0), tag(0));
    let (amd64, arm64) = (image_with(&[0, 1], Some(2), None), large_image(3, &[1]));
    let both = index(&[&amd64.digest, &arm64.digest]);
    let about = image_with(&[0], None, Some(&both.digest));
    let put_both = PutManifest {
        repository: repository.clone(),
        digest: both.digest.clone(),
        media_type: both.media_type.clone(),
        content: both.content.clone(),
        candidate_of: Some(Candidate {
            tag: tag.clone(),
            upstream_etag: Some("\"1\"".to_owned()),
        }),
    };
    let check = |check| {
        Command::TagChecked(TagChecked {
            repository: repository.clone(),
            tag: tag.clone(),
            at_ms: 999_999,
            check,
        })
    };
    let confirmed = TagCheck::Confirmed {
        digest: both.digest.clone(),
        upstream_etag: None,
    };
    let children = std::slice::from_ref(&amd64.digest);
    vec![
        init(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef),
        register(1),
        Command::SetFeatureLevel(SetFeatureLevel {
            level: FeatureLevel::FIRST,
        }),
        Command::BootNode(BootNode {
            node: NodeId::new(1),
            boot_count: 2,
            last_log: Some(LogPosition { term: 3, index: 400 }),
            feature_level: FeatureLevel::FIRST,
            addresses: Some(addresses(9)),
        }),
        layout(0, &[1]),
        put(&repository, &amd64),
        put(&repository, &arm64),
        put(&repository, &about),
        Command::PutManifest(put_both),
        commit(&repository, &blob(0), generation(1, 2, 0)),
        commit(&repository, &blob(1), generation(1, 2, 1)),
        Command::AbandonGens(AbandonGens {
            node: NodeId::new(1),
            boots_below: 2,
        }),
        complete(&both.digest, children),
        promote(&repository, &tag, &both.digest, children),
        check(TagCheck::Failed),
        check(confirmed),
        Command::SetCandidate(SetCandidate {
            repository: repository.clone(),
            tag: tag.clone(),
            digest: amd64.digest.clone(),
            upstream_etag: None,
            expected_serving: Some(both.digest.clone()),
        }),
        promote(&repository, &tag, &amd64.digest, &[]),
        Command::Link(Link {
            repository: crate::universe::repository(1),
            digest: about.digest.clone(),
        }),
        check(TagCheck::Failed),
        Command::MarkLost(MarkLost {
            digest: blob(1).digest,
            generation: generation(1, 2, 1),
        }),
    ]
}

/// One of each outcome.
fn outcomes() -> Vec<Outcome> {
    let digest = image(&[0]).digest;
    let some = Some(digest.clone());
    let cluster = FeatureLevel::FIRST;
    let last_log = Some(LogPosition { term: 1, index: 2 });
    let rejected = [
        Rejected::NotInitialized,
        Rejected::AlreadyInitialized {
            cluster_id: meta::ClusterId::new(1),
            epoch: 2,
        },
        Rejected::FeatureLevelTooLow {
            required: FeatureLevel::new(2),
            cluster,
        },
        Rejected::NodeTooOld {
            node: Some(NodeId::new(1)),
            level: cluster,
        },
        Rejected::FeatureLevelLowered { current: cluster },
        Rejected::UnknownNode { node: NodeId::new(1) },
        Rejected::NodeWentBackwards {
            node: NodeId::new(1),
            boot_count: 2,
            last_log,
        },
        Rejected::LayoutChanged { version: 3 },
        Rejected::LayoutInvalid,
        Rejected::FieldTooLong {
            field: "zone".to_owned(),
        },
        Rejected::DigestUnverifiable,
        Rejected::DigestMismatch,
        Rejected::ManifestTooLarge,
        Rejected::ManifestUnreadable,
        Rejected::MediaTypeConflict,
        Rejected::UnknownManifest { digest: digest.clone() },
        Rejected::MissingBlobs {
            digests: vec![digest.clone()],
            total: 70,
        },
        Rejected::NotAChild,
        Rejected::ChildIncomplete { digest },
        Rejected::NestedTooDeep,
        Rejected::SizeMismatch { known: 5 },
        Rejected::GenRefused,
        Rejected::GenChanged {
            current: Some(generation(1, 2, 3)),
        },
        Rejected::UnknownTag,
        Rejected::ServingChanged { serving: some.clone() },
        Rejected::CandidateChanged { candidate: some },
        Rejected::NotComplete,
        Rejected::UnknownDigest,
        Rejected::NotLinked,
    ];
    let accepted = [
        Outcome::Initialized,
        Outcome::FeatureLevelSet,
        Outcome::NodeRegistered { id: NodeId::new(1) },
        Outcome::NodeBooted,
        Outcome::LayoutSet { version: 1 },
        Outcome::ManifestStored {
            repository: meta::RepositoryId::new(1),
        },
        Outcome::BlobCommitted,
        Outcome::AlreadyPresent {
            generation: generation(1, 2, 3),
        },
        Outcome::GensAbandoned,
        Outcome::ManifestCompleted,
        Outcome::BlobLost,
        Outcome::LossPending,
        Outcome::CandidateSet,
        Outcome::TagPromoted { serving_index: 300 },
        Outcome::TagChecked,
        Outcome::Linked,
    ];
    let rejected_since_level_2 = [
        Rejected::TooMany {
            what: "images".to_owned(),
        },
        Rejected::ReferenceNotCanonical,
        Rejected::UnknownCredential,
        Rejected::KeyChanged,
    ];
    let accepted_since_level_2 = [
        Outcome::DesiredChanged { pending: true },
        Outcome::DesiredNoted,
        Outcome::VisibilitySet,
        Outcome::Granted,
        Outcome::Revoked,
        Outcome::GrantsMarked,
        Outcome::Resealed,
        Outcome::PlacementsSet,
        Outcome::HostsKnown,
    ];
    let first = rejected.map(Outcome::Rejected).into_iter().chain(accepted);
    let second = rejected_since_level_2.map(Outcome::Rejected).into_iter();
    first.chain(second).chain(accepted_since_level_2).collect()
}

/// A script that goes on after [`script`] and proposes every command of the second level at least once.
fn script_of_level_2() -> Vec<Command> {
    let tagged: ImageReference = "quay.io:443/a/b:1".parse().unwrap();
    let digested = format!("docker.io/library/nginx@{}", image(&[0]).digest);
    let (place, credential) = (repository(1), CredentialId::new(0xabc));
    let namespace = "team-a".to_owned();
    let image = |reference: ImageReference, retain| DesiredImage { reference, retain };
    let grant = |namespace: &str| {
        Command::PutGrant(PutGrant {
            namespace: namespace.to_owned(),
            repository: place.clone(),
            credential,
            sealed: vec![1, 2, 3],
            key_id: "k1".to_owned(),
            origin: "team-a/pull".to_owned(),
        })
    };
    let level = FeatureLevel::ACCESS;
    let boot = BootNode {
        node: NodeId::new(1),
        boot_count: 3,
        last_log: Some(LogPosition { term: 3, index: 500 }),
        feature_level: level,
        addresses: None,
    };
    let change = ChangeDesired {
        put: vec![image(tagged.clone(), true), image(digested.parse().unwrap(), false)],
        drop: vec!["docker.io/library/gone:1".parse().unwrap()],
        begin: true,
        end: true,
        platforms: vec![Platform {
            os: "linux".to_owned(),
            architecture: "arm64".to_owned(),
            variant: Some("v8".to_owned()),
        }],
    };
    vec![
        Command::BootNode(boot),
        Command::SetFeatureLevel(SetFeatureLevel { level }),
        Command::ChangeDesired(change),
        Command::NoteDesired(NoteDesired {
            reference: tagged,
            complete: true,
            error: Some("away".to_owned()),
        }),
        Command::SetVisibility(SetVisibility {
            repository: repository(0),
            public: true,
        }),
        grant("team-a"),
        grant("team-b"),
        Command::MarkGrants(MarkGrants {
            repository: place.clone(),
            namespaces: vec![namespace.clone()],
            credential,
            refused: true,
        }),
        Command::ResealCredential(ResealCredential {
            credential,
            expected_key_id: "k1".to_owned(),
            sealed: vec![4, 5],
            key_id: "k2".to_owned(),
        }),
        Command::RevokeGrants(RevokeGrants {
            namespace: "team-b".to_owned(),
            repositories: vec![RepositoryItem(place.clone())],
        }),
        Command::SetPlacements(SetPlacements {
            placements: vec![NodePlacement {
                node: "worker-1".to_owned(),
                repositories: vec![RepositoryItem(place.clone())],
            }],
        }),
        Command::KnowHosts(KnowHosts {
            hosts: vec!["reg.example:5000".parse().unwrap()],
        }),
    ]
}

fn envelopes() -> Vec<Envelope> {
    let numbered = (1..).zip(script().into_iter().chain(script_of_level_2()));
    numbered
        .map(|(sequence, command)| envelope(sequence, 1000 * sequence, command))
        .collect()
}

#[test]
fn envelopes_keep_their_bytes() {
    let envelopes = envelopes();
    let names: BTreeSet<_> = envelopes.iter().map(|envelope| envelope.command.name()).collect();
    assert_eq!(names.len(), 23, "a command without a fixture: {names:?}");
    assert!(envelopes.iter().any(|envelope| matches!(
        &envelope.command,
        Command::PutManifest(PutManifest {
            content: ManifestContent::Blob { .. },
            ..
        })
    )));
    let lines = envelopes
        .iter()
        .map(|envelope| line(&[envelope.command.name()], &envelope.encode()));
    assert_same(&lines.collect::<String>(), ENVELOPES);
    for (envelope, line) in envelopes.iter().zip(ENVELOPES.lines()) {
        assert_eq!(Envelope::decode(&unhex(line)).unwrap(), *envelope);
    }
}

#[test]
fn outcomes_keep_their_bytes() {
    let outcomes = outcomes();
    let lines = outcomes
        .iter()
        .map(|outcome| line(&[&name_of(outcome)], &outcome.encode()));
    assert_same(&lines.collect::<String>(), OUTCOMES);
    for (outcome, line) in outcomes.iter().zip(OUTCOMES.lines()) {
        assert_eq!(Outcome::decode(&unhex(line)).unwrap(), *outcome);
    }
}

#[test]
fn records_keep_their_keys_and_bytes() {
    let mut replica = Replica::default();
    let (first, second) = (script().len(), envelopes());
    let (first, second) = second.split_at(first);
    apply_all(&mut replica, first);
    let lines = record_lines(&replica, |_| true);
    assert_same(&lines, RECORDS);
    assert_eq!(replica.hash.to_string(), STATE_HASH);
    apply_all(&mut replica, second);
    let families: BTreeSet<_> = replica.state.records().map(|(family, _, _)| family).collect();
    assert_eq!(families.len(), meta::Family::ALL.len(), "a family without a fixture");
    let lines = record_lines(&replica, |family| family > meta::Family::RequestRing);
    assert_same(&lines, RECORDS_OF_LEVEL_2);
}

fn record_lines(replica: &Replica, shown: impl Fn(meta::Family) -> bool) -> String {
    let records = replica.state.records().filter(|(family, _, _)| shown(*family));
    let lines = records.map(|(family, key, value)| line(&[family.name(), &hex(key)], value));
    lines.collect()
}

fn apply_all(replica: &mut Replica, envelopes: &[Envelope]) {
    for envelope in envelopes {
        let outcome = replica.apply(envelope);
        assert!(
            !matches!(outcome, Outcome::Rejected(_)),
            "{:?}: {outcome:?}",
            envelope.command
        );
    }
    meta::invariant::check_all(&replica.state).unwrap();
}

/// Hash of the state that `records-v1.txt` lists.
const STATE_HASH: &str = "b1fdaf9dcccf2e76ad468dd5f8a0d29a";

fn assert_same(actual: &str, expected: &str) {
    for (actual, expected) in actual.lines().zip(expected.lines()) {
        assert_eq!(actual, expected, "format version 1 has changed");
    }
    assert!(actual == expected, "lines are missing or new; all of them:\n{actual}");
}

fn name_of(outcome: &Outcome) -> String {
    let text = format!("{outcome:?}");
    let words: Vec<_> = text.split([' ', '(', ')', '{']).collect();
    let depth = if words[0] == "Rejected" { 2 } else { 1 };
    words[..depth].join(".")
}

fn line(names: &[&str], bytes: &[u8]) -> String {
    format!("{} {}\n", names.join(" "), hex(bytes))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

fn unhex(line: &str) -> Vec<u8> {
    let hex = line.rsplit(' ').next().unwrap();
    let digits = |place| u8::from_str_radix(&hex[place..place + 2], 16).unwrap();
    (0..hex.len()).step_by(2).map(digits).collect()
}
