//! Typed reads of the state, for everything that is not applying.

mod access;

use oci::{Digest, Repository, Tag};

use crate::family::Family;
use crate::id::{JoinNonce, NodeId, RepositoryId};
use crate::read::{Read, ReadError};
use crate::record::{
    self, BlobRecord, ClusterRecord, LayoutRecord, ManifestRecord, NodeRecord, Record, ReferenceKey, RepositoryRecord,
    TagRecord, bad_key, link_key, nonce_key, referrer_prefix, repository_name_key, split_referrer_key,
};

pub use access::{
    Grant, credential, desired, grant, grants_of, is_known_host, known_hosts, list_credentials, list_desired,
    list_grants, placement, placements, visibility, wanted,
};

/// A tag in a listing of all images.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Its repository.
    pub repository: Repository,
    /// Its tag.
    pub tag: Tag,
    /// What the tag means.
    pub record: TagRecord,
    /// Where to go on from; see [`list_images`].
    pub cursor: ImageCursor,
}

/// A place in the listing of all images.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ImageCursor {
    repository: RepositoryId,
    tag: Tag,
}

/// The cluster's identity and counters; `None` before genesis.
///
/// # Errors
/// [`ReadError`], as all functions here.
pub fn cluster(state: &impl Read) -> Result<Option<ClusterRecord>, ReadError> {
    record::get(state, ClusterRecord::KEY)
}

/// The layout; version 0 without slots before the first.
///
/// # Errors
/// [`ReadError`].
pub fn layout(state: &impl Read) -> Result<LayoutRecord, ReadError> {
    Ok(record::get(state, LayoutRecord::KEY)?.unwrap_or_default())
}

/// The node of that id.
///
/// # Errors
/// [`ReadError`].
pub fn node(state: &impl Read, id: NodeId) -> Result<Option<NodeRecord>, ReadError> {
    record::get(state, &id.to_key())
}

/// The id that was given to a nonce.
///
/// # Errors
/// [`ReadError`].
pub fn node_of_nonce(state: &impl Read, nonce: JoinNonce) -> Result<Option<NodeId>, ReadError> {
    record::get(state, &nonce_key(nonce))
}

/// Every node that ever registered, by id.
///
/// # Errors
/// [`ReadError`].
pub fn nodes(state: &impl Read) -> Result<Vec<(NodeId, NodeRecord)>, ReadError> {
    state
        .scan(Family::Nodes, b"", None, usize::MAX)?
        .into_iter()
        .map(|(key, value)| {
            let id = NodeId::from_key(&key).ok_or_else(|| bad_key(Family::Nodes))?;
            Ok((id, NodeRecord::from_value(&value)?))
        })
        .collect()
}

/// The id of a repository; `None` if nothing of it was ever stored.
///
/// # Errors
/// [`ReadError`].
pub fn repository_id(state: &impl Read, repository: &Repository) -> Result<Option<RepositoryId>, ReadError> {
    record::get(state, &repository_name_key(repository))
}

/// What a repository id stands for.
///
/// # Errors
/// [`ReadError`].
pub fn repository(state: &impl Read, id: RepositoryId) -> Result<Option<Repository>, ReadError> {
    Ok(record::get(state, &id.to_key())?.map(|record: RepositoryRecord| record.repository))
}

/// Up to `limit` repositories by id, those after `after`.
///
/// # Errors
/// [`ReadError`].
pub fn list_repositories(
    state: &impl Read,
    after: Option<RepositoryId>,
    limit: usize,
) -> Result<Vec<(RepositoryId, Repository)>, ReadError> {
    let after = after.map(RepositoryId::to_key);
    state
        .scan(
            Family::Repositories,
            b"",
            after.as_ref().map(<[u8; 8]>::as_slice),
            limit,
        )?
        .into_iter()
        .map(|(key, value)| {
            let id = RepositoryId::from_key(&key).ok_or_else(|| bad_key(Family::Repositories))?;
            Ok((id, RepositoryRecord::from_value(&value)?.repository))
        })
        .collect()
}

/// What a tag means.
///
/// # Errors
/// [`ReadError`].
pub fn tag(state: &impl Read, repository: RepositoryId, tag: &Tag) -> Result<Option<TagRecord>, ReadError> {
    record::get(state, &TagRecord::key(repository, tag))
}

