//! Mutual TLS between the parts of the cache, from three PEM files that may be replaced at any time.
//!
//! Both sides show a certificate of one private authority; whoever cannot is refused. TLS 1.3 only, with ring.
//! Its configurations look at each handshake for what was loaded last, so a renewed certificate (or authority) is in
//! use within [`RELOAD_INTERVAL`], without a restart and without touching connections that are open.

mod live;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use live::Live;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::{CryptoProvider, ring};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde::Deserialize;

use crate::task::TaskSet;

/// How soon a replaced file is noticed. Certificates are renewed days before they end.
pub const RELOAD_INTERVAL: Duration = Duration::from_secs(30);

/// A certificate chain or key is a few kilobytes; a larger file is a mistake.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Where the certificates are, as the `[tls]` section of a configuration says.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsFiles {
    /// PEM certificates of the authorities whose word is taken.
    pub ca: PathBuf,
    /// PEM certificate chain of this process, its own certificate first.
    pub cert: PathBuf,
    /// PEM private key of that certificate.
    pub key: PathBuf,
}

/// Why TLS cannot be set up. Each names the file to look at.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The file cannot be read.
    #[error("read TLS file {}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The file holds no PEM section of the kind that belongs there, or a damaged one.
    #[error("TLS file {} holds no valid PEM {wanted}", path.display())]
    Pem {
        /// Which file.
        path: PathBuf,
        /// "certificate" or "private key".
        wanted: &'static str,
    },
    /// The certificates cannot serve as authorities.
    #[error("TLS file {} is no certificate authority", path.display())]
    Authority {
        /// Which file.
        path: PathBuf,
        /// What rustls or webpki said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Certificate and key do not belong together, or are of a kind that is not supported.
    #[error("TLS files {} and {} do not fit together", cert.display(), key.display())]
    Identity {
        /// The certificate's file.
        cert: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// What rustls said.
        source: rustls::Error,
    },
}

/// What is spoken inside the connection; both sides must agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Blobs and manifests.
    Http1,
    /// gRPC.
    Http2,
}

/// The bytes of the three files, for libraries that make their own TLS configuration from PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct TlsPem {
    /// Authorities.
    pub ca: Vec<u8>,
    /// Certificate chain.
    pub cert: Vec<u8>,
    /// Private key.
    pub key: Vec<u8>,
}

/// This process's identity and whom it trusts. Clones share it, reloads included.
#[derive(Clone)]
pub struct Tls {
    files: Arc<TlsFiles>,
    loaded: Arc<ArcSwap<Loaded>>,
    server: [Arc<ServerConfig>; 2],
    client: [Arc<ClientConfig>; 2],
}

/// The files, and what they mean to rustls.
struct Loaded {
    pem: TlsPem,
    identity: Arc<CertifiedKey>,
    servers: Arc<dyn ServerCertVerifier>,
    clients: Arc<dyn ClientCertVerifier>,
}

impl Tls {
    /// Reads the files and checks that they fit together.
    ///
    /// # Errors
    /// [`TlsError`], naming the file that is wrong.
    pub fn load(files: TlsFiles) -> Result<Self, TlsError> {
        let loaded = Loaded::from_pem(TlsPem::read(&files)?, &files)?;
        let loaded = Arc::new(ArcSwap::from_pointee(loaded));
        let live = Arc::new(Live(Arc::clone(&loaded)));
        let server = server_config(&live).map_err(|source| identity_error(&files, source))?;
        let client = client_config(&live).map_err(|source| identity_error(&files, source))?;
        Ok(Self {
            files: Arc::new(files),
            loaded,
            server: ALPN.map(|alpn| {
                let mut server = server.clone();
                server.alpn_protocols = vec![alpn.to_vec()];
                Arc::new(server)
            }),
            client: ALPN.map(|alpn| {
                let mut client = client.clone();
                client.alpn_protocols = vec![alpn.to_vec()];
                Arc::new(client)
            }),
        })
    }

    /// What a listener uses: clients without a certificate of the authority are refused. Follows reloads.
    pub fn server_config(&self, protocol: Protocol) -> Arc<ServerConfig> {
        Arc::clone(&self.server[protocol as usize])
    }

    /// What a client uses: shows this process's certificate and checks the server's. Follows reloads.
    pub fn client_config(&self, protocol: Protocol) -> Arc<ClientConfig> {
        Arc::clone(&self.client[protocol as usize])
    }

    /// The files' bytes as they were last loaded. A copy does not see later reloads.
    pub fn pem(&self) -> TlsPem {
        self.loaded.load().pem.clone()
    }

    /// Reads the files again and says whether they had changed. On an error the old ones stay in use.
    ///
    /// # Errors
    /// [`TlsError`]; a rotation caught halfway is one, and over at the next call.
    pub fn reload(&self) -> Result<bool, TlsError> {
        let pem = TlsPem::read(&self.files)?;
        if pem == self.loaded.load().pem {
            return Ok(false);
        }
        let loaded = Loaded::from_pem(pem, &self.files)?;
        self.loaded.store(Arc::new(loaded));
        Ok(true)
    }

