//! The private authority of one cluster of `kuik up`, and a certificate for each of its parts.
//!
//! The authority is made once and kept; the parts' certificates are made anew at each start, which costs
//! milliseconds and means that none is ever about to end. They are good for loopback names only.

use std::io;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};

use crate::children::TlsSection;
use crate::data_dir::{DataDirError, io_error, write_secret, write_whole};

/// Longer than anyone keeps a cluster on one machine.
const AUTHORITY_YEARS: i32 = 30;
/// Longer than `kuik up` runs without a restart.
const LEAF_YEARS: i32 = 5;
const SECONDS_PER_YEAR: u64 = 31_556_952;

/// Where the parts reach each other.
const LEAF_NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// Why there are no certificates.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CertificateError {
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    #[error("the authority in {path} is damaged: remove that directory, and new certificates are made")]
    Authority { path: String, source: rcgen::Error },
    #[error("make a certificate")]
    Make(#[from] rcgen::Error),
}

/// Signs certificates for the parts of one cluster. Files are below one directory, keys for the owner only.
pub(crate) struct Authority<'dir> {
    dir: &'dir Path,
    issuer: Issuer<'static, KeyPair>,
}

impl<'dir> Authority<'dir> {
    /// The authority kept in `dir`, or a new one.
    pub(crate) fn open(dir: &'dir Path) -> Result<Self, CertificateError> {
        let files = read_if_there(&dir.join("ca.pem"))?.zip(read_if_there(&dir.join("ca-key.pem"))?);
        let issuer = match files {
            Some((certificate, key)) => parse(dir, &certificate, &key)?,
            None => Self::make(dir)?,
        };
        Ok(Self { dir, issuer })
    }

    /// Makes a certificate for the part called `name`, for use as server and as client.
    pub(crate) fn issue(&self, name: &str) -> Result<TlsSection, CertificateError> {
        let names = LEAF_NAMES.into_iter().chain([name]).map(str::to_owned);
        let mut params = CertificateParams::new(names.collect::<Vec<_>>())?;
        params.distinguished_name.push(DnType::CommonName, name);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        valid_for(&mut params, LEAF_YEARS);
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        let section = TlsSection {
            ca: self.dir.join("ca.pem"),
            cert: self.dir.join(format!("{name}.pem")),
            key: self.dir.join(format!("{name}-key.pem")),
        };
        write_secret(&section.key, &key.serialize_pem())?;
        write_whole(&section.cert, &certificate.pem())?;
        Ok(section)
    }

    fn make(dir: &Path) -> Result<Issuer<'static, KeyPair>, CertificateError> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(DnType::CommonName, "kuik up");
        valid_for(&mut params, AUTHORITY_YEARS);
        let key = KeyPair::generate()?;
        let key_pem = key.serialize_pem();
        let issuer = CertifiedIssuer::self_signed(params, key)?;
        // The certificate last: with both files there, the authority is whole.
        write_secret(&dir.join("ca-key.pem"), &key_pem)?;
        write_whole(&dir.join("ca.pem"), &issuer.pem())?;
        parse(dir, &issuer.pem(), &key_pem)
    }
}

fn parse(dir: &Path, certificate: &str, key: &str) -> Result<Issuer<'static, KeyPair>, CertificateError> {
    let issuer = KeyPair::from_pem(key).and_then(|key| Issuer::from_ca_cert_pem(certificate, key));
    issuer.map_err(|source| CertificateError::Authority {
        path: dir.display().to_string(),
        source,
    })
}

fn valid_for(params: &mut CertificateParams, years: i32) {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let year = 1970 + i32::try_from(since_1970.as_secs() / SECONDS_PER_YEAR).unwrap_or(0);
    // A year early, for clocks that are wrong.
    params.not_before = date_time_ymd(year - 1, 1, 1);
    params.not_after = date_time_ymd(year + years, 12, 31);
}

fn read_if_there(path: &Path) -> Result<Option<String>, CertificateError> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(io_error("read", path, source).into()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use daemon::tls::{Tls, TlsFiles};

    use super::*;

    fn load(section: &TlsSection) -> Tls {
        let section = section.clone();
        let files = TlsFiles {
            ca: section.ca,
            cert: section.cert,
            key: section.key,
        };
        Tls::load(files).unwrap()
    }

    #[test]
    fn children_can_load_what_is_issued_and_keys_are_secret() {
        let dir = tempfile::tempdir().unwrap();
        let section = Authority::open(dir.path()).unwrap().issue("node-0").unwrap();
        load(&section);
        for secret in [&section.key, &dir.path().join("ca-key.pem")] {
            let mode = std::fs::metadata(secret).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{}", secret.display());
        }
    }

    #[test]
    fn authority_is_kept_between_runs() {
        let dir = tempfile::tempdir().unwrap();
        let first = load(&Authority::open(dir.path()).unwrap().issue("node-0").unwrap()).pem();
        let second = load(&Authority::open(dir.path()).unwrap().issue("node-0").unwrap()).pem();
        assert!(first.ca == second.ca);
        assert!(first.cert != second.cert);
    }

    #[test]
    fn damaged_authority_is_named() {
        let dir = tempfile::tempdir().unwrap();
        Authority::open(dir.path()).unwrap();
        std::fs::write(dir.path().join("ca-key.pem"), "x").unwrap();
        let error = Authority::open(dir.path()).err().unwrap().to_string();
        assert!(error.contains(&dir.path().display().to_string()), "{error}");
    }
}
