//! Blobs and manifests: generations, completeness, loss, links.

use meta::{
    AbandonGens, BootNode, Command, FeatureLevel, Gen, Link, MANIFEST_INLINE_BYTES_MAX, ManifestContent, MarkLost,
    NodeId, Outcome, PutManifest, REFERENCES_MAX, Rejected, view,
};
use oci::{Digest, MediaType};

use crate::replica::{Replica, commit, complete, generation, put};
use crate::universe::{Sample, blob, image, image_with, index, large_image, repository};

fn lose(digest: &Digest, generation: Gen) -> Command {
    Command::MarkLost(MarkLost {
        digest: digest.clone(),
        generation,
    })
}

fn put_bytes(digest: Digest, media_type: &str, bytes: &[u8]) -> Command {
    Command::PutManifest(PutManifest {
        repository: repository(0),
        digest,
        media_type: media_type.parse().unwrap(),
        content: ManifestContent::Inline { bytes: bytes.to_vec() },
        candidate_of: None,
    })
}

fn boot(node: u64, boot_count: u64) -> Command {
    Command::BootNode(BootNode {
        node: NodeId::new(node),
        boot_count,
        last_log: None,
        feature_level: FeatureLevel::FIRST,
        addresses: None,
    })
}

#[test]
fn the_first_committed_generation_wins() {
    let mut replica = Replica::formed();
    let (first, second) = (generation(1, 1, 0), generation(2, 1, 0));
    assert_eq!(
        replica.propose(commit(&repository(0), &blob(0), first)),
        Outcome::BlobCommitted
    );
    let answer = replica.propose(commit(&repository(1), &blob(0), second));
    assert_eq!(answer, Outcome::AlreadyPresent { generation: first });
    assert_eq!(
        replica.propose(commit(&repository(0), &blob(0), first)),
        Outcome::BlobCommitted
    );
    assert_eq!(
        view::blob(&replica.state, &blob(0).digest).unwrap().unwrap().present(),
        Some(first)
    );
}

#[test]
fn a_generation_of_an_abandoned_boot_is_never_committed() {
    let mut replica = Replica::formed();
    replica.accept(boot(1, 3));
    replica.accept(commit(&repository(0), &blob(0), generation(1, 2, 0)));
    replica.accept(Command::AbandonGens(AbandonGens {
        node: NodeId::new(1),
        boots_below: 3,
    }));
    assert_eq!(
        replica.refuse(commit(&repository(0), &blob(1), generation(1, 2, 1))),
        Rejected::GenRefused
    );
    replica.accept(commit(&repository(0), &blob(1), generation(1, 3, 0)));
    replica.accept(commit(&repository(0), &blob(2), generation(2, 1, 0)));
    assert_eq!(
        replica.propose(commit(&repository(0), &blob(0), generation(1, 2, 0))),
        Outcome::BlobCommitted
    );
}

#[test]
fn a_node_cannot_abandon_boots_it_has_not_had() {
    let mut replica = Replica::formed();
    let command = AbandonGens {
        node: NodeId::new(1),
        boots_below: 1,
    };
    assert_eq!(replica.refuse(Command::AbandonGens(command)), Rejected::GenRefused);
}

#[test]
fn a_manifest_is_complete_only_with_every_blob() {
    let mut replica = Replica::formed();
    let sample = image(&[0, 1, 2]);
    replica.accept(put(&repository(0), &sample));
    replica.accept(commit(&repository(0), &blob(1), generation(1, 1, 0)));
    let missing = Rejected::MissingBlobs {
        digests: vec![blob(0).digest, blob(2).digest],
        total: 2,
    };
    assert_eq!(replica.refuse(complete(&sample.digest, &[])), missing);
    for number in [0, 2] {
        replica.accept(commit(&repository(0), &blob(number), generation(1, 1, 1)));
    }
    assert_eq!(
        replica.propose(complete(&sample.digest, &[])),
        Outcome::ManifestCompleted
    );
    assert!(replica.is_complete(&sample.digest));
}

