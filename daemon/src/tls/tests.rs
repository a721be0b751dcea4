//! Handshakes between configurations made from real files.

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls_pki_types::ServerName;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::*;

type Issuer = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Issuer {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn files_in(dir: &Path) -> TlsFiles {
    TlsFiles {
        ca: dir.join("ca.pem"),
        cert: dir.join("cert.pem"),
        key: dir.join("key.pem"),
    }
}

fn write_leaf(files: &TlsFiles, issuer: &Issuer) {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let leaf = params.signed_by(&key, issuer).unwrap();
    std::fs::write(&files.ca, issuer.pem()).unwrap();
    std::fs::write(&files.cert, leaf.pem()).unwrap();
    std::fs::write(&files.key, key.serialize_pem()).unwrap();
}

fn identity_of(issuer: &Issuer) -> (TempDir, Tls) {
    let dir = tempfile::tempdir().unwrap();
    let files = files_in(dir.path());
    write_leaf(&files, issuer);
    let tls = Tls::load(files).unwrap();
    (dir, tls)
}

/// Says hello both ways, which in TLS 1.3 is when a refused client certificate shows.
async fn greet(server: Arc<ServerConfig>, client: Arc<ClientConfig>) -> io::Result<()> {
    let (near, far) = duplex(16 * 1024);
    let serving = async {
        let mut stream = TlsAcceptor::from(server).accept(far).await?;
        stream.write_all(b"hello").await?;
        stream.flush().await
    };
    let asking = async {
        let name = ServerName::try_from("127.0.0.1").unwrap();
        let mut stream = TlsConnector::from(client).connect(name, near).await?;
        let mut hello = [0; 5];
        stream.read_exact(&mut hello).await.map(|_count| ())
    };
    let (served, asked) = tokio::join!(serving, asking);
    served.and(asked)
}

#[tokio::test]
async fn both_sides_of_one_authority_agree() {
    let issuer = authority();
    let (_one, server) = identity_of(&issuer);
    let (_two, client) = identity_of(&issuer);
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let greeted = greet(server.server_config(protocol), client.client_config(protocol));
        greeted.await.unwrap();
    }
}

#[tokio::test]
async fn client_without_a_certificate_is_refused() {
    let issuer = authority();
    let (_dir, server) = identity_of(&issuer);
    let mut roots = RootCertStore::empty();
    roots.add(issuer.der().clone()).unwrap();
    let anonymous = ClientConfig::builder_with_provider(Arc::new(provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let greeted = greet(server.server_config(Protocol::Http1), Arc::new(anonymous));
    assert!(greeted.await.is_err());
}

#[tokio::test]
async fn certificate_of_another_authority_is_refused() {
    let (_one, server) = identity_of(&authority());
    let (_two, client) = identity_of(&authority());
    let greeted = greet(
        server.server_config(Protocol::Http1),
        client.client_config(Protocol::Http1),
    );
    assert!(greeted.await.is_err());
}

#[tokio::test]
async fn replaced_files_are_used_by_the_next_connection() {
    let (_one, client) = identity_of(&authority());
    let (dir, server) = identity_of(&authority());
    assert!(!server.reload().unwrap());
    // Taken once, as listeners and pools of connections do.
    let serving = server.server_config(Protocol::Http1);
    let asking = client.client_config(Protocol::Http1);
    assert!(greet(Arc::clone(&serving), Arc::clone(&asking)).await.is_err());
    // Now both are of the same new authority.
    let issuer = authority();
    write_leaf(&files_in(dir.path()), &issuer);
    write_leaf(&client.files, &issuer);
    assert!(server.reload().unwrap());
    assert!(client.reload().unwrap());
    greet(serving, asking).await.unwrap();
}

#[test]
fn rotation_caught_halfway_keeps_the_old_identity() {
    let issuer = authority();
    let (dir, tls) = identity_of(&issuer);
    let before = tls.pem();
    let other_key = KeyPair::generate().unwrap().serialize_pem();
    std::fs::write(dir.path().join("key.pem"), other_key).unwrap();
    let error = tls.reload().unwrap_err();
    assert!(matches!(error, TlsError::Identity { .. }));
    assert!(tls.pem() == before);
}

#[test]
fn errors_name_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let files = files_in(dir.path());
    let missing = Tls::load(files.clone()).err().unwrap();
    assert!(missing.to_string().ends_with("ca.pem"));
    write_leaf(&files, &authority());
    std::fs::write(&files.cert, "not a certificate").unwrap();
    let damaged = Tls::load(files).err().unwrap();
    assert!(damaged.to_string().ends_with("cert.pem holds no valid PEM certificate"));
}
