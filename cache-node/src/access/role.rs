//! Which part of kuik shows a certificate: it says so itself, by a name only the tier's authority hands out.

use proto::access::Role;
use rustls::client::verify_server_name;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::ParsedCertificate;

/// The role in a certificate that was verified already; nothing if it names none.
pub fn role_of(certificate: &CertificateDer<'_>) -> Option<Role> {
    let parsed = ParsedCertificate::try_from(certificate).ok()?;
    Role::ALL
        .into_iter()
        .find(|role| ServerName::try_from(role.dns_name()).is_ok_and(|name| verify_server_name(&parsed, &name).is_ok()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate(names: &[&str]) -> CertificateDer<'static> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        rcgen::generate_simple_self_signed(names).unwrap().cert.der().clone()
    }

    #[test]
    fn a_role_is_the_name_in_the_certificate() {
        for role in Role::ALL {
            assert_eq!(role_of(&certificate(&["a.example", role.dns_name()])), Some(role));
        }
        assert_eq!(role_of(&certificate(&["a.example", "proxy.example"])), None);
        assert_eq!(role_of(&CertificateDer::from(vec![1, 2, 3])), None);
    }
}
