//! The certificate the API server is shown, from two files that may be replaced, or come late, at any time.
//!
//! A handshake before there is one fails, and the webhook is not ready. A damaged replacement is not used.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use daemon::readiness::Gate;
use daemon::runtime::one_line;
use daemon::task::TaskSet;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde::Deserialize;

/// How soon a replaced file is noticed. Certificates are renewed days before they end.
const RELOAD_INTERVAL: Duration = Duration::from_secs(10);
/// How soon the first certificate is noticed: a pod may start before the controller has made it.
const FIRST_INTERVAL: Duration = Duration::from_secs(1);

/// Where the certificate is.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CertificateFiles {
    /// PEM certificate chain, our own certificate first.
    pub cert: PathBuf,
    /// PEM private key of that certificate.
    pub key: PathBuf,
}

/// Why there is no certificate to show. Each names the file to look at.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ServingError {
    /// The file cannot be read.
    #[error("read serving certificate file {}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file holds no PEM section of the kind that belongs there.
    #[error("serving certificate file {} holds no valid PEM {wanted}", path.display())]
    Pem {
        /// Which file.
        path: PathBuf,
        /// "certificate" or "private key".
        wanted: &'static str,
    },
    /// Certificate and key do not belong together, or are of a kind that is not supported.
    #[error("serving certificate files {} and {} do not fit together", files.cert.display(), files.key.display())]
    Identity {
        /// The files.
        files: CertificateFiles,
        /// What rustls said.
        source: rustls::Error,
    },
}

/// The certificate in use. Clones share it, reloads included.
#[derive(Debug, Clone)]
pub(crate) struct Serving {
    files: Arc<CertificateFiles>,
    loaded: Arc<ArcSwapOption<Loaded>>,
}

#[derive(Debug)]
struct Loaded {
    pem: [Vec<u8>; 2],
    key: Arc<CertifiedKey>,
}

impl Serving {
    /// Reads nothing yet.
    pub(crate) fn new(files: CertificateFiles) -> Self {
        Self {
            files: Arc::new(files),
            loaded: Arc::default(),
        }
    }

    /// Reads the files and says whether they had changed. On an error the old certificate stays in use.
    ///
    /// # Errors
    /// [`ServingError`]; a rotation caught halfway is one, and over at the next call.
    pub(crate) fn reload(&self) -> Result<bool, ServingError> {
        let pem = [read(&self.files.cert)?, read(&self.files.key)?];
        if self.loaded.load().as_ref().is_some_and(|loaded| loaded.pem == pem) {
            return Ok(false);
        }
        let key = Arc::new(certified_key(&pem, &self.files)?);
        self.loaded.store(Some(Arc::new(Loaded { pem, key })));
        Ok(true)
    }

    /// Reloads from time to time until `tasks` stop; opens `gate` at the first certificate.
    pub(crate) fn start_reload(&self, gate: Gate, tasks: &TaskSet) {
        let (serving, stop) = (self.clone(), tasks.stop_token());
        tasks.spawn_critical("serving-certificate", async move {
            stop.run_until_cancelled_owned(serving.keep_reloading(gate)).await;
        });
    }

    /// What the listener uses: no client certificate is asked for, as the API server shows none unless told to.
    ///
    /// # Panics
    /// Never: ring supports the protocol versions.
    pub(crate) fn server_config(&self) -> Arc<ServerConfig> {
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("ring supports TLS 1.2 and 1.3")
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(self.clone()));
        Arc::new(config)
    }

    async fn keep_reloading(self, gate: Gate) {
        let mut last_error = String::new();
        loop {
            match self.reload() {
                Ok(true) => {
                    tracing::info!("serving certificate loaded");
                    gate.open();
                }
                Ok(false) => {}
                Err(error) => {
                    let error = one_line(&error);
                    if error != last_error {
                        tracing::warn!(error, "serving certificate not loaded");
                    }
                    if self.loaded.load().is_none() {
                        gate.close(error.clone());
                    }
                    last_error = error;
                }
            }
            let first = self.loaded.load().is_none();
            tokio::time::sleep(if first { FIRST_INTERVAL } else { RELOAD_INTERVAL }).await;
        }
    }
}

impl ResolvesServerCert for Serving {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let loaded = self.loaded.load();
        loaded.as_ref().map(|loaded| Arc::clone(&loaded.key))
    }
}

fn read(path: &std::path::Path) -> Result<Vec<u8>, ServingError> {
    std::fs::read(path).map_err(|source| ServingError::Read {
        path: path.to_owned(),
        source,
    })
}

fn certified_key(pem: &[Vec<u8>; 2], files: &CertificateFiles) -> Result<CertifiedKey, ServingError> {
    let wrong = |path: &PathBuf, wanted| ServingError::Pem {
        path: path.clone(),
        wanted,
    };
    let [certificates, key] = pem;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(certificates).collect();
    let chain = chain.ok().filter(|chain| !chain.is_empty());
    let chain = chain.ok_or_else(|| wrong(&files.cert, "certificate"))?;
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|_not_pem| wrong(&files.key, "private key"))?;
    let identity = CertifiedKey::from_der(chain, key, &ring::default_provider());
    identity.map_err(|source| ServingError::Identity {
        files: files.clone(),
        source,
    })
}

#[cfg(test)]
mod tests;