#[test]
fn a_foreign_layer_is_neither_required_nor_held() {
    let mut replica = Replica::formed();
    let sample = image_with(&[0], Some(1), None);
    replica.store_whole(&repository(0), &sample);
    replica.accept(commit(&repository(0), &blob(1), generation(1, 1, 0)));
    replica.accept(lose(&blob(1).digest, generation(1, 1, 0)));
    assert!(replica.is_complete(&sample.digest));
}

#[test]
fn the_bytes_of_a_large_manifest_are_required_too() {
    let mut replica = Replica::formed();
    let sample = large_image(6, &[1]);
    replica.accept(put(&repository(0), &sample));
    replica.accept(commit(&repository(0), &blob(1), generation(1, 1, 0)));
    assert!(matches!(
        replica.refuse(complete(&sample.digest, &[])),
        Rejected::MissingBlobs { total: 1, .. }
    ));
    replica.accept(commit(&repository(0), &blob(6), generation(1, 1, 1)));
    replica.accept(complete(&sample.digest, &[]));
    replica.accept(lose(&blob(6).digest, generation(1, 1, 1)));
    assert!(!replica.is_complete(&sample.digest));
}

#[test]
fn completing_an_index_completes_the_children_named_and_adds_to_those_before() {
    let mut replica = Replica::formed();
    let (amd64, arm64) = (image(&[0, 1]), image(&[2, 1]));
    let both = index(&[&amd64.digest, &arm64.digest]);
    for sample in [&amd64, &arm64, &both] {
        replica.accept(put(&repository(0), sample));
    }
    for number in [0, 1] {
        replica.accept(commit(&repository(0), &blob(number), generation(1, 1, 0)));
    }
    assert_eq!(replica.refuse(complete(&both.digest, &[])), Rejected::NotAChild);
    replica.accept(complete(&both.digest, std::slice::from_ref(&amd64.digest)));
    assert!(replica.is_complete(&amd64.digest) && !replica.is_complete(&arm64.digest));

    replica.accept(commit(&repository(0), &blob(2), generation(1, 1, 0)));
    replica.accept(complete(&both.digest, std::slice::from_ref(&arm64.digest)));
    let record = view::manifest(&replica.state, &both.digest).unwrap().unwrap();
    assert!(record.is_complete_for(&[amd64.digest, arm64.digest]));
}

