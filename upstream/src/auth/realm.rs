//! Which token server may see a registry's credentials.
//!
//! Pure. A registry names its token server in the challenge, so a challenge that someone else wrote could ask for our
//! password. A realm is trusted if it is the registry's own host, or by https in its registrable domain, or a known
//! pair, or configured. The registrable domain is told by rules of thumb that err on the strict side (`realms` lifts
//! them), not by the public suffix list: half a megabyte for a second line of defence.

use crate::address::parse_literal;
use crate::origin::Origin;

/// Registries whose token server is in another domain. A leading dot means the hosts below.
const KNOWN_PAIRS: [(&str, &str); 2] = [("nvcr.io", "authn.nvidia.com"), (".scw.cloud", "api.scaleway.com")];

/// Second labels under which countries let people register domains.
const COUNTRY_SECOND_LABELS: [&str; 18] = [
    "ac", "co", "com", "edu", "gob", "gouv", "gov", "go", "id", "info", "mil", "ne", "net", "nom", "or", "org", "sch",
    "web",
];

/// Domains below which each name belongs to someone else.
const SHARED_DOMAINS: [&str; 17] = [
    "amazonaws.com",
    "azurecr.io",
    "azurewebsites.net",
    "azure.com",
    "windows.net",
    "cloudfront.net",
    "fly.dev",
    "github.io",
    "gitlab.io",
    "herokuapp.com",
    "jfrog.io",
    "netlify.app",
    "pages.dev",
    "pkg.dev",
    "run.app",
    "vercel.app",
    "workers.dev",
];

/// True if credentials for `registry` may be sent to the token server at `realm`.
pub(super) fn may_see_credentials(registry: &Origin, realm: &Origin, configured: &[String]) -> bool {
    let no_downgrade = realm.is_https() || !registry.is_https();
    if realm.host() == registry.host() || configured.iter().any(|host| host.eq_ignore_ascii_case(realm.host())) {
        return no_downgrade;
    }
    realm.is_https() && (same_domain(registry.host(), realm.host()) || known_pair(registry.host(), realm.host()))
}

fn known_pair(registry: &str, realm: &str) -> bool {
    KNOWN_PAIRS.iter().any(|(left, right)| {
        let registry_matches = if left.starts_with('.') {
            registry.ends_with(left)
        } else {
            registry == *left
        };
        registry_matches && realm == *right
    })
}

fn same_domain(a: &str, b: &str) -> bool {
    match (registrable_domain(a), registrable_domain(b)) {
        (Some(a), Some(b)) => a == b,
        _ => false,
    }
}

/// The part of a host that someone registered: `docker.io` of `auth.docker.io`.
fn registrable_domain(host: &str) -> Option<&str> {
    if parse_literal(host).is_some() {
        return None;
    }
    let mut dots = host.rmatch_indices('.').map(|(index, _)| index);
    let last = dots.next()?;
    let country = host.len() - last == 3;
    let second = dots.next();
    let two_labels = second.map_or(host, |dot| &host[dot + 1..]);
    let second_label = two_labels.split('.').next().unwrap_or_default();
    let shared = SHARED_DOMAINS.contains(&two_labels) || (country && COUNTRY_SECOND_LABELS.contains(&second_label));
    if !shared {
        return Some(two_labels);
    }
    second?;
    Some(dots.next().map_or(host, |dot| &host[dot + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trusted(registry: &str, realm: &str) -> bool {
        let origin = |text: &str| Origin::of(&text.parse().unwrap()).unwrap();
        may_see_credentials(&origin(registry), &origin(realm), &["auth.partner.example".to_owned()])
    }

    #[test]
    fn token_servers_of_real_registries_are_trusted() {
        let table = [
            ("https://registry-1.docker.io", "https://auth.docker.io"),
            ("https://registry.gitlab.com", "https://gitlab.com"),
            ("https://nvcr.io", "https://authn.nvidia.com"),
            ("https://registry.freedesktop.org", "https://gitlab.freedesktop.org"),
            ("https://rg.fr-par.scw.cloud", "https://api.scaleway.com"),
            ("https://ghcr.io", "https://ghcr.io"),
            ("https://quay.io:443", "https://quay.io:8443"),
            ("https://me.azurecr.io", "https://me.azurecr.io"),
            ("http://127.0.0.1:5000", "http://127.0.0.1:5001"),
            ("http://reg.corp", "https://auth.reg.corp"),
            ("https://reg.example.co.uk", "https://auth.example.co.uk"),
            ("https://reg.example", "https://auth.partner.example"),
        ];
        for (registry, realm) in table {
            assert!(trusted(registry, realm), "{registry} {realm}");
        }
    }

    #[test]
    fn strangers_and_plain_http_are_not() {
        let table = [
            ("https://registry-1.docker.io", "https://auth.docker.io.evil.example"),
            ("https://registry-1.docker.io", "https://evil.example"),
            ("https://registry-1.docker.io", "http://auth.docker.io"),
            ("https://quay.io", "http://quay.io"),
            ("https://reg.example.co.uk", "https://evil.co.uk"),
            ("https://me.azurecr.io", "https://evil.azurecr.io"),
            ("https://10.0.0.1", "https://10.0.0.2"),
            ("http://127.0.0.1:5000", "http://localhost:5001"),
            ("https://a.example", "https://evilexample"),
            ("https://reg.example", "http://auth.partner.example"),
        ];
        for (registry, realm) in table {
            assert!(!trusted(registry, realm), "{registry} {realm}");
        }
    }
}
