//! TLS settings towards registries, made when first needed.
//!
//! The system's root certificates cost memory and a blocking read, so they are loaded with the first `https`
//! connection that needs them, and shared by all. ring is the only provider.

use std::sync::Arc;

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio::sync::OnceCell;

use crate::config::{ClientIdentity, HostRule};

/// Resumable sessions remembered per setting; few, since each costs memory and most traffic reuses connections.
const SESSIONS_MAX: usize = 32;

/// No usable TLS settings.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    /// The machine has no root certificates, so no certificate could be believed.
    #[error("no system root certificates found")]
    NoRoots,
    /// A certificate or key is refused.
    #[error("TLS settings refused")]
    Settings(#[from] rustls::Error),
    /// The runtime is going down.
    #[error("loading root certificates was interrupted")]
    Interrupted,
}

/// The system's root certificates, once someone needs them.
#[derive(Debug, Default)]
pub(crate) struct SystemRoots {
    loaded: OnceCell<Arc<RootCertStore>>,
}

/// One host's TLS settings, made on first use.
#[derive(Debug, Default)]
pub(crate) struct LazyTls {
    insecure: bool,
    extra_roots: Vec<CertificateDer<'static>>,
    identity: Option<Arc<ClientIdentity>>,
    made: OnceCell<Arc<ClientConfig>>,
}

impl SystemRoots {
    async fn get(&self) -> Result<Arc<RootCertStore>, TlsError> {
        let load = || async {
            let roots = tokio::task::spawn_blocking(load_system_roots)
                .await
                .map_err(|_| TlsError::Interrupted)?;
            if roots.is_empty() {
                Err(TlsError::NoRoots)
            } else {
                Ok(Arc::new(roots))
            }
        };
        self.loaded.get_or_try_init(load).await.cloned()
    }
}

fn load_system_roots() -> RootCertStore {
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::warn!(
            error = error as &dyn std::error::Error,
            "part of the system root certificates is unreadable"
        );
    }
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    roots
}

impl LazyTls {
    pub(crate) fn of(rule: &HostRule) -> Self {
        Self {
            insecure: rule.insecure,
            extra_roots: rule.extra_roots.clone(),
            identity: rule.identity.clone(),
            made: OnceCell::new(),
        }
    }

    /// Settings made elsewhere.
    pub(crate) fn given(config: Arc<ClientConfig>) -> Self {
        Self {
            made: OnceCell::new_with(Some(config)),
            ..Self::default()
        }
    }

    /// True if both would make the same connection.
    pub(crate) fn same_settings(&self, other: &Self) -> bool {
        let identity = |tls: &Self| tls.identity.as_ref().map(|identity| identity.chain.clone());
        self.insecure == other.insecure && self.extra_roots == other.extra_roots && identity(self) == identity(other)
    }

    /// Finds certificates and keys that would fail later.
    pub(crate) fn check(&self) -> Result<(), rustls::Error> {
        let mut roots = RootCertStore::empty();
        self.add_extra_roots(&mut roots)?;
        self.make(roots).map(drop)
    }

    /// The settings, with the system's roots loaded if they matter.
    pub(crate) async fn get(&self, system: &SystemRoots) -> Result<Arc<ClientConfig>, TlsError> {
        let make = || async {
            let mut roots = RootCertStore::empty();
            if !self.insecure {
                match system.get().await {
                    Ok(system) => roots.extend(system.roots.iter().cloned()),
                    Err(TlsError::NoRoots) if !self.extra_roots.is_empty() => {}
                    Err(error) => return Err(error),
                }
            }
            self.add_extra_roots(&mut roots)?;
            Ok(Arc::new(self.make(roots)?))
        };
        self.made.get_or_try_init(make).await.cloned()
    }

    fn add_extra_roots(&self, roots: &mut RootCertStore) -> Result<(), rustls::Error> {
        self.extra_roots.iter().try_for_each(|root| roots.add(root.clone()))
    }

    fn make(&self, roots: RootCertStore) -> Result<ClientConfig, rustls::Error> {
        let provider = Arc::new(ring::default_provider());
        let builder =
            ClientConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions()?;
        let builder = if self.insecure {
            builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(AnyCertificate { provider }))
        } else {
            builder.with_root_certificates(roots)
        };
        let mut config = match &self.identity {
            Some(identity) => builder.with_client_auth_cert(identity.chain.clone(), identity.key.clone_key())?,
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config.resumption = Resumption::in_memory_sessions(SESSIONS_MAX);
        Ok(config)
    }
}

/// Believes any certificate, for hosts configured `insecure`.
#[derive(Debug)]
struct AnyCertificate {
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for AnyCertificate {
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
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
