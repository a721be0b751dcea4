//! A private authority and certificates signed by it, in files.

use std::path::{Path, PathBuf};

use daemon::tls::TlsFiles;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

pub struct Authority(CertifiedIssuer<'static, KeyPair>);

pub struct Pem {
    pub cert: String,
    pub key: String,
}

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub fn pem(&self) -> String {
        self.0.pem()
    }

    pub fn issue(&self, role: &str) -> Pem {
        let names = ["localhost", "127.0.0.1", role].map(str::to_owned);
        let key = KeyPair::generate().unwrap();
        let cert = CertificateParams::new(names.to_vec())
            .unwrap()
            .signed_by(&key, &self.0)
            .unwrap();
        Pem {
            cert: cert.pem(),
            key: key.serialize_pem(),
        }
    }

    /// Writes `ca.crt`, `tls.crt` and `tls.key`, as a Secret is mounted.
    pub fn write(&self, dir: &Path, role: &str) {
        let files = files_in(dir);
        let leaf = self.issue(role);
        std::fs::write(files.ca, self.pem()).unwrap();
        std::fs::write(files.key, leaf.key).unwrap();
        std::fs::write(files.cert, leaf.cert).unwrap();
    }
}

pub fn files_in(dir: &Path) -> TlsFiles {
    let file = |name: &str| -> PathBuf { dir.join(name) };
    TlsFiles {
        ca: file("ca.crt"),
        cert: file("tls.crt"),
        key: file("tls.key"),
    }
}
