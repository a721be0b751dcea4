//! One identity, in the shapes that HTTP, gRPC and consensus want it.

use std::sync::Arc;

use daemon::task::TaskSet;
use daemon::tls::{Protocol, Tls, TlsError};
use raft::{BadAddress, Connect, endpoint};
use rustls::ServerConfig;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Identity, ServerTlsConfig};
use upstream::NodeTransport;

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

    pub(super) fn tonic_server(&self) -> ServerTlsConfig {
        let pem = self.0.pem();
        ServerTlsConfig::new()
            .identity(Identity::from_pem(&pem.cert, &pem.key))
            .client_ca_root(Certificate::from_pem(&pem.ca))
    }

    pub(super) fn tonic_client(&self) -> ClientTlsConfig {
        let pem = self.0.pem();
        ClientTlsConfig::new()
            .identity(Identity::from_pem(&pem.cert, &pem.key))
            .ca_certificate(Certificate::from_pem(&pem.ca))
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
        let Some(tls) = &self.tls else {
            return Ok(endpoint("http", address)?.connect_lazy());
        };
        let secured = endpoint("https", address)?.tls_config(tls.tonic_client());
        let endpoint = secured.map_err(|source| BadAddress {
            address: address.to_owned(),
            source,
        })?;
        Ok(endpoint.connect_lazy())
    }
}
