//! The demo's source: a registry of two images that can only be pulled.

use std::collections::BTreeMap;
use std::io;

use distribution::{
    BlobAnswer, BlobQuery, InMemoryBlob, ManifestAnswer, ManifestQuery, Notes, Registry, RegistryError, TagList,
    TagsQuery,
};
use oci::{ManifestReference, RepositoryName};

use super::IMAGES;
use super::image::{Document, SampleImage, files_image, hello_image};

/// The only tag each image has.
const TAG: &str = "1";

/// The sample images, by repository.
pub(crate) struct DemoRegistry {
    images: BTreeMap<&'static str, SampleImage>,
}

impl DemoRegistry {
    /// Makes the images.
    pub(crate) fn new() -> io::Result<Self> {
        let [hello, files] = IMAGES.map(|image| image.trim_end_matches(TAG).trim_end_matches(':'));
        let images = BTreeMap::from([(hello, hello_image()?), (files, files_image()?)]);
        Ok(Self { images })
    }

    fn image(&self, name: &RepositoryName) -> Result<&SampleImage, RegistryError> {
        self.images.get(name.as_str()).ok_or(RegistryError::NameUnknown)
    }
}

impl SampleImage {
    fn document(&self, reference: &ManifestReference) -> Option<&Document> {
        match reference {
            ManifestReference::Tag(tag) if tag.as_str() == TAG => self.documents.first(),
            ManifestReference::Tag(_) => None,
            ManifestReference::Digest(digest) => self
                .documents
                .iter()
                .find(|document| document.content.digest == *digest),
        }
    }
}

impl Registry for DemoRegistry {
    async fn manifest(&self, query: ManifestQuery) -> Result<ManifestAnswer, RegistryError> {
        let image = self.image(&query.name)?;
        let document = image.document(&query.reference).ok_or(RegistryError::ManifestUnknown)?;
        let media_type = document.media_type.parse().expect("a constant of oci");
        Ok(ManifestAnswer {
            media_type,
            digest: document.content.digest.clone(),
            size: document.content.bytes.len() as u64,
            bytes: document.content.bytes.clone(),
            notes: Notes::default(),
        })
    }

    async fn blob(&self, query: BlobQuery) -> Result<BlobAnswer, RegistryError> {
        let blobs = &self.image(&query.name)?.blobs;
        let blob = blobs
            .iter()
            .find(|blob| blob.digest == query.digest)
            .ok_or(RegistryError::BlobUnknown)?;
        Ok(BlobAnswer {
            digest: blob.digest.clone(),
            size: Some(blob.bytes.len() as u64),
            notes: Notes::default(),
            reader: Box::new(InMemoryBlob(blob.bytes.clone())),
        })
    }

    async fn tags(&self, query: TagsQuery) -> Result<TagList, RegistryError> {
        self.image(&query.name)?;
        let tags = vec![TAG.parse().expect("a constant that is a tag")];
        Ok(TagList {
            tags,
            ..TagList::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_found_by_the_names_that_are_shown() {
        let registry = DemoRegistry::new().unwrap();
        for shown in IMAGES {
            let (name, tag) = shown.split_once(':').unwrap();
            let image = registry.image(&name.parse().unwrap()).unwrap();
            let by_tag = image.document(&ManifestReference::Tag(tag.parse().unwrap())).unwrap();
            let by_digest = image.document(&ManifestReference::Digest(by_tag.content.digest.clone()));
            assert_eq!(by_digest.unwrap().media_type, by_tag.media_type);
        }
        assert!(registry.image(&"demo/other".parse().unwrap()).is_err());
    }
}