/// Up to `limit` tags of a repository in byte order, those after `after`.
///
/// # Errors
/// [`ReadError`].
pub fn list_tags(
    state: &impl Read,
    repository: RepositoryId,
    after: Option<&Tag>,
    limit: usize,
) -> Result<Vec<(Tag, TagRecord)>, ReadError> {
    let after = after.map(|tag| TagRecord::key(repository, tag));
    state
        .scan(Family::Tags, &repository.to_key(), after.as_deref(), limit)?
        .into_iter()
        .map(|(key, value)| Ok((TagRecord::split_key(&key)?.1, TagRecord::from_value(&value)?)))
        .collect()
}

/// Up to `limit` tags of all repositories, those after `after`.
///
/// # Errors
/// [`ReadError`].
pub fn list_images(state: &impl Read, after: Option<&ImageCursor>, limit: usize) -> Result<Vec<Image>, ReadError> {
    let after = after.map(|cursor| TagRecord::key(cursor.repository, &cursor.tag));
    let mut images = Vec::new();
    for (key, value) in state.scan(Family::Tags, b"", after.as_deref(), limit)? {
        let (id, tag) = TagRecord::split_key(&key)?;
        let repository = repository(state, id)?.ok_or_else(|| bad_key(Family::Tags))?;
        let cursor = ImageCursor {
            repository: id,
            tag: tag.clone(),
        };
        images.push(Image {
            repository,
            tag,
            record: TagRecord::from_value(&value)?,
            cursor,
        });
    }
    Ok(images)
}

/// What is known of a manifest.
///
/// # Errors
/// [`ReadError`].
pub fn manifest(state: &impl Read, digest: &Digest) -> Result<Option<ManifestRecord>, ReadError> {
    record::get(state, ManifestRecord::key(digest))
}

/// The exact bytes of a manifest, if the state holds them; those of a larger one are a blob.
///
/// # Errors
/// [`ReadError`].
pub fn manifest_bytes(state: &impl Read, digest: &Digest) -> Result<Option<Vec<u8>>, ReadError> {
    state.get(Family::ManifestBytes, ManifestRecord::key(digest))
}

/// What is known of a blob.
///
/// # Errors
/// [`ReadError`].
pub fn blob(state: &impl Read, digest: &Digest) -> Result<Option<BlobRecord>, ReadError> {
    record::get(state, BlobRecord::key(digest))
}

/// Up to `limit` blobs by digest, those after `after`.
///
/// # Errors
/// [`ReadError`].
pub fn list_blobs(
    state: &impl Read,
    after: Option<&Digest>,
    limit: usize,
) -> Result<Vec<(Digest, BlobRecord)>, ReadError> {
    state
        .scan(Family::Blobs, b"", after.map(BlobRecord::key), limit)?
        .into_iter()
        .map(|(key, value)| {
            Ok((
                record::text_of_key(Family::Blobs, &key)?,
                BlobRecord::from_value(&value)?,
            ))
        })
        .collect()
}

/// Whether a repository may read a blob or manifest.
///
/// # Errors
/// [`ReadError`].
pub fn is_linked(state: &impl Read, repository: RepositoryId, digest: &Digest) -> Result<bool, ReadError> {
    Ok(state.get(Family::Links, &link_key(repository, digest))?.is_some())
}

/// Up to `limit` manifests of a repository that are about `subject`, those after `after`.
///
/// # Errors
/// [`ReadError`].
pub fn list_referrers(
    state: &impl Read,
    repository: RepositoryId,
    subject: &Digest,
    after: Option<&Digest>,
    limit: usize,
) -> Result<Vec<Digest>, ReadError> {
    let prefix = referrer_prefix(repository, subject);
    let after = after.map(|digest| record::referrer_key(repository, subject, digest));
    state
        .scan(Family::Referrers, &prefix, after.as_deref(), limit)?
        .into_iter()
        .map(|(key, _)| Ok(split_referrer_key(&key)?.2))
        .collect()
}

/// Up to `limit` indexes that name `child` as one of their manifests, known to hold it or not.
///
/// # Errors
/// [`ReadError`].
pub fn list_parents(state: &impl Read, child: &Digest, limit: usize) -> Result<Vec<Digest>, ReadError> {
    state
        .scan(Family::ManifestParents, &ReferenceKey::prefix(child), None, limit)?
        .into_iter()
        .map(|(key, _)| Ok(ReferenceKey::decode(Family::ManifestParents, &key)?.from))
        .collect()
}
