//! A registry in memory whose blobs follow a script, and a server for it.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use distribution::{
    BlobAnswer, BlobQuery, BlobReader, BlobStream, InMemoryBlob, Limits, ManifestAnswer, ManifestQuery, Notes,
    ReferrersAnswer, ReferrersQuery, Registry, RegistryError, RequestContext, Server, ServerHandle, TagList, TagsQuery,
    UnreadBlob,
};
use futures::stream::{self, StreamExt};
use oci::{ByteRange, Digest, MediaType};
use tokio::net::TcpListener;

/// What a blob's reader does, in order.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    Bytes(Bytes),
    Fail(io::ErrorKind),
    Refuse,
    Hang,
}

#[derive(Debug, Clone)]
pub(crate) enum Blob {
    /// Served as it is, ranges included.
    Whole(Bytes),
    /// Announces `size` and then does these steps, whatever was asked.
    Script { size: Option<u64>, steps: Vec<Step> },
}

#[derive(Debug, Default)]
pub(crate) struct MemoryRegistry {
    manifests: BTreeMap<(String, String), ManifestAnswer>,
    blobs: BTreeMap<Digest, Blob>,
    tags: Vec<String>,
    notes: Notes,
    seen: Mutex<Vec<RequestContext>>,
    hanging: Arc<()>,
}

impl MemoryRegistry {
    pub(crate) fn manifest(mut self, name: &str, tag: &str, media_type: &str, bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        let digest = Digest::sha256(&bytes);
        let answer = ManifestAnswer {
            media_type: media_type.parse().unwrap(),
            digest: digest.clone(),
            size: bytes.len() as u64,
            bytes,
            notes: self.notes,
        };
        self.manifests
            .insert((name.to_owned(), digest.to_string()), answer.clone());
        self.manifests.insert((name.to_owned(), tag.to_owned()), answer);
        self
    }

    pub(crate) fn blob(mut self, bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        self.blobs.insert(Digest::sha256(&bytes), Blob::Whole(bytes));
        self
    }

    pub(crate) fn script(mut self, name: &[u8], size: Option<u64>, steps: Vec<Step>) -> Self {
        self.blobs.insert(Digest::sha256(name), Blob::Script { size, steps });
        self
    }

    pub(crate) fn notes(self, notes: Notes) -> Self {
        Self { notes, ..self }
    }

    pub(crate) fn tags(mut self, tags: &[&str]) -> Self {
        self.tags = tags.iter().map(|tag| (*tag).to_owned()).collect();
        self
    }

    pub(crate) fn seen(&self) -> Vec<RequestContext> {
        self.seen.lock().unwrap().clone()
    }

    /// How many readers hang.
    pub(crate) fn hanging(&self) -> usize {
        Arc::strong_count(&self.hanging) - 1
    }

    fn see(&self, context: &RequestContext) {
        self.seen.lock().unwrap().push(context.clone());
    }

    pub(crate) async fn serve(self) -> Served {
        self.serve_within(Limits::default()).await
    }

    pub(crate) async fn serve_within(self, limits: Limits) -> Served {
        let registry = Arc::new(self);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Server::new(Arc::clone(&registry))
            .limits(limits)
            .start(listener)
            .unwrap();
        Served { registry, server }
    }
}

pub(crate) struct Served {
    pub(crate) registry: Arc<MemoryRegistry>,
    pub(crate) server: ServerHandle,
}

