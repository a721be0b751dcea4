//! Handshakes with certificates from real files.

use rustls::ClientConfig;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{ServerName, UnixTime};
use rustls::{DigitallySignedStruct, SignatureScheme};
use tempfile::TempDir;
use tokio::io::duplex;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::*;

/// Takes any certificate, since here it is looked at afterwards.
#[derive(Debug)]
struct Anyone;

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        ring::default_provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}

/// The certificate a client is shown now; none if the handshake fails.
async fn shown(config: &Arc<ServerConfig>) -> Option<Vec<u8>> {
    let client = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anyone))
        .with_no_client_auth();
    let (near, far) = duplex(16 * 1024);
    let accepting = TlsAcceptor::from(Arc::clone(config)).accept(far);
    let name = ServerName::try_from("webhook").unwrap();
    let connecting = TlsConnector::from(Arc::new(client)).connect(name, near);
    let (accepted, connected) = tokio::join!(accepting, connecting);
    accepted.ok()?;
    let stream = connected.ok()?;
    let chain = stream.get_ref().1.peer_certificates().unwrap();
    Some(chain[0].to_vec())
}

fn files() -> (TempDir, CertificateFiles) {
    let dir = tempfile::tempdir().unwrap();
    let files = CertificateFiles {
        cert: dir.path().join("tls.crt"),
        key: dir.path().join("tls.key"),
    };
    (dir, files)
}

fn write(files: &CertificateFiles) {
    let made = rcgen::generate_simple_self_signed(vec!["webhook".to_owned()]).unwrap();
    std::fs::write(&files.cert, made.cert.pem()).unwrap();
    std::fs::write(&files.key, made.signing_key.serialize_pem()).unwrap();
}

#[tokio::test]
async fn replaced_certificate_is_shown_to_the_next_client() {
    let (_dir, files) = files();
    let serving = Serving::new(files.clone());
    let config = serving.server_config();
    assert!(serving.reload().is_err());
    assert_eq!(shown(&config).await, None);

    write(&files);
    assert!(serving.reload().unwrap());
    let first = shown(&config).await.unwrap();
    assert!(!serving.reload().unwrap());
    write(&files);
    assert!(serving.reload().unwrap());
    assert_ne!(shown(&config).await.unwrap(), first);
}

#[tokio::test]
async fn replacement_that_cannot_serve_is_not_used() {
    let (_dir, files) = files();
    write(&files);
    let serving = Serving::new(files.clone());
    serving.reload().unwrap();
    let config = serving.server_config();
    let good = shown(&config).await.unwrap();

    let other = rcgen::generate_simple_self_signed(vec!["webhook".to_owned()]).unwrap();
    std::fs::write(&files.key, other.signing_key.serialize_pem()).unwrap();
    assert!(matches!(serving.reload(), Err(ServingError::Identity { .. })));
    std::fs::write(&files.cert, "no PEM").unwrap();
    assert!(matches!(serving.reload(), Err(ServingError::Pem { .. })));
    assert_eq!(shown(&config).await.unwrap(), good);
}
