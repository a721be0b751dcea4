//! Random commands about desired images, grants and placements.

use meta::{
    ChangeDesired, Command, CredentialId, DesiredImage, KnowHosts, MarkGrants, NodePlacement, NoteDesired, Platform,
    PutGrant, RepositoryItem, ResealCredential, RevokeGrants, SetPlacements, SetVisibility,
};
use oci::{Digest, ImageReference, Repository};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use crate::universe;

fn a_repository() -> impl Strategy<Value = Repository> {
    (0..2_usize).prop_map(universe::repository)
}

/// Mostly by tag or by digest, now and then by both or neither.
fn a_reference() -> impl Strategy<Value = ImageReference> {
    let named = prop_oneof![10 => Just((true, false)), 10 => Just((false, true)), 1 => Just((true, true)), 1 => Just((false, false))];
    (a_repository(), 0..2_usize, named).prop_map(|(repository, number, (tagged, digested))| ImageReference {
        repository,
        tag: tagged.then(|| universe::tag(number)),
        digest: digested.then(|| Digest::sha256(b"x")),
    })
}

fn a_namespace() -> impl Strategy<Value = String> {
    select(vec!["team-a".to_owned(), "team-b".to_owned(), "team".to_owned()])
}

fn a_credential() -> impl Strategy<Value = CredentialId> {
    (1..4_u128).prop_map(CredentialId::new)
}

fn a_key() -> impl Strategy<Value = String> {
    select(vec!["k1".to_owned(), "k2".to_owned()])
}

fn some_repositories() -> impl Strategy<Value = Vec<RepositoryItem>> {
    vec(a_repository().prop_map(RepositoryItem), 0..3)
}

fn a_platform() -> impl Strategy<Value = Platform> {
    (select(vec!["amd64", "arm64"]), option::of(Just("v8".to_owned()))).prop_map(|(architecture, variant)| Platform {
        os: "linux".to_owned(),
        architecture: architecture.to_owned(),
        variant,
    })
}

fn about_desired() -> impl Strategy<Value = Command> {
    let image = (a_reference(), any::<bool>()).prop_map(|(reference, retain)| DesiredImage { reference, retain });
    let change = (vec(image, 0..3), vec(a_reference(), 0..2), vec(a_platform(), 0..3));
    let ends = (prop::bool::weighted(0.3), prop::bool::weighted(0.3));
    let note = (
        a_reference(),
        any::<bool>(),
        option::of(Just("the source is away".to_owned())),
    );
    prop_oneof![
        3 => (change, ends).prop_map(|((put, drop, platforms), (begin, end))| {
            Command::ChangeDesired(ChangeDesired { put, drop, begin, end, platforms })
        }),
        1 => note.prop_map(|(reference, complete, error)| Command::NoteDesired(NoteDesired {
            reference,
            complete,
            error
        })),
    ]
}

pub(crate) fn about_access() -> impl Strategy<Value = Command> {
    let placement = (select(vec!["node-1", "node-2"]), some_repositories());
    let placement = placement.prop_map(|(node, repositories)| NodePlacement {
        node: node.to_owned(),
        repositories,
    });
    let sealed = || vec(any::<u8>(), 0..4);
    prop_oneof![
        3 => about_desired(),
        1 => (a_repository(), any::<bool>()).prop_map(|(repository, public)| {
            Command::SetVisibility(SetVisibility { repository, public })
        }),
        4 => (a_namespace(), a_repository(), a_credential(), sealed(), a_key()).prop_map(
            |(namespace, repository, credential, sealed, key_id)| Command::PutGrant(PutGrant {
                origin: format!("{namespace}/pull"),
                namespace,
                repository,
                credential,
                sealed,
                key_id,
            })
        ),
        2 => (a_namespace(), some_repositories()).prop_map(|(namespace, repositories)| {
            Command::RevokeGrants(RevokeGrants { namespace, repositories })
        }),
        1 => (a_repository(), vec(a_namespace(), 0..3), a_credential(), any::<bool>()).prop_map(
            |(repository, namespaces, credential, refused)| Command::MarkGrants(MarkGrants {
                repository,
                namespaces,
                credential,
                refused,
            })
        ),
        1 => (a_credential(), a_key(), sealed(), a_key()).prop_map(|(credential, expected_key_id, sealed, key_id)| {
            Command::ResealCredential(ResealCredential { credential, expected_key_id, sealed, key_id })
        }),
        2 => vec(placement, 0..3).prop_map(|placements| Command::SetPlacements(SetPlacements { placements })),
        1 => vec(a_repository().prop_map(|repository| repository.host), 0..3).prop_map(|hosts| {
            Command::KnowHosts(KnowHosts { hosts })
        }),
    ]
}
