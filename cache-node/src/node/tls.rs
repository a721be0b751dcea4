//! One identity, in the shapes that HTTP, gRPC and consensus want it.

use std::sync::Arc;

use daemon::task::TaskSet;
use daemon::tls::{Protocol, Tls, TlsError};
use raft::{BadAddress, Connect, endpoint};
use rustls::ServerConfig;
use tonic::transport::{Channel, Endpoint};
use upstream::NodeTransport;

use super::grpc;
use crate::config::TlsFiles;

/// This node's identity.
#[derive(Clone)]
pub(super) struct NodeTls(Tls);

impl NodeTls {
    pub(super) fn load(files: TlsFiles) -> Result<Self, TlsError> {
        let TlsFiles { ca, cert, key } = files;
        Tls::load(daemon::tls::TlsFiles { ca, cert, key }).map(Self)
    }

    pub(super) fn start_reload(&self, tasks: &TaskSet) {
        self.0.start_reload(tasks);
    }

    pub(super) fn registry_server(&self) -> Arc<ServerConfig> {
        self.0.server_config(Protocol::Http1)
    }

    pub(super) fn grpc_server(&self) -> Arc<ServerConfig> {
        self.0.server_config(Protocol::Http2)
    }

    /// A channel to `endpoint`, whose URL has the scheme `http`: the connection is secured here.
    pub(super) fn channel(&self, endpoint: &Endpoint) -> Channel {
        grpc::secured_channel(endpoint, self.0.client_config(Protocol::Http2))
    }
}

/// How other nodes' registries are reached.
pub(super) fn node_transport(tls: Option<&NodeTls>) -> NodeTransport {
    NodeTransport {
        tls: tls.map(|tls| tls.0.client_config(Protocol::Http1)),
        ..NodeTransport::default()
    }
}

/// How consensus reaches other nodes.
pub(super) struct PeerConnect {
    tls: Option<NodeTls>,
}

impl PeerConnect {
    pub(super) fn new(tls: Option<NodeTls>) -> Self {
        Self { tls }
    }
}

impl Connect for PeerConnect {
    fn channel(&self, address: &str) -> Result<Channel, BadAddress> {
        let endpoint = endpoint("http", address)?;
        Ok(match &self.tls {
            Some(tls) => tls.channel(&endpoint),
            None => endpoint.connect_lazy(),
        })
    }
}
