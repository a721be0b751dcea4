//! Invariants of manifests, blobs and what connects them.

use std::collections::BTreeSet;

use oci::Digest;

use super::{Violation, ensure};
use crate::family::Family;
use crate::read::{Read, for_each_entry};
use crate::record::{
    BlobRecord, ManifestRecord, Record, ReferenceKey, split_link_key, split_referrer_key, text_of_key,
};
use crate::view;

/// I1 and I4: a Complete manifest has every blob it requires Present and every child it is Complete for Complete.
///
/// # Errors
/// [`Violation`].
pub fn complete_manifests_have_all_they_need(state: &impl Read) -> Result<(), Violation> {
    const NAME: &str = "complete manifests have all they need";
    for_each_manifest(state, |digest, manifest| {
        if !manifest.is_complete() {
            return Ok(());
        }
        for blob in manifest.required_blobs(digest) {
            let present = view::blob(state, blob)?.is_some_and(|blob| blob.present().is_some());
            ensure(present, NAME, format_args!("{digest} needs blob {blob}"))?;
        }
        let listed: BTreeSet<_> = manifest.references.children.iter().map(|child| &child.digest).collect();
        let held = manifest.held_children();
        ensure(
            listed.is_empty() == held.is_empty(),
            NAME,
            format_args!("{digest} is complete for nothing"),
        )?;
        for child in held {
            let complete = view::manifest(state, child)?
                .is_some_and(|child| child.is_complete() && child.nesting < manifest.nesting);
            ensure(
                complete && listed.contains(child),
                NAME,
                format_args!("{digest} needs child {child}"),
            )?;
        }
        Ok(())
    })
}

/// The inverse references are exactly those that manifests make.
///
/// # Errors
/// [`Violation`].
pub fn references_mirror_manifests(state: &impl Read) -> Result<(), Violation> {
    const NAME: &str = "references mirror manifests";
    let mut expected = BTreeSet::new();
    for_each_manifest(state, |digest, manifest| {
        expected.extend(manifest.inverse(digest));
        Ok(())
    })?;
    let mut found = BTreeSet::new();
    for family in [Family::BlobReferences, Family::ManifestParents] {
        for_each_entry(state, family, |key, value| {
            found.insert((family, ReferenceKey::decode(family, key)?));
            ensure(value.is_empty(), NAME, "a reference has a value")
        })?;
    }
    let difference = expected.symmetric_difference(&found).next();
    ensure(difference.is_none(), NAME, format_args!("{difference:?}"))
}

/// The state holds the bytes of exactly the manifests that say so, and they are the digest's.
///
/// # Errors
/// [`Violation`].
pub fn inline_bytes_match_their_digest(state: &impl Read) -> Result<(), Violation> {
    const NAME: &str = "inline bytes match their digest";
    for_each_manifest(state, |digest, manifest| {
        let bytes = view::manifest_bytes(state, digest)?;
        ensure(
            bytes.is_some() == manifest.inline,
            NAME,
            format_args!("{digest} is inline or not"),
        )?;
        let Some(bytes) = bytes else {
            return Ok(());
        };
        let matches = digest.verifier().is_ok_and(|mut verifier| {
            verifier.update(&bytes);
            verifier.finish().is_ok()
        });
        let whole = bytes.len() as u64 == manifest.size;
        ensure(matches && whole, NAME, format_args!("{digest} has other bytes"))
    })?;
    for_each_entry(state, Family::ManifestBytes, |key, _| {
        let digest: Digest = text_of_key(Family::ManifestBytes, key)?;
        let known = view::manifest(state, &digest)?.is_some();
        ensure(known, NAME, format_args!("bytes of {digest} without a manifest"))
    })
}

/// I2 and I3, as far as the state tells: a generation that counts was written by a registered node of this epoch or
/// an earlier one.
///
/// # Errors
/// [`Violation`].
pub fn present_generations_could_exist(state: &impl Read) -> Result<(), Violation> {
    const NAME: &str = "present generations could exist";
    let epoch = view::cluster(state)?.map_or(0, |cluster| cluster.epoch);
    for_each_entry(state, Family::Blobs, |key, value| {
        let digest: Digest = text_of_key(Family::Blobs, key)?;
        if let Some(generation) = BlobRecord::from_value(value)?.present() {
            let writer = view::node(state, generation.node)?;
            let possible = writer.is_some() && generation.epoch <= epoch;
            ensure(possible, NAME, format_args!("{digest} of {generation}"))?;
        }
        Ok(())
    })
}

/// A link names a repository that exists and a digest that is stored or named; a referrer is linked and says so.
///
/// # Errors
/// [`Violation`].
pub fn links_and_referrers_resolve(state: &impl Read) -> Result<(), Violation> {
    const NAME: &str = "links and referrers resolve";
    for_each_entry(state, Family::Links, |key, _| {
        let (repository, digest) = split_link_key(key)?;
        let known = view::repository(state, repository)?.is_some() && is_known(state, &digest)?;
        ensure(known, NAME, format_args!("link of {repository} to {digest}"))
    })?;
    for_each_entry(state, Family::Referrers, |key, _| {
        let (repository, subject, digest) = split_referrer_key(key)?;
        let manifest = view::manifest(state, &digest)?;
        let says_so = manifest.is_some_and(|manifest| manifest.references.subject == Some(subject));
        let linked = view::is_linked(state, repository, &digest)?;
        ensure(
            says_so && linked,
            NAME,
            format_args!("referrer {digest} of {repository}"),
        )
    })
}

fn is_known(state: &impl Read, digest: &Digest) -> Result<bool, Violation> {
    if view::manifest(state, digest)?.is_some() || view::blob(state, digest)?.is_some() {
        return Ok(true);
    }
    for family in [Family::BlobReferences, Family::ManifestParents] {
        if !state.scan(family, &ReferenceKey::prefix(digest), None, 1)?.is_empty() {
            return Ok(true);
        }
    }
    Ok(false)
}

fn for_each_manifest(
    state: &impl Read,
    mut visit: impl FnMut(&Digest, &ManifestRecord) -> Result<(), Violation>,
) -> Result<(), Violation> {
    for_each_entry(state, Family::Manifests, |key, value| {
        visit(
            &text_of_key(Family::Manifests, key)?,
            &ManifestRecord::from_value(value)?,
        )
    })
}
