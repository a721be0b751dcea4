//! A client that pulls an image as runtimes do and believes nothing: every digest, length and type is checked.

mod client;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use oci::{Descriptor, Digest, DigestMismatch, Manifest, ManifestError, RawManifest};
use thiserror::Error;
use tokio::time::timeout;

pub use client::Answer;
use client::Client;

/// Long enough for what tests pull, short enough to notice a hang.
const WITHIN: Duration = Duration::from_secs(60);

/// A pull about to run.
#[derive(Debug, Clone)]
pub struct Pull {
    base_url: String,
    name: String,
    reference: String,
    ns: Option<String>,
    platform: Option<String>,
    within: Duration,
}

/// An image, as a client saw it.
#[derive(Debug, Default)]
pub struct Pulled {
    /// The root manifest's digest.
    pub root: Option<Digest>,
    /// All manifests, verified.
    pub manifests: BTreeMap<Digest, RawManifest>,
    /// Lengths in bytes of all configs and layers, verified.
    pub blobs: BTreeMap<Digest, u64>,
    /// Every answer, in order.
    pub answers: Vec<Answer>,
}

impl Pulled {
    /// Digests of everything that was pulled.
    pub fn digests(&self) -> BTreeSet<Digest> {
        self.manifests.keys().chain(self.blobs.keys()).cloned().collect()
    }
}

/// Why a pull failed.
#[derive(Debug, Error)]
pub enum PullError {
    /// No answer, or one that broke off.
    #[error("{method} {target}")]
    Broken {
        /// The request's method.
        method: http::Method,
        /// The request's target.
        target: String,
        /// What broke.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// An answer other than success.
    #[error("{target} was answered {status}: {body}")]
    Status {
        /// The request's target.
        target: String,
        /// The answer's status.
        status: StatusCode,
        /// The answer's body.
        body: String,
    },
    /// An answer that contradicts itself, another one, or a descriptor.
    #[error("{target}: {what}")]
    Contradiction {
        /// The request's target.
        target: String,
        /// What contradicts what.
        what: String,
    },
    /// Complete, and not what was asked for: the one thing that must never happen.
    #[error("{target} is complete and wrong")]
    Wrong {
        /// The request's target.
        target: String,
        /// What it is instead.
        source: DigestMismatch,
    },
    /// A manifest that cannot be read.
    #[error("manifest {digest}")]
    Manifest {
        /// Its digest.
        digest: Digest,
        /// Why not.
        source: ManifestError,
    },
    /// Not done within the time allowed.
    #[error("pull not done within {0:?}")]
    TooSlow(Duration),
}

impl PullError {
    /// The status, where the failure is one.
    pub fn status(&self) -> Option<StatusCode> {
        match self {
            Self::Status { status, .. } => Some(*status),
            _ => None,
        }
    }
}

impl Pull {
    /// `name` is what stands in the path, `reference` a tag or digest.
    pub fn new(base_url: impl Into<String>, name: &str, reference: impl ToString) -> Self {
        Self {
            base_url: base_url.into(),
            name: name.to_owned(),
            reference: reference.to_string(),
            ns: None,
            platform: None,
            within: WITHIN,
        }
    }

    /// Asks as a containerd mirror client does, with `?ns=`.
    pub fn ns(mut self, ns: &str) -> Self {
        self.ns = Some(ns.to_owned());
        self
    }

    /// Pulls only this platform of an index, `os/architecture[/variant]`, instead of all.
    pub fn platform(mut self, platform: &str) -> Self {
        self.platform = Some(platform.to_owned());
        self
    }

    /// Fails if not done within this time, instead of a minute.
    pub fn within(mut self, within: Duration) -> Self {
        self.within = within;
        self
    }