#[test]
fn an_index_of_layers_alone_is_complete_with_them() {
    let mut replica = Replica::formed();
    let layer = blob(0);
    let entry = format!(
        r#"{{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"{}","size":6}}"#,
        layer.digest
    );
    let json = format!(r#"{{"schemaVersion":2,"manifests":[{entry}]}}"#);
    let digest = Digest::sha256(json.as_bytes());
    replica.accept(put_bytes(digest.clone(), MediaType::OCI_INDEX, json.as_bytes()));
    assert!(matches!(
        replica.refuse(complete(&digest, &[])),
        Rejected::MissingBlobs { .. }
    ));
    replica.accept(commit(&repository(0), &layer, generation(1, 1, 0)));
    replica.accept(complete(&digest, &[]));
    assert!(replica.is_complete(&digest));
}

#[test]
fn losing_a_blob_degrades_what_relies_on_it_and_nothing_else() {
    let mut replica = Replica::formed();
    let (lost, kept) = (image(&[0, 1]), image(&[2, 3]));
    let (outer, beside) = (index(&[&lost.digest]), index(&[&kept.digest]));
    let outermost = index(&[&outer.digest, &kept.digest]);
    for sample in [&lost, &kept, &outer, &beside, &outermost] {
        replica.store_whole(&repository(0), sample);
    }
    assert_eq!(
        replica.propose(lose(&blob(1).digest, generation(1, 1, 1))),
        Outcome::BlobLost
    );
    let complete: Vec<bool> = [&lost, &outer, &outermost, &kept, &beside]
        .map(|sample| replica.is_complete(&sample.digest))
        .into();
    assert_eq!(complete, [false, false, false, true, true]);
}

#[test]
fn a_blob_that_many_images_share_is_lost_over_several_entries() {
    let mut replica = Replica::formed();
    let samples: Vec<Sample> = (1..=70).map(|number| image(&[0, number])).collect();
    for sample in &samples {
        replica.store_whole(&repository(0), sample);
    }
    let lost = lose(&blob(0).digest, generation(1, 1, 1));
    assert_eq!(replica.propose(lost.clone()), Outcome::LossPending);
    assert!(
        view::blob(&replica.state, &blob(0).digest)
            .unwrap()
            .unwrap()
            .present()
            .is_some()
    );
    assert_eq!(replica.propose(lost), Outcome::BlobLost);
    assert!(samples.iter().all(|sample| !replica.is_complete(&sample.digest)));
}

#[test]
fn a_lost_blob_comes_back_under_a_new_generation_only() {
    let mut replica = Replica::formed();
    let (old, new) = (generation(1, 1, 0), generation(1, 1, 1));
    replica.accept(commit(&repository(0), &blob(0), old));
    assert_eq!(
        replica.refuse(lose(&blob(0).digest, new)),
        Rejected::GenChanged { current: Some(old) }
    );
    replica.accept(lose(&blob(0).digest, old));
    assert_eq!(
        replica.refuse(commit(&repository(0), &blob(0), old)),
        Rejected::GenRefused
    );
    assert_eq!(
        replica.propose(commit(&repository(0), &blob(0), new)),
        Outcome::BlobCommitted
    );
}

#[test]
fn indexes_nest_only_so_deep() {
    let mut replica = Replica::formed();
    let mut inner = image(&[0]);
    replica.store_whole(&repository(0), &inner);
    for _ in 0..4 {
        let outer = index(&[&inner.digest]);
        replica.store_whole(&repository(0), &outer);
        inner = outer;
    }
    let outer = index(&[&inner.digest]);
    replica.accept(put(&repository(0), &outer));
    assert_eq!(
        replica.refuse(complete(&outer.digest, &outer.children)),
        Rejected::NestedTooDeep
    );
}

#[test]
fn a_held_index_does_not_grow_deeper() {
    let mut replica = Replica::formed();
    let leaf = image(&[0]);
    let inner = index(&[&leaf.digest]);
    let middle = index(&[&leaf.digest, &inner.digest]);
    let outer = index(&[&middle.digest]);
    for sample in [&leaf, &inner, &middle, &outer] {
        replica.accept(put(&repository(0), sample));
    }
    replica.accept(commit(&repository(0), &blob(0), generation(1, 1, 0)));
    replica.accept(complete(&inner.digest, &inner.children));
    replica.accept(complete(&middle.digest, std::slice::from_ref(&leaf.digest)));
    replica.accept(complete(&outer.digest, &outer.children));
    let deeper = complete(&middle.digest, std::slice::from_ref(&inner.digest));
    assert_eq!(replica.refuse(deeper), Rejected::NestedTooDeep);
}

#[test]
fn a_repository_reads_only_what_came_through_it() {
    let mut replica = Replica::formed();
    let sample = image(&[0]);
    replica.store_whole(&repository(0), &sample);
    replica.accept(commit(&repository(1), &blob(9), generation(1, 1, 9)));
    let state = &replica.state;
    let id = |number| view::repository_id(state, &repository(number)).unwrap().unwrap();
    for digest in [&sample.digest, &blob(0).digest] {
        assert!(view::is_linked(state, id(0), digest).unwrap());
        assert!(!view::is_linked(state, id(1), digest).unwrap());
    }
    let link = |digest: &Digest| {
        Command::Link(Link {
            repository: repository(1),
            digest: digest.clone(),
        })
    };
    let other = id(1);
    assert_eq!(replica.refuse(link(&blob(8).digest)), Rejected::UnknownDigest);
    replica.accept(link(&blob(0).digest));
    assert!(view::is_linked(&replica.state, other, &blob(0).digest).unwrap());
    assert!(!view::is_linked(&replica.state, other, &sample.digest).unwrap());
}

#[test]
fn referrers_are_listed_where_they_are_linked() {
    let mut replica = Replica::formed();
    let subject = image(&[0]);
    let signature = image_with(&[1], None, Some(&subject.digest));
    replica.accept(put(&repository(0), &signature));
    replica.accept(put(&repository(1), &subject));
    let listed = |replica: &Replica, number| {
        let id = view::repository_id(&replica.state, &repository(number))
            .unwrap()
            .unwrap();
        view::list_referrers(&replica.state, id, &subject.digest, None, 10).unwrap()
    };
    assert_eq!(listed(&replica, 0), std::slice::from_ref(&signature.digest));
    assert_eq!(listed(&replica, 1), []);
    replica.accept(Command::Link(Link {
        repository: repository(1),
        digest: signature.digest.clone(),
    }));
    assert_eq!(listed(&replica, 1), [signature.digest]);
}

#[test]
fn bytes_are_kept_exactly_and_only_if_they_are_the_digests() {
    let mut replica = Replica::formed();
    let json = format!(
        " {{\"config\":{{\"mediaType\":\"a/b\",\"digest\":\"{}\",\"size\":6}} }}\n",
        blob(0).digest
    );
    let digest = Digest::sha256(json.as_bytes());
    let put = |bytes: &[u8]| put_bytes(digest.clone(), MediaType::OCI_MANIFEST, bytes);
    assert_eq!(replica.refuse(put(b"{}")), Rejected::DigestMismatch);
    replica.accept(put(json.as_bytes()));
    assert_eq!(
        view::manifest_bytes(&replica.state, &digest).unwrap().unwrap(),
        json.as_bytes()
    );
    let other_type = put_bytes(digest.clone(), MediaType::DOCKER_MANIFEST, json.as_bytes());
    assert_eq!(replica.refuse(other_type), Rejected::MediaTypeConflict);
}

#[test]
fn manifests_that_cannot_be_kept_are_rejected() {
    let mut replica = Replica::formed();
    let oversize = vec![b' '; MANIFEST_INLINE_BYTES_MAX + 1];
    let put = |bytes: &[u8]| put_bytes(Digest::sha256(bytes), MediaType::OCI_MANIFEST, bytes);
    assert_eq!(replica.refuse(put(&oversize)), Rejected::ManifestTooLarge);
    assert_eq!(replica.refuse(put(b"not json")), Rejected::ManifestUnreadable);
    let unverifiable = put_bytes("unknown:abcd".parse().unwrap(), MediaType::OCI_MANIFEST, b"{}");
    assert_eq!(replica.refuse(unverifiable), Rejected::DigestUnverifiable);

    let many: Vec<usize> = (0..=REFERENCES_MAX).collect();
    assert_eq!(
        replica.refuse(crate::replica::put(&repository(0), &large_image(5000, &many))),
        Rejected::ManifestUnreadable
    );
    let twice = large_image(5000, &[1, 1]);
    assert_eq!(
        replica.refuse(crate::replica::put(&repository(0), &twice)),
        Rejected::ManifestUnreadable
    );
    assert_eq!(
        replica
            .state
            .records()
            .filter(|(family, _, _)| *family == meta::Family::Manifests)
            .count(),
        0
    );
}

#[test]
fn a_blob_named_twice_is_one_reference_and_required_if_it_is_anywhere() {
    let layer = |more: &str| format!(r#"{{"mediaType":"a/b","digest":"{}","size":6{more}}}"#, blob(0).digest);
    let (foreign, plain) = (layer(r#","urls":["https://example.com"]"#), layer(""));
    let json = format!(r#"{{"config":{foreign},"layers":[{plain},{foreign}]}}"#);
    let mut replica = Replica::formed();
    let digest = Digest::sha256(json.as_bytes());
    replica.accept(put_bytes(digest.clone(), MediaType::OCI_MANIFEST, json.as_bytes()));
    let blobs = view::manifest(&replica.state, &digest)
        .unwrap()
        .unwrap()
        .references
        .blobs;
    assert_eq!(blobs.len(), 1);
    assert!(blobs[0].required);
}

#[test]
fn only_so_many_children_are_completed_at_once() {
    let mut replica = Replica::formed();
    let children = vec![image(&[0]).digest; meta::CHILDREN_COMPLETED_AT_ONCE_MAX + 1];
    let parent = index(&[&children[0]]);
    replica.accept(put(&repository(0), &parent));
    assert!(matches!(
        replica.refuse(complete(&parent.digest, &children)),
        Rejected::FieldTooLong { .. }
    ));
}
