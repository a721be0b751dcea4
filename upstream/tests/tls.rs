//! Certificates, proxies and tunnels.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

mod support;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use http::Method;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use support::{MANIFEST, Server, config, manifest, repository, tag};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use upstream::{
    ClientIdentity, HostRule, NodeCall, NodeClient, NodeTransport, ProxyRules, RegistryClient, RetryPolicy,
    UpstreamConfig, UpstreamError,
};

/// A certificate authority of its own.
struct Authority(CertifiedIssuer<'static, KeyPair>);

type Leaf = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn leaf(&self, name: &str) -> Leaf {
        let key = KeyPair::generate().unwrap();
        let leaf = CertificateParams::new(vec![name.to_owned()])
            .unwrap()
            .signed_by(&key, &self.0)
            .unwrap();
        (
            vec![leaf.der().clone()],
            PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        )
    }

    fn root(&self) -> CertificateDer<'static> {
        self.0.der().clone()
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.root()).unwrap();
        roots
    }

    /// A server of this authority for `name`, which wants a client certificate if `mutual`.
    fn server(&self, name: &str, mutual: bool) -> TlsAcceptor {
        let provider = Arc::new(default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions();
        let builder = if mutual {
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(self.roots()), provider).build();
            builder.unwrap().with_client_cert_verifier(verifier.unwrap())
        } else {
            builder.unwrap().with_no_client_auth()
        };
        let (chain, key) = self.leaf(name);
        TlsAcceptor::from(Arc::new(builder.with_single_cert(chain, key).unwrap()))
    }
}

fn rule(config: &mut UpstreamConfig) -> &mut HostRule {
    config.patience.retry = RetryPolicy::NEVER;
    config.hosts.get_mut(&"source.example".parse().unwrap()).unwrap()
}

async fn head(config: UpstreamConfig) -> Result<(), UpstreamError> {
    RegistryClient::new(config)
        .unwrap()
        .head_manifest(&repository(), &tag("v1"))
        .await
        .map(drop)
}

/// A proxy that tunnels everything to `to`, and the first line of what it was asked.
async fn proxy(to: SocketAddr) -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let heads = Arc::clone(&asked);
    tokio::spawn(async move {
        loop {
            let (mut tcp, _) = listener.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(tcp.read_u8().await.unwrap());
            }
            let head = String::from_utf8(head).unwrap();
            let tunnel = head.starts_with("CONNECT");
            heads.lock().unwrap().push(head.clone());
            let mut onward = TcpStream::connect(to).await.unwrap();
            if tunnel {
                tcp.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
            } else {
                onward.write_all(head.as_bytes()).await.unwrap();
            }
            tokio::spawn(async move { copy_bidirectional(&mut tcp, &mut onward).await });
        }
    });
    (address, asked)
}

#[tokio::test]
async fn a_private_authority_is_believed_only_where_configured() {
    let authority = Authority::new();
    let server = Server::start_tls(authority.server("127.0.0.1", false), |_| manifest()).await;
    let error = head({
        let mut config = config(&server.url());
        rule(&mut config);
        config
    });
    let error = error.await.unwrap_err();
    assert!(matches!(error, UpstreamError::Unavailable { .. }), "{error}");
    let mut config = config(&server.url());
    rule(&mut config).extra_roots = vec![authority.root()];
    head(config).await.unwrap();
}

#[tokio::test]
async fn an_insecure_host_may_show_anything() {
    let server = Server::start_tls(Authority::new().server("someone.else", false), |_| manifest()).await;
    let mut config = config(&server.url());
    rule(&mut config).insecure = true;
    head(config).await.unwrap();
}

#[tokio::test]
async fn a_client_certificate_is_shown_where_one_is_asked_for() {
    let authority = Authority::new();
    let server = Server::start_tls(authority.server("127.0.0.1", true), |_| manifest()).await;
    let mut with_identity = config(&server.url());
    let (chain, key) = authority.leaf("client");
    rule(&mut with_identity).extra_roots = vec![authority.root()];
    let mut without = with_identity.clone();
    rule(&mut with_identity).identity = Some(Arc::new(ClientIdentity { chain, key }));
    head(with_identity).await.unwrap();
    rule(&mut without);
    assert!(head(without).await.is_err());
}

#[tokio::test]
async fn two_hosts_at_one_server_must_agree_on_tls() {
    let mut config = config("https://mirror.example");
    let mut other = rule(&mut config).clone();
    other.insecure = true;
    config.hosts.insert("other.example".parse().unwrap(), other);
    let error = RegistryClient::new(config).unwrap_err().to_string();
    assert!(
        error.contains("source.example") && error.contains("other.example"),
        "{error}"
    );
}

#[tokio::test]
async fn https_goes_through_the_proxys_tunnel_and_is_verified_behind_it() {
    let authority = Authority::new();
    let server = Server::start_tls(authority.server("registry.example", false), |_| manifest()).await;
    let (proxy, asked) = proxy(server.address).await;
    let mut config = config("https://registry.example");
    config.proxies = ProxyRules::new(None, Some(&format!("http://user:pw@{proxy}")), "").unwrap();
    rule(&mut config).extra_roots = vec![authority.root()];
    head(config.clone()).await.unwrap();
    let expected = "CONNECT registry.example:443 HTTP/1.1\r\nHost: registry.example:443\r\n\
        Proxy-Authorization: Basic dXNlcjpwdw==\r\n\r\n";
    assert_eq!(asked.lock().unwrap()[0], expected);
    assert!(server.seen()[0].header("proxy-authorization").is_none());
    rule(&mut config).extra_roots.clear();
    assert!(head(config).await.is_err());
}

#[tokio::test]
async fn plain_http_is_asked_of_the_proxy_with_the_whole_url() {
    let server = Server::start(|_| manifest()).await;
    let (proxy, asked) = proxy(server.address).await;
    let mut config = config("http://registry.example");
    config.proxies = ProxyRules::new(Some(&format!("http://user:pw@{proxy}")), None, "").unwrap();
    head(config).await.unwrap();
    let asked = asked.lock().unwrap()[0].to_ascii_lowercase();
    assert!(
        asked.starts_with("head http://registry.example:80/v2/team/app/manifests/v1 http/1.1\r\n"),
        "{asked}"
    );
    assert!(asked.contains("proxy-authorization: basic"), "{asked}");
}

#[tokio::test]
async fn nodes_know_each_other_by_certificate() {
    let authority = Authority::new();
    let node = Server::start_tls(authority.server("127.0.0.1", true), |_| manifest()).await;
    let (chain, key) = authority.leaf("proxy");
    let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()));
    let builder = builder
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(authority.roots());
    let tls = Some(Arc::new(builder.with_client_auth_cert(chain, key).unwrap()));
    let transport = NodeTransport {
        tls,
        connect_timeout: std::time::Duration::from_secs(5),
        ..NodeTransport::default()
    };
    let client = NodeClient::new(transport);
    let url = node.url().parse().unwrap();
    assert!(client.ping(&url).await);
    let found = client
        .manifest(&url, Method::GET, &repository(), &tag("v1"), &NodeCall::default())
        .await
        .unwrap();
    assert_eq!(found.bytes, MANIFEST);
}
