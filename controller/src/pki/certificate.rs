//! One certificate with its key, made by rcgen and read back by x509-parser.

use std::time::Duration;

use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use x509_parser::extensions::GeneralName;
use x509_parser::pem::Pem;

/// Clocks of machines differ; a certificate is valid from a moment ago.
const CLOCK_SKEW: Duration = Duration::from_secs(60 * 60);
/// Ten years, renewed after two thirds.
const AUTHORITY_LIFE: Duration = Duration::from_secs(3650 * 24 * 60 * 60);
/// A year, renewed after two thirds: a controller may be away for four months.
const LEAF_LIFE: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Why a certificate cannot be made or read.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// rcgen refused.
    #[error("make certificate for {name}")]
    Make {
        /// Its subject.
        name: String,
        /// What rcgen said.
        source: rcgen::Error,
    },
    /// Not PEM, not a certificate, or one without a valid time.
    #[error("certificate in secret {secret} cannot be read")]
    Read {
        /// Where it stands.
        secret: String,
    },
}

/// PEM texts of a certificate and its key.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Pair {
    pub(crate) cert: String,
    pub(crate) key: String,
}

impl std::fmt::Debug for Pair {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Pair").field("key", &"hidden").finish_non_exhaustive()
    }
}

/// What a certificate says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) subject: String,
    pub(crate) issuer: String,
    pub(crate) names: Vec<String>,
    pub(crate) begin: Timestamp,
    pub(crate) end: Timestamp,
}

impl Facts {
    /// Reads the first certificate of a PEM text.
    pub(crate) fn read(pem: &str) -> Option<Self> {
        let pem = Pem::iter_from_buffer(pem.as_bytes()).next()?.ok()?;
        let certificate = pem.parse_x509().ok()?;
        let validity = certificate.validity();
        let names = certificate.subject_alternative_name().ok()?.map(|extension| {
            let names = extension.value.general_names.iter();
            let dns = names.filter_map(|name| match name {
                GeneralName::DNSName(name) => Some((*name).to_owned()),
                _ => None,
            });
            dns.collect()
        });
        Some(Self {
            subject: certificate.subject().to_string(),
            issuer: certificate.issuer().to_string(),
            names: names.unwrap_or_default(),
            begin: Timestamp::from_second(validity.not_before.timestamp()).ok()?,
            end: Timestamp::from_second(validity.not_after.timestamp()).ok()?,
        })
    }

    /// When two thirds of its life are over.
    pub(crate) fn renew_at(&self) -> Timestamp {
        let life = self.end.as_second() - self.begin.as_second();
        Timestamp::from_second(self.begin.as_second() + life / 3 * 2).unwrap_or(self.begin)
    }
}

/// Makes an authority with a name of its own, so that its certificates can be told from those of another.
pub(crate) fn make_authority(now: Timestamp) -> Result<Pair, CertificateError> {
    let key = make_key("authority")?;
    let id: String = ring::digest::digest(&ring::digest::SHA256, key.public_key_raw()).as_ref()[..8]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let name = format!("kube-image-keeper authority {id}");
    let mut params = params(&name, &[], now, AUTHORITY_LIFE)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let made = params
        .self_signed(&key)
        .map_err(|source| CertificateError::Make { name, source })?;
    Ok(Pair {
        cert: made.pem(),
        key: key.serialize_pem(),
    })
}

/// Makes a certificate for a server and client of these DNS names, signed by `authority`.
pub(crate) fn make_leaf(
    name: &str,
    names: &[String],
    authority: &Pair,
    now: Timestamp,
) -> Result<Pair, CertificateError> {
    let failed = |source| CertificateError::Make {
        name: name.to_owned(),
        source,
    };
    let signing = KeyPair::from_pem(&authority.key).map_err(failed)?;
    let issuer = Issuer::from_ca_cert_pem(&authority.cert, signing).map_err(failed)?;
    let key = make_key(name)?;
    let mut params = params(name, names, now, LEAF_LIFE)?;
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let made = params.signed_by(&key, &issuer).map_err(failed)?;
    Ok(Pair {
        cert: made.pem(),
        key: key.serialize_pem(),
    })
}

fn make_key(name: &str) -> Result<KeyPair, CertificateError> {
    KeyPair::generate().map_err(|source| CertificateError::Make {
        name: name.to_owned(),
        source,
    })
}

fn params(name: &str, names: &[String], now: Timestamp, life: Duration) -> Result<CertificateParams, CertificateError> {
    let made = CertificateParams::new(names);
    let mut params = made.map_err(|source| CertificateError::Make {
        name: name.to_owned(),
        source,
    })?;
    params.distinguished_name.remove(DnType::CommonName);
    params.distinguished_name.push(DnType::CommonName, name);
    let begin = std::time::SystemTime::from(now) - CLOCK_SKEW;
    params.not_before = begin.into();
    params.not_after = (begin + life).into();
    Ok(params)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-11-23T00:00:00Z".parse().unwrap()
    }

    #[test]
    fn what_was_made_reads_back() {
        let authority = make_authority(now()).unwrap();
        let names = ["webhook.kuik.internal".to_owned(), "f-webhook.kuik.svc".to_owned()];
        let leaf = make_leaf("f-webhook", &names, &authority, now()).unwrap();
        let (ca, leaf) = (Facts::read(&authority.cert).unwrap(), Facts::read(&leaf.cert).unwrap());
        assert_eq!(leaf.issuer, ca.subject);
        assert_eq!(leaf.names, names);
        assert!(leaf.begin < now() && now() < leaf.renew_at() && leaf.renew_at() < leaf.end);
        assert_eq!(leaf.end.as_second() - leaf.begin.as_second(), 365 * 24 * 3600);
    }

    #[test]
    fn two_authorities_have_two_names() {
        let subject = || Facts::read(&make_authority(now()).unwrap().cert).unwrap().subject;
        assert_ne!(subject(), subject());
    }

    #[test]
    fn keys_are_not_shown() {
        let authority = make_authority(now()).unwrap();
        assert!(!format!("{authority:?}").contains("PRIVATE"));
    }

    #[test]
    fn damaged_certificates_are_not_read() {
        assert_eq!(Facts::read(""), None);
        assert_eq!(
            Facts::read("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
            None
        );
    }
}
