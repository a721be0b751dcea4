//! The images of a fake registry, in memory, behind distribution's port.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use distribution::{
    BlobAnswer, BlobQuery, InMemoryBlob, ManifestAnswer, ManifestQuery, Notes, ReferrersAnswer, ReferrersQuery,
    Registry, RegistryError, TagList, TagsQuery,
};
use oci::{Digest, ManifestReference, RawManifest, RepositoryName, Tag};

use crate::image::Image;

/// Tags on a page whose client did not say how many it wants.
const PAGE: usize = 100;

#[derive(Debug, Default)]
pub(super) struct Library {
    repositories: Mutex<BTreeMap<RepositoryName, Contents>>,
}

#[derive(Debug, Default)]
struct Contents {
    tags: BTreeMap<Tag, Digest>,
    manifests: BTreeMap<Digest, RawManifest>,
    blobs: BTreeMap<Digest, Bytes>,
}

impl Library {
    pub(super) fn push(&self, image: &Image) {
        let mut repositories = self.lock();
        let contents = repositories.entry(image.repository().clone()).or_default();
        contents.tags.insert(image.tag().clone(), image.root().clone());
        contents.manifests.extend(image.manifests().clone());
        contents.blobs.extend(image.blobs().clone());
    }

    pub(super) fn tag(&self, repository: RepositoryName, tag: Tag, digest: Digest) {
        self.lock().entry(repository).or_default().tags.insert(tag, digest);
    }

    pub(super) fn remove(&self, repository: &RepositoryName) {
        self.lock().remove(repository);
    }

    /// A repository that holds this blob.
    pub(super) fn holder(&self, digest: &Digest) -> Option<RepositoryName> {
        let repositories = self.lock();
        let mut holders = repositories
            .iter()
            .filter(|(_, contents)| contents.blobs.contains_key(digest));
        holders.next().map(|(name, _)| name.clone())
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<RepositoryName, Contents>> {
        self.repositories.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Registry for Library {
    async fn manifest(&self, query: ManifestQuery) -> Result<ManifestAnswer, RegistryError> {
        let repositories = self.lock();
        let contents = repositories.get(&query.name).ok_or(RegistryError::NameUnknown)?;
        let digest = match &query.reference {
            ManifestReference::Digest(digest) => digest,
            ManifestReference::Tag(tag) => contents.tags.get(tag).ok_or(RegistryError::ManifestUnknown)?,
        };
        let manifest = contents.manifests.get(digest).ok_or(RegistryError::ManifestUnknown)?;
        Ok(ManifestAnswer {
            media_type: manifest.media_type().clone(),
            digest: manifest.digest().clone(),
            size: manifest.bytes().len() as u64,
            bytes: manifest.bytes().clone(),
            notes: Notes::default(),
        })
    }

    async fn blob(&self, query: BlobQuery) -> Result<BlobAnswer, RegistryError> {
        let repositories = self.lock();
        let contents = repositories.get(&query.name).ok_or(RegistryError::NameUnknown)?;
        let bytes = contents.blobs.get(&query.digest).ok_or(RegistryError::BlobUnknown)?;
        Ok(BlobAnswer {
            size: Some(bytes.len() as u64),
            reader: Box::new(InMemoryBlob(bytes.clone())),
            digest: query.digest,
            notes: Notes::default(),
        })
    }

    async fn tags(&self, query: TagsQuery) -> Result<TagList, RegistryError> {
        let repositories = self.lock();
        let contents = repositories.get(&query.name).ok_or(RegistryError::NameUnknown)?;
        let mut rest = contents
            .tags
            .keys()
            .filter(|tag| query.last.as_ref().is_none_or(|last| *tag > last));
        let tags = rest.by_ref().take(query.limit.unwrap_or(PAGE)).cloned().collect();
        Ok(TagList {
            tags,
            more: rest.next().is_some(),
            notes: Notes::default(),
        })
    }

    async fn referrers(&self, _query: ReferrersQuery) -> Result<ReferrersAnswer, RegistryError> {
        Ok(ReferrersAnswer::none())
    }
}