    /// Reloads every [`RELOAD_INTERVAL`] until `tasks` stop.
    pub fn start_reload(&self, tasks: &TaskSet) {
        let (tls, stop) = (self.clone(), tasks.stop_token());
        tasks.spawn("tls-reload", async move {
            stop.run_until_cancelled_owned(tls.keep_reloading()).await;
        });
    }

    async fn keep_reloading(self) {
        loop {
            tokio::time::sleep(RELOAD_INTERVAL).await;
            let tls = self.clone();
            match tokio::task::spawn_blocking(move || tls.reload()).await {
                Ok(Ok(false)) => {}
                Ok(Ok(true)) => tracing::info!("TLS certificates reloaded"),
                Ok(Err(error)) => {
                    let error = crate::runtime::one_line(&error);
                    tracing::warn!(error, "TLS certificates not reloaded, the old ones stay");
                }
                Err(error) => tracing::error!(%error, "TLS reload failed"),
            }
        }
    }
}

impl TlsPem {
    fn read(files: &TlsFiles) -> Result<Self, TlsError> {
        Ok(Self {
            ca: read(&files.ca)?,
            cert: read(&files.cert)?,
            key: read(&files.key)?,
        })
    }
}

impl Loaded {
    fn from_pem(pem: TlsPem, files: &TlsFiles) -> Result<Self, TlsError> {
        let provider = Arc::new(provider());
        let roots = Arc::new(roots(&pem, files)?);
        let clients = WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider))
            .build()
            .map_err(|error| authority_error(files, error))?;
        let servers = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider))
            .build()
            .map_err(|error| authority_error(files, error))?;
        let (chain, key) = identity(&pem, files)?;
        let identity = CertifiedKey::from_der(chain, key, &provider).map_err(|source| identity_error(files, source))?;
        Ok(Self {
            pem,
            identity: Arc::new(identity),
            servers,
            clients,
        })
    }
}

/// In the order of [`Protocol`].
const ALPN: [&[u8]; 2] = [b"http/1.1", b"h2"];

/// ring, with AES-128 first: blob bytes cross these links, and it costs a fifth less than AES-256.
fn provider() -> CryptoProvider {
    use ring::cipher_suite::{TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384, TLS13_CHACHA20_POLY1305_SHA256};
    CryptoProvider {
        cipher_suites: vec![
            TLS13_AES_128_GCM_SHA256,
            TLS13_AES_256_GCM_SHA384,
            TLS13_CHACHA20_POLY1305_SHA256,
        ],
        ..ring::default_provider()
    }
}

fn server_config(live: &Arc<Live>) -> Result<ServerConfig, rustls::Error> {
    let clients: Arc<dyn ClientCertVerifier> = Arc::<Live>::clone(live);
    let builder = ServerConfig::builder_with_provider(Arc::new(provider()));
    let builder = builder.with_protocol_versions(&[&rustls::version::TLS13])?;
    let builder = builder.with_client_cert_verifier(clients);
    Ok(builder.with_cert_resolver(Arc::<Live>::clone(live)))
}

fn client_config(live: &Arc<Live>) -> Result<ClientConfig, rustls::Error> {
    let servers: Arc<dyn ServerCertVerifier> = Arc::<Live>::clone(live);
    let builder = ClientConfig::builder_with_provider(Arc::new(provider()));
    let builder = builder.with_protocol_versions(&[&rustls::version::TLS13])?;
    let builder = builder.dangerous().with_custom_certificate_verifier(servers);
    Ok(builder.with_client_cert_resolver(Arc::<Live>::clone(live)))
}

fn roots(pem: &TlsPem, files: &TlsFiles) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(&pem.ca, &files.ca)? {
        let added = roots.add(certificate);
        added.map_err(|error| authority_error(files, error))?;
    }
    Ok(roots)
}

fn identity(
    pem: &TlsPem,
    files: &TlsFiles,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), TlsError> {
    let chain = certificates(&pem.cert, &files.cert)?;
    let key = PrivateKeyDer::from_pem_slice(&pem.key);
    let key = key.map_err(|_not_pem| pem_error(&files.key, "private key"))?;
    Ok((chain, key))
}

fn certificates(pem: &[u8], path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) | Err(_) => Err(pem_error(path, "certificate")),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    let bytes = std::fs::metadata(path).and_then(|metadata| {
        if metadata.len() > FILE_BYTES_MAX {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        std::fs::read(path)
    });
    bytes.map_err(|source| TlsError::Read {
        path: path.to_owned(),
        source,
    })
}

fn pem_error(path: &Path, wanted: &'static str) -> TlsError {
    let path = path.to_owned();
    TlsError::Pem { path, wanted }
}

fn authority_error(files: &TlsFiles, source: impl std::error::Error + Send + Sync + 'static) -> TlsError {
    TlsError::Authority {
        path: files.ca.clone(),
        source: Box::new(source),
    }
}

fn identity_error(files: &TlsFiles, source: rustls::Error) -> TlsError {
    TlsError::Identity {
        cert: files.cert.clone(),
        key: files.key.clone(),
        source,
    }
}

#[cfg(test)]
mod tests;
