//! A cache node in this process: the distribution protocol over whatever content a story gives it.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use daemon::tls::{Protocol, Tls};
use distribution::{
    BlobAnswer, BlobQuery, BlobReader, BlobStream, Body, CacheIndex, Client, ManifestAnswer, ManifestQuery, Notes,
    Registry, RegistryError, Routes, Server, ServerHandle, Source, UnreadBlob,
};
use futures::future::pending;
use futures::{StreamExt, stream};
use http::request::Parts;
use hyper::body::Incoming;
use oci::{ByteRange, Digest, ManifestReference, MediaType};
use proto::access::{FACTS_PATH, NODE_HEADER};
use tokio::net::TcpListener;

const FRAME_BYTES: usize = 64 << 10;

/// How a node behaves, and what it was asked.
#[derive(Debug)]
pub(crate) struct Shelf {
    pub(crate) blob: Bytes,
    pub(crate) manifest: Bytes,
    pub(crate) settings: Mutex<Settings>,
    pub(crate) asked: Mutex<Vec<Asked>>,
    pub(crate) documents: Mutex<Vec<DocumentAsked>>,
}

/// A request for something beside the distribution protocol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DocumentAsked {
    pub(crate) target: String,
    /// What the proxy says which machine it is on.
    pub(crate) node_name: Option<String>,
}

/// How a node answers those.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Documents {
    /// With [`FACTS`] and [`AUTHORIZATION`].
    Good,
    Fail,
    Refuse,
    Hang,
    Garbage,
    /// With a secret where a number belongs, which a careless message would show.
    Mistyped,
}

pub(crate) const FACTS: &str = r#"{"hosts_with_port":["reg.corp:5000"]}"#;
/// "user:secret".
pub(crate) const AUTHORIZATION: &str = r#"{"authorization":"Basic dXNlcjpzZWNyZXQ=","seconds":300}"#;
const MISTYPED: &str = r#"{"authorization":"Basic dXNlcjpzZWNyZXQ=","seconds":"Basic dXNlcjpzZWNyZXQ="}"#;

#[derive(Debug, Clone, Copy)]
pub(crate) struct Settings {
    pub(crate) source: Source,
    /// A body read from its start stops here and never goes on.
    pub(crate) stalls_at: Option<usize>,
    /// How long a body's first byte takes.
    pub(crate) slow_by: Duration,
    pub(crate) cache_index: Option<CacheIndex>,
    /// Offset of a byte sent wrong.
    pub(crate) flips: Option<usize>,
    pub(crate) empty: bool,
    /// The tier refuses this machine everything.
    pub(crate) refuses: bool,
    pub(crate) documents: Documents,
}

/// What a request was, as far as the stories care.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) thing: &'static str,
    pub(crate) ns: Option<String>,
    pub(crate) hop: u8,
    pub(crate) cache_index: Option<CacheIndex>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            source: Source::Local,
            stalls_at: None,
            slow_by: Duration::ZERO,
            cache_index: None,
            flips: None,
            empty: false,
            refuses: false,
            documents: Documents::Fail,
        }
    }
}

/// A running node; dropping it cuts its connections as a kill would.
pub(crate) struct Node {
    pub(crate) shelf: Arc<Shelf>,
    pub(crate) address: SocketAddr,
    server: Option<ServerHandle>,
}