impl Registry for MemoryRegistry {
    async fn manifest(&self, query: ManifestQuery) -> Result<ManifestAnswer, RegistryError> {
        self.see(&query.context);
        match query.name.as_str() {
            "fails/unavailable" => {
                return Err(RegistryError::Unavailable {
                    why: "source limits its rate".to_owned(),
                    retry_after: Some(Duration::from_millis(1500)),
                });
            }
            "fails/timeout" => {
                return Err(RegistryError::Timeout {
                    why: "source hangs".to_owned(),
                });
            }
            "fails/denied" => {
                return Err(RegistryError::Denied {
                    why: "no grant".to_owned(),
                });
            }
            "fails/unauthorized" => {
                return Err(RegistryError::Unauthorized {
                    why: "no credentials".to_owned(),
                });
            }
            "fails/name" => {
                return Err(RegistryError::NameInvalid {
                    why: "not a host to ask".to_owned(),
                });
            }
            "fails/unknown" => return Err(RegistryError::NameUnknown),
            "fails/internal" => {
                return Err(RegistryError::Internal {
                    source: "secret of the process".into(),
                });
            }
            _ => (),
        }
        let key = (query.name.to_string(), query.reference.to_string());
        let mut answer = self
            .manifests
            .get(&key)
            .cloned()
            .ok_or(RegistryError::ManifestUnknown)?;
        answer.notes = self.notes;
        if query.head {
            answer.bytes = Bytes::new();
        }
        Ok(answer)
    }

    async fn blob(&self, query: BlobQuery) -> Result<BlobAnswer, RegistryError> {
        self.see(&query.context);
        let blob = self
            .blobs
            .get(&query.digest)
            .cloned()
            .ok_or(RegistryError::BlobUnknown)?;
        let size = match &blob {
            Blob::Whole(bytes) => Some(bytes.len() as u64),
            Blob::Script { size, .. } => *size,
        };
        let reader: Box<dyn BlobReader> = match blob {
            _ if query.head => Box::new(UnreadBlob),
            Blob::Whole(bytes) => Box::new(InMemoryBlob(bytes)),
            Blob::Script { steps, .. } => Box::new(Script(steps, Arc::clone(&self.hanging))),
        };
        Ok(BlobAnswer {
            digest: query.digest,
            size,
            notes: self.notes,
            reader,
        })
    }

    async fn tags(&self, query: TagsQuery) -> Result<TagList, RegistryError> {
        self.see(&query.context);
        let after = query.last.as_ref().map_or("", |last| last.as_str());
        let mut rest = self
            .tags
            .iter()
            .filter(|tag| tag.as_str() > after)
            .map(|tag| tag.parse().unwrap());
        let tags = rest.by_ref().take(query.limit.unwrap_or(100)).collect();
        Ok(TagList {
            tags,
            more: rest.next().is_some(),
            notes: self.notes,
        })
    }

    async fn referrers(&self, query: ReferrersQuery) -> Result<ReferrersAnswer, RegistryError> {
        Ok(ReferrersAnswer {
            filtered: query.artifact_type.is_some(),
            ..ReferrersAnswer::none()
        })
    }
}

struct Script(Vec<Step>, Arc<()>);

impl BlobReader for Script {
    fn read(self: Box<Self>, _range: Option<ByteRange>) -> BlobStream {
        stream::iter(self.0)
            .zip(stream::repeat(self.1))
            .then(|(step, hanging)| async move {
                match step {
                    Step::Bytes(bytes) => Ok(bytes),
                    Step::Fail(kind) => Err(kind.into()),
                    Step::Refuse => Err(io::Error::other(RegistryError::Denied {
                        why: "revoked".to_owned(),
                    })),
                    Step::Hang => {
                        let _hanging = hanging;
                        std::future::pending().await
                    }
                }
            })
            .boxed()
    }
}

pub(crate) const NAME: &str = "library/nginx";

/// A manifest with odd spacing and no trailing newline.
pub(crate) const MANIFEST: &[u8] = b"{ \"schemaVersion\":2,\n\t\"custom\" : [ ] }";

pub(crate) fn nginx() -> MemoryRegistry {
    MemoryRegistry::default()
        .manifest(NAME, "latest", MediaType::OCI_MANIFEST, MANIFEST)
        .blob(blob_bytes())
}

/// 3000 bytes, no two neighbouring positions alike.
pub(crate) fn blob_bytes() -> Bytes {
    (0..3000_u32)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect::<Vec<_>>()
        .into()
}

pub(crate) fn blob_path() -> String {
    format!("/v2/{NAME}/blobs/{}", Digest::sha256(&blob_bytes()))
}

pub(crate) fn script_path(name: &[u8]) -> String {
    format!("/v2/{NAME}/blobs/{}", Digest::sha256(name))
}
