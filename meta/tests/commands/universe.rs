//! A small world of repositories, blobs and manifests for commands to be about.

use std::sync::LazyLock;

use meta::{BlobReference, ManifestContent, ManifestReferences};
use oci::{Digest, MediaType, Repository, Tag};

/// A blob by what it is known by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Content {
    pub(crate) digest: Digest,
    pub(crate) size: u64,
}

/// A blob as a manifest names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Layer {
    pub(crate) number: usize,
    pub(crate) required: bool,
}

/// A manifest with what it refers to, written down rather than parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sample {
    pub(crate) digest: Digest,
    pub(crate) media_type: MediaType,
    pub(crate) content: ManifestContent,
    pub(crate) blobs: Vec<Layer>,
    pub(crate) children: Vec<Digest>,
    pub(crate) subject: Option<Digest>,
}

impl Layer {
    pub(crate) fn content(&self) -> Content {
        blob(self.number)
    }
}

pub(crate) fn repository(number: usize) -> Repository {
    let host = ["docker.io", "quay.io:443"][number].parse().unwrap();
    let name = ["library/nginx", "a/b"][number].parse().unwrap();
    Repository { host, name }
}

pub(crate) fn tag(number: usize) -> Tag {
    ["latest", "1.27"][number].parse().unwrap()
}

pub(crate) fn blob(number: usize) -> Content {
    let content = format!("blob {number}").into_bytes();
    Content {
        digest: Digest::sha256(&content),
        size: content.len() as u64,
    }
}

/// An image of the blobs `layers`, the first of which is its config.
pub(crate) fn image(layers: &[usize]) -> Sample {
    image_with(layers, None, None)
}

/// An image with a layer that need not be there, and one about a subject.
pub(crate) fn image_with(layers: &[usize], foreign: Option<usize>, subject: Option<&Digest>) -> Sample {
    let mut blobs: Vec<_> = layers
        .iter()
        .map(|number| Layer {
            number: *number,
            required: true,
        })
        .collect();
    let mut descriptors: Vec<_> = layers.iter().map(|number| descriptor(*number, "")).collect();
    if let Some(number) = foreign {
        descriptors.push(descriptor(number, r#","urls":["https://example.com/layer"]"#));
        blobs.push(Layer {
            number,
            required: false,
        });
    }
    let subject_field = subject.map(|digest| format!(r#","subject":{}"#, manifest_descriptor(digest)));
    let json = format!(
        r#"{{"schemaVersion":2,"config":{},"layers":[{}]{}}}"#,
        descriptors[0],
        descriptors[1..].join(","),
        subject_field.unwrap_or_default()
    );
    Sample {
        blobs,
        children: Vec::new(),
        subject: subject.cloned(),
        ..inline(json, MediaType::OCI_MANIFEST)
    }
}

pub(crate) fn index(children: &[&Digest]) -> Sample {
    let entries: Vec<_> = children.iter().map(|digest| manifest_descriptor(digest)).collect();
    let json = format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, entries.join(","));
    Sample {
        children: children.iter().map(|digest| (*digest).clone()).collect(),
        ..inline(json, MediaType::OCI_INDEX)
    }
}

/// A manifest too large for the state: its bytes are `blob(number)`.
pub(crate) fn large_image(number: usize, layers: &[usize]) -> Sample {
    let Content { digest, size } = blob(number);
    let references = ManifestReferences {
        blobs: layers.iter().map(|layer| reference(*layer)).collect(),
        children: Vec::new(),
        subject: None,
    };
    let numbers = [number].into_iter().chain(layers.iter().copied());
    Sample {
        digest,
        media_type: MediaType::OCI_MANIFEST.parse().unwrap(),
        content: ManifestContent::Blob { size, references },
        blobs: numbers.map(|number| Layer { number, required: true }).collect(),
        children: Vec::new(),
        subject: None,
    }
}

/// Manifests that share blobs and children: five images, one of them large, two indexes and an index of an index.
pub(crate) fn manifests() -> &'static [Sample] {
    static MANIFESTS: LazyLock<Vec<Sample>> = LazyLock::new(make_manifests);
    &MANIFESTS
}

fn make_manifests() -> Vec<Sample> {
    let images = [image(&[0, 1]), image(&[2, 1]), image_with(&[3, 4], Some(5), None)];
    let about = image_with(&[0], None, Some(&images[0].digest));
    let large = large_image(6, &[1, 2]);
    let pair = index(&[&images[0].digest, &images[1].digest]);
    let other = index(&[&images[1].digest, &large.digest]);
    let nested = index(&[&pair.digest, &images[2].digest]);
    images.into_iter().chain([about, large, pair, other, nested]).collect()
}

/// How many blobs the manifests above name.
pub(crate) const BLOBS: usize = 7;

fn inline(json: String, media_type: &str) -> Sample {
    let bytes = json.into_bytes();
    Sample {
        digest: Digest::sha256(&bytes),
        media_type: media_type.parse().unwrap(),
        content: ManifestContent::Inline { bytes },
        blobs: Vec::new(),
        children: Vec::new(),
        subject: None,
    }
}

fn reference(number: usize) -> BlobReference {
    let Content { digest, size } = blob(number);
    let required = true;
    BlobReference { digest, size, required }
}

fn descriptor(number: usize, more: &str) -> String {
    let Content { digest, size } = blob(number);
    format!(r#"{{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"{digest}","size":{size}{more}}}"#)
}

fn manifest_descriptor(digest: &Digest) -> String {
    let media_type = MediaType::OCI_MANIFEST;
    format!(
        r#"{{"mediaType":"{media_type}","digest":"{digest}","size":7,"platform":{{"os":"linux","architecture":"amd64"}}}}"#
    )
}