impl Node {
    pub(crate) async fn start(blob: Bytes, manifest: Bytes, tls: Option<&Tls>) -> Self {
        let shelf = Arc::new(Shelf {
            blob,
            manifest,
            settings: Mutex::default(),
            asked: Mutex::default(),
            documents: Mutex::default(),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut server = Server::new(Arc::clone(&shelf)).routes(Arc::new(Extra(Arc::clone(&shelf))));
        if let Some(tls) = tls {
            server = server.tls(tls.server_config(Protocol::Http1));
        }
        Self {
            shelf,
            address,
            server: Some(server.start(listener).unwrap()),
        }
    }

    pub(crate) fn kill(&mut self) {
        self.server = None;
    }

    pub(crate) fn set(&self, change: impl FnOnce(&mut Settings)) {
        change(&mut self.shelf.settings.lock().unwrap());
    }

    pub(crate) fn n_asked(&self, thing: &str) -> usize {
        self.shelf
            .asked
            .lock()
            .unwrap()
            .iter()
            .filter(|asked| asked.thing == thing)
            .count()
    }
}

impl Shelf {
    fn note(&self, thing: &'static str, context: &distribution::RequestContext) -> Settings {
        self.asked.lock().unwrap().push(Asked {
            thing,
            ns: context.ns.as_ref().map(ToString::to_string),
            hop: context.hop,
            cache_index: context.cache_index,
        });
        *self.settings.lock().unwrap()
    }
}

impl Registry for Shelf {
    async fn manifest(&self, query: ManifestQuery) -> Result<ManifestAnswer, RegistryError> {
        let settings = self.note("manifest", &query.context);
        if settings.refuses {
            return Err(refusal());
        }
        let digest = Digest::sha256(&self.manifest);
        let known = match &query.reference {
            ManifestReference::Tag(tag) => tag.as_str() == "v1",
            ManifestReference::Digest(asked) => *asked == digest,
        };
        if settings.empty || !known {
            return Err(RegistryError::ManifestUnknown);
        }
        Ok(ManifestAnswer {
            media_type: MediaType::OCI_MANIFEST.parse().unwrap(),
            digest,
            size: self.manifest.len() as u64,
            bytes: self.manifest.clone(),
            notes: Notes {
                cache_index: settings.cache_index,
                ..Notes::from_source(settings.source)
            },
        })
    }

    async fn blob(&self, query: BlobQuery) -> Result<BlobAnswer, RegistryError> {
        let settings = self.note(if query.head { "stat" } else { "blob" }, &query.context);
        if settings.refuses {
            return Err(refusal());
        }
        if settings.empty || query.digest != Digest::sha256(&self.blob) {
            return Err(RegistryError::BlobUnknown);
        }
        let reader: Box<dyn BlobReader> = if query.head {
            Box::new(UnreadBlob)
        } else {
            Box::new(Reader {
                blob: self.blob.clone(),
                settings,
            })
        };
        let notes = Notes::from_source(settings.source);
        Ok(BlobAnswer {
            digest: query.digest,
            size: Some(self.blob.len() as u64),
            notes,
            reader,
        })
    }
}

fn refusal() -> RegistryError {
    RegistryError::Denied {
        why: "no admitted pod on this node".to_owned(),
    }
}

/// What nodes answer beside the protocol.
struct Extra(Arc<Shelf>);

impl Routes for Extra {
    fn claims(&self, head: &Parts) -> bool {
        head.uri.path().starts_with("/kuik/")
    }

    async fn handle(&self, head: Parts, _body: Incoming, _client: Client) -> http::Response<Body> {
        let asked = DocumentAsked {
            target: head.uri.to_string(),
            node_name: head
                .headers
                .get(NODE_HEADER)
                .map(|name| name.to_str().unwrap().to_owned()),
        };
        self.0.documents.lock().unwrap().push(asked);
        let documents = self.0.settings.lock().unwrap().documents;
        let (status, body) = match documents {
            Documents::Good if head.uri.path() == FACTS_PATH => (200, FACTS),
            Documents::Good => (200, AUTHORIZATION),
            Documents::Fail => (503, ""),
            Documents::Refuse => (403, ""),
            Documents::Garbage => (200, "<html>"),
            Documents::Mistyped => (200, MISTYPED),
            Documents::Hang => pending().await,
        };
        let mut response = http::Response::new(Body::full(Bytes::from_static(body.as_bytes())));
        *response.status_mut() = status.try_into().unwrap();
        response
    }
}

struct Reader {
    blob: Bytes,
    settings: Settings,
}

impl BlobReader for Reader {
    fn read(self: Box<Self>, range: Option<ByteRange>) -> BlobStream {
        let Settings {
            stalls_at,
            slow_by,
            flips,
            ..
        } = self.settings;
        let start = range.map_or(0, |range| usize::try_from(range.start()).unwrap());
        let end = range.map_or(self.blob.len(), |range| usize::try_from(range.end_exclusive()).unwrap());
        let sent = stalls_at.filter(|_| start == 0).unwrap_or(end);
        let mut bytes = self.blob[start..sent].to_vec();
        if let Some(flipped) = flips.filter(|at| (start..sent).contains(at)) {
            bytes[flipped - start] ^= 1;
        }
        let frames: Vec<io::Result<Bytes>> = bytes
            .chunks(FRAME_BYTES)
            .map(|f| Ok(Bytes::copy_from_slice(f)))
            .collect();
        let delayed = stream::once(async move {
            tokio::time::sleep(slow_by).await;
            Ok(Bytes::new())
        });
        let frames = delayed.chain(stream::iter(frames));
        if sent < end {
            frames.chain(stream::pending()).boxed()
        } else {
            frames.boxed()
        }
    }
}