    /// Pulls the image: HEAD of the reference, then manifests by digest, then all configs and layers.
    ///
    /// # Errors
    /// [`PullError`], the first one met.
    pub async fn run(&self) -> Result<Pulled, PullError> {
        let mut client = Client::new(&self.base_url, self.ns.as_deref());
        match timeout(self.within, self.pull(&mut client)).await {
            Ok(Ok(pulled)) => Ok(Pulled {
                answers: client.into_answers(),
                ..pulled
            }),
            Ok(Err(err)) => Err(err),
            Err(_) => Err(PullError::TooSlow(self.within)),
        }
    }

    /// Fetches one manifest by the reference, verified if that is a digest.
    ///
    /// # Errors
    /// [`PullError`].
    pub async fn manifest(&self) -> Result<RawManifest, PullError> {
        let mut client = Client::new(&self.base_url, self.ns.as_deref());
        let fetching = client.manifest(&self.name, &self.reference);
        timeout(self.within, fetching)
            .await
            .unwrap_or(Err(PullError::TooSlow(self.within)))
    }

    /// Fetches one blob of the repository, verified.
    ///
    /// # Errors
    /// [`PullError`].
    pub async fn blob(&self, digest: &Digest) -> Result<Bytes, PullError> {
        let mut client = Client::new(&self.base_url, self.ns.as_deref());
        let mut bytes = Vec::new();
        let fetching = client.blob(&self.name, digest, |chunk| bytes.extend_from_slice(chunk));
        timeout(self.within, fetching)
            .await
            .unwrap_or(Err(PullError::TooSlow(self.within)))?;
        Ok(bytes.into())
    }

    async fn pull(&self, client: &mut Client) -> Result<Pulled, PullError> {
        let root = client.resolve(&self.name, &self.reference).await?;
        let mut pulled = Pulled {
            root: Some(root.digest.clone()),
            ..Pulled::default()
        };
        let mut manifests = VecDeque::from([root]);
        while let Some(wanted) = manifests.pop_front() {
            if pulled.manifests.contains_key(&wanted.digest) {
                continue;
            }
            let manifest = client.manifest(&self.name, wanted.digest.as_str()).await?;
            self.check(&wanted, manifest.bytes().len() as u64, manifest.media_type())?;
            let parsed = parse(&manifest)?;
            manifests.extend(parsed.children().iter().filter(|child| self.wants(child)).cloned());
            if let Manifest::Image(_) = &parsed {
                self.pull_blobs(client, &parsed, &mut pulled).await?;
            }
            pulled.manifests.insert(wanted.digest, manifest);
        }
        Ok(pulled)
    }

    async fn pull_blobs(&self, client: &mut Client, manifest: &Manifest, pulled: &mut Pulled) -> Result<(), PullError> {
        for blob in manifest.blobs().filter(|blob| !blob.may_be_absent()) {
            if pulled.blobs.contains_key(&blob.digest) {
                continue;
            }
            let size = client.blob(&self.name, &blob.digest, |_| ()).await?;
            self.check(blob, size, &blob.media_type)?;
            pulled.blobs.insert(blob.digest.clone(), size);
        }
        Ok(())
    }

    fn wants(&self, child: &Descriptor) -> bool {
        let Some(wanted) = &self.platform else { return true };
        child.platform.as_ref().is_some_and(|platform| {
            let variant = platform
                .variant
                .as_ref()
                .map(|variant| format!("/{variant}"))
                .unwrap_or_default();
            *wanted == format!("{}/{}{variant}", platform.os, platform.architecture)
        })
    }

    fn check(&self, wanted: &Descriptor, size: u64, media_type: &oci::MediaType) -> Result<(), PullError> {
        if wanted.size == size && wanted.media_type == *media_type {
            return Ok(());
        }
        let what = format!(
            "{size} bytes of {media_type}, described as {} of {}",
            wanted.size, wanted.media_type
        );
        Err(PullError::Contradiction {
            target: format!("{}@{}", self.name, wanted.digest),
            what,
        })
    }
}

fn parse(manifest: &RawManifest) -> Result<Manifest, PullError> {
    manifest.parse().map_err(|source| PullError::Manifest {
        digest: manifest.digest().clone(),
        source,
    })
}
