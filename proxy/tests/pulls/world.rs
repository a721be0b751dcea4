//! Nodes, a source registry and a proxy over them.

use std::net::SocketAddr;
use std::path::Path;

use bytes::Bytes;
use daemon::readiness::Readiness;
use daemon::shutdown::Shutdown;
use daemon::tls::{Tls, TlsFiles};
use http::HeaderValue;
use oci::Digest;
use proxy::Config;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tempfile::TempDir;
use testkit::{FakeRegistry, image};

use crate::client::{self, Reply};
use crate::node::Node;

/// Many frames, so that a body is really under way when something happens to it.
pub(crate) const BLOB_BYTES: usize = 4 << 20;
/// The machine that the proxy is on.
pub(crate) const NODE_NAME: &str = "worker-7";
/// The name the source registry goes by.
pub(crate) const HOST: &str = "quay.example";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Link {
    Plain,
    MutualTls,
}

pub(crate) struct World {
    pub(crate) nodes: Vec<Node>,
    pub(crate) source: FakeRegistry,
    pub(crate) blob: Bytes,
    pub(crate) manifest: Bytes,
    pub(crate) address: SocketAddr,
    /// Its tasks end with the runtime, if nobody runs it.
    pub(crate) shutdown: Shutdown,
    _files: TempDir,
}

impl World {
    pub(crate) async fn start(n_nodes: usize, link: Link) -> Self {
        Self::start_beside(n_nodes, link, &[]).await
    }

    /// Starts a world whose proxy also knows nodes at `others`.
    pub(crate) async fn start_beside(n_nodes: usize, link: Link, others: &[SocketAddr]) -> Self {
        Self::start_over(FakeRegistry::start().await, n_nodes, link, others).await
    }

    /// Starts a world over a source registry that nothing was pushed to yet.
    pub(crate) async fn start_over(source: FakeRegistry, n_nodes: usize, link: Link, others: &[SocketAddr]) -> Self {
        let files = tempfile::tempdir().unwrap();
        let tls = certificates(files.path());
        let loaded = (link == Link::MutualTls).then(|| Tls::load(tls.clone()).unwrap());
        let image = image("a/b").tag("v1").layer(content(BLOB_BYTES)).build();
        let blob = image.largest_blob().1.clone();
        let manifest = image.manifests()[image.root()].bytes().clone();
        let mut nodes = Vec::new();
        for _ in 0..n_nodes {
            nodes.push(Node::start(blob.clone(), manifest.clone(), loaded.as_ref()).await);
        }
        source.push(&image);
        let scheme = if link == Link::MutualTls { "https" } else { "http" };
        let addresses: Vec<_> = nodes
            .iter()
            .map(|node| node.address)
            .chain(others.iter().copied())
            .collect();
        let text = config_text(&addresses, scheme, &tls, source.address());
        let path = files.path().join("proxy.toml");
        std::fs::write(&path, text).unwrap();
        let mut config = Config::load(&path).unwrap();
        config.node_name = Some(HeaderValue::from_static(NODE_NAME));
        let sockets = proxy::bind_all(&config.listen, config.reuse_port).unwrap();
        let shutdown = Shutdown::new();
        let proxy = proxy::start(config, sockets, &shutdown, &Readiness::new(&shutdown)).unwrap();
        let address = proxy.addresses()[0];
        Self {
            nodes,
            source,
            blob,
            manifest,
            address,
            shutdown,
            _files: files,
        }
    }

    pub(crate) fn blob_path(&self) -> String {
        format!("/v2/{HOST}/a/b/blobs/{}", Digest::sha256(&self.blob))
    }

    pub(crate) fn blob_path_with_ns(&self) -> String {
        format!("/v2/a/b/blobs/{}?ns={HOST}", Digest::sha256(&self.blob))
    }

    pub(crate) async fn get(&self, path: &str) -> Reply {
        client::get(self.address, path).await
    }

    /// The node that has been asked for the blob.
    pub(crate) fn serving(&mut self) -> &mut Node {
        self.nodes
            .iter_mut()
            .find(|node| node.n_asked("blob") > 0)
            .expect("a node serves")
    }

    pub(crate) fn n_asked(&self, thing: &str) -> usize {
        self.nodes.iter().map(|node| node.n_asked(thing)).sum()
    }

    pub(crate) fn assert_whole_blob(&self, reply: &Reply) {
        assert_eq!(reply.status, 200);
        assert!(reply.whole, "cut after {} bytes", reply.body.len());
        assert!(reply.body == self.blob, "other bytes");
    }
}

pub(crate) fn content(length: usize) -> Bytes {
    (0..length).map(|n| (n ^ (n >> 8) ^ (n >> 16)) as u8).collect()
}

pub(crate) fn config_text(nodes: &[SocketAddr], scheme: &str, tls: &TlsFiles, source: SocketAddr) -> String {
    let mut text = "listen = [\"127.0.0.1:0\"]\n".to_owned();
    for (ordinal, address) in nodes.iter().enumerate() {
        text += &format!("[[nodes]]\nordinal = {ordinal}\nregistry = \"{scheme}://{address}\"\n");
    }
    text += &format!("[tls]\nca = {:?}\ncert = {:?}\nkey = {:?}\n", tls.ca, tls.cert, tls.key);
    text + &format!("[upstream.hosts.\"{HOST}\"]\nurl = \"http://{source}\"\n")
}

fn certificates(directory: &Path) -> TlsFiles {
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let leaf = leaf.signed_by(&key, &authority).unwrap();
    let write = |name: &str, text: String| {
        let path = directory.join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    TlsFiles {
        ca: write("ca.pem", authority.pem()),
        cert: write("cert.pem", leaf.pem()),
        key: write("key.pem", key.serialize_pem()),
    }
}
