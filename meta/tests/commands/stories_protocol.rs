//! What all commands share: the request window, the clock, feature levels, formats.

use meta::{
    Command, Envelope, FeatureLevel, Outcome, REQUESTS_REMEMBERED_MAX, ReadError, Rejected, SetFeatureLevel, apply,
    invariant,
};

use crate::replica::{Replica, envelope, init, register};

/// The bytes of an envelope whose command only a version of `level` can read.
fn newer_envelope(level: u8) -> Vec<u8> {
    let request = [0x82, 1, 2];
    let command = [0x42, 0x18, 0x63];
    [[1, 0x84].as_slice(), &request, &[3, level], &command].concat()
}

#[test]
fn a_command_too_new_to_read_is_rejected_as_those_who_can_read_it_do() {
    let mut replica = Replica::formed();
    let bytes = newer_envelope(9);
    let envelope = Envelope::decode(&bytes).unwrap();
    assert_eq!(envelope.encode(), bytes);
    let expected = Rejected::FeatureLevelTooLow {
        required: FeatureLevel::new(9),
        cluster: FeatureLevel::FIRST,
    };
    assert_eq!(replica.apply(&envelope), expected.into());
}

#[test]
fn a_replica_too_old_for_what_the_cluster_accepts_stops() {
    let replica = Replica::default();
    let unreadable = Envelope::decode(&newer_envelope(9)).unwrap();
    assert!(matches!(
        apply(&replica.state, &unreadable),
        Err(ReadError::TooOld { .. })
    ));
}

#[test]
fn a_known_command_with_another_level_or_format_is_not_decoded() {
    let bytes = envelope(1, 2, init(1)).encode();
    let mut other_format = bytes.clone();
    other_format[0] = 2;
    assert!(Envelope::decode(&other_format).is_err());
    assert!(Envelope::decode(&newer_envelope(1)).is_err());
    assert!(Envelope::decode(&[bytes, vec![0]].concat()).is_err());
    assert!(Envelope::decode(&[]).is_err());
}

#[test]
fn the_feature_level_rises_to_what_every_node_understands() {
    let set = |level| {
        Command::SetFeatureLevel(SetFeatureLevel {
            level: FeatureLevel::new(level),
        })
    };
    let mut replica = Replica::default();
    replica.accept(init(1));
    assert!(matches!(
        replica.refuse(set(2)),
        Rejected::NodeTooOld { node: None, .. }
    ));
    replica.accept(register(1));
    assert!(matches!(
        replica.refuse(set(2)),
        Rejected::NodeTooOld { node: Some(_), .. }
    ));
    assert!(matches!(replica.refuse(set(0)), Rejected::FeatureLevelLowered { .. }));
    assert_eq!(replica.propose(set(1)), Outcome::FeatureLevelSet);
}

#[test]
fn logical_time_never_goes_back() {
    let mut replica = Replica::default();
    for (sequence, now_ms) in [(1, 500), (2, 900), (3, 100)] {
        replica.apply(&envelope(sequence, now_ms, init(1)));
    }
    assert_eq!(replica.now_ms(), 900);
}

#[test]
fn only_the_oldest_request_is_forgotten() {
    let mut replica = Replica::default();
    replica.apply(&envelope(0, 0, init(1)));
    for sequence in 1..=REQUESTS_REMEMBERED_MAX {
        replica.apply(&envelope(sequence, 0, init(1)));
    }
    invariant::check_all(&replica.state).unwrap();
    let is_remembered = |sequence| {
        let (_, mutations) = apply(&replica.state, &envelope(sequence, 0, register(1))).unwrap();
        mutations.is_empty()
    };
    assert!(!is_remembered(0));
    assert!(is_remembered(1) && is_remembered(REQUESTS_REMEMBERED_MAX));
}
