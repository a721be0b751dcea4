//! TLS: who the client is, and what a client that tries TLS on the plain port hears.

use std::net::SocketAddr;
use std::sync::Arc;

use distribution::{Client, Server, ServerHandle};
use rcgen::{CertificateParams, CertifiedIssuer, KeyPair};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::client::WantsClientCert;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{ClientConfig, ClientConnection, ConfigBuilder, RootCertStore, ServerConfig};

use crate::memory::{MemoryRegistry, NAME, nginx};
use crate::wire::{DEADLINE, Wire};

struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn leaf(&self) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["registry".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        (
            vec![certificate.der().clone()],
            PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        )
    }

    fn roots(&self) -> Arc<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).unwrap();
        Arc::new(roots)
    }

    fn server_config(&self) -> Arc<ServerConfig> {
        let provider = Arc::new(ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(self.roots(), Arc::clone(&provider))
            .allow_unauthenticated()
            .build()
            .unwrap();
        let (chain, key) = self.leaf();
        let builder = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap();
        Arc::new(
            builder
                .with_client_cert_verifier(verifier)
                .with_single_cert(chain, key)
                .unwrap(),
        )
    }

    fn client_config(&self) -> ConfigBuilder<ClientConfig, WantsClientCert> {
        ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(self.roots())
    }
}

async fn start(authority: &Authority) -> (Arc<MemoryRegistry>, ServerHandle) {
    let registry = Arc::new(nginx());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = Server::new(Arc::clone(&registry))
        .tls(authority.server_config())
        .start(listener)
        .unwrap();
    (registry, server)
}

async fn get_over_tls(address: SocketAddr, config: ClientConfig) -> String {
    let stream = TcpStream::connect(address).await.unwrap();
    let connector = TlsConnector::from(Arc::new(config));
    let mut stream = connector.connect("registry".try_into().unwrap(), stream).await.unwrap();
    let request = format!("GET /v2/{NAME}/manifests/latest HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    timeout(DEADLINE, stream.read_to_string(&mut answer))
        .await
        .unwrap()
        .unwrap();
    answer
}

#[tokio::test]
async fn a_client_certificate_is_noticed() {
    let authority = Authority::new();
    let (registry, server) = start(&authority).await;
    let (chain, key) = authority.leaf();
    let config = authority.client_config().with_client_auth_cert(chain, key).unwrap();
    assert!(get_over_tls(server.address(), config).await.starts_with("HTTP/1.1 200"));
    assert_eq!(registry.seen().pop().unwrap().client, Client::TlsVerified);
}

#[tokio::test]
async fn a_client_without_certificate_is_anonymous() {
    let authority = Authority::new();
    let (registry, server) = start(&authority).await;
    let config = authority.client_config().with_no_client_auth();
    assert!(get_over_tls(server.address(), config).await.starts_with("HTTP/1.1 200"));
    assert_eq!(registry.seen().pop().unwrap().client, Client::TlsAnonymous);
}

// G-11
#[tokio::test]
async fn a_client_hello_on_the_plain_port_is_answered_with_http() {
    let config = Authority::new().client_config().with_no_client_auth();
    let mut hello = Vec::new();
    let mut connection = ClientConnection::new(Arc::new(config), "registry".try_into().unwrap()).unwrap();
    connection.write_tls(&mut hello).unwrap();

    let served = nginx().serve().await;
    let mut wire = Wire::connect(served.server.address()).await;
    wire.send(&hello).await;
    let mut answer = [0; 5];
    timeout(DEADLINE, wire.stream.read_exact(&mut answer))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(&answer, b"HTTP/");
}
