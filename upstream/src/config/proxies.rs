//! `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY`: which requests go through a proxy.
//!
//! Pure but for reading the environment in one place. Loopback destinations never go through a proxy, as in Go.

use std::net::IpAddr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderValue, Uri};
use percent_encoding::percent_decode_str;

use crate::address::{is_localhost, parse_literal};
use crate::origin::Origin;

/// The proxies of this process.
#[derive(Clone, Debug, Default)]
pub struct ProxyRules {
    http: Option<HttpProxy>,
    https: Option<HttpProxy>,
    except: Vec<Exception>,
}

/// A proxy that speaks HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HttpProxy {
    /// Where it is.
    pub(crate) uri: Uri,
    /// `Proxy-Authorization`, if its URL has a user.
    pub(crate) authorization: Option<HeaderValue>,
}

/// A proxy variable that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{variable} must be an http:// URL (proxies spoken to by https or socks are not supported)")]
pub struct ProxyError {
    variable: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Exception {
    All,
    Network { address: IpAddr, bits: u32 },
    Domain { suffix: String, port: Option<u16> },
}

impl ProxyRules {
    /// Reads the environment: lower case wins over upper case, as for curl.
    ///
    /// # Errors
    /// [`ProxyError`] names the variable.
    pub fn from_environment() -> Result<Self, ProxyError> {
        let read = |names: [&str; 2]| {
            let values = names.into_iter().filter_map(|name| std::env::var(name).ok());
            values
                .map(|value| value.trim().to_owned())
                .find(|value| !value.is_empty())
        };
        let all = read(["all_proxy", "ALL_PROXY"]);
        let http = read(["http_proxy", "HTTP_PROXY"]).or_else(|| all.clone());
        let https = read(["https_proxy", "HTTPS_PROXY"]).or(all);
        let except = read(["no_proxy", "NO_PROXY"]);
        Self::new(http.as_deref(), https.as_deref(), except.as_deref().unwrap_or_default())
    }

    /// The proxy for `http://` and for `https://` destinations, and what goes direct (as `NO_PROXY` is written).
    ///
    /// # Errors
    /// [`ProxyError`] names the variable.
    pub fn new(http: Option<&str>, https: Option<&str>, except: &str) -> Result<Self, ProxyError> {
        let parse = |variable, text: Option<&str>| match text {
            Some(text) => parse_proxy(text).map(Some).ok_or(ProxyError { variable }),
            None => Ok(None),
        };
        Ok(Self {
            http: parse("HTTP_PROXY", http)?,
            https: parse("HTTPS_PROXY", https)?,
            except: except.split([',', ' ']).filter_map(parse_exception).collect(),
        })
    }

    /// The proxy to go through, or nothing to go direct.
    pub(crate) fn proxy_for(&self, origin: &Origin) -> Option<&HttpProxy> {
        let proxy = if origin.is_https() {
            self.https.as_ref()
        } else {
            self.http.as_ref()
        }?;
        let address = parse_literal(origin.host());
        let local = is_localhost(origin.host()) || address.is_some_and(|address| address.is_loopback());
        let direct = local || self.except.iter().any(|exception| exception.covers(origin, address));
        (!direct).then_some(proxy)
    }
}

impl Exception {
    fn covers(&self, origin: &Origin, address: Option<IpAddr>) -> bool {
        match self {
            Self::All => true,
            Self::Network { address: network, bits } => address.is_some_and(|a| same_network(a, *network, *bits)),
            Self::Domain { suffix, port } => {
                let below = origin.host().strip_suffix(suffix.as_str());
                let matches = below.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
                matches && port.is_none_or(|port| port == origin.port())
            }
        }
    }
}

fn parse_proxy(text: &str) -> Option<HttpProxy> {
    let with_scheme = if text.contains("://") {
        text.to_owned()
    } else {
        format!("http://{text}")
    };
    let uri: Uri = with_scheme.parse().ok()?;
    let origin = Origin::of(&uri).filter(|origin| !origin.is_https())?;
    let user = uri.authority()?.as_str().rsplit_once('@').map(|(user, _)| user);
    let authorization = match user {
        Some(user) => {
            let decoded: Vec<u8> = percent_decode_str(user).collect();
            let mut value = HeaderValue::from_str(&format!("Basic {}", STANDARD.encode(decoded))).ok()?;
            value.set_sensitive(true);
            Some(value)
        }
        None => None,
    };
    Some(HttpProxy {
        uri: format!("{origin}/").parse().ok()?,
        authorization,
    })
}

fn parse_exception(text: &str) -> Option<Exception> {
    let text = text.trim().to_ascii_lowercase();
    if text.is_empty() {
        return None;
    }
    if text == "*" {
        return Some(Exception::All);
    }
    if let Some((address, bits)) = text.split_once('/') {
        return Some(Exception::Network {
            address: address.parse().ok()?,
            bits: bits.parse().ok()?,
        });
    }
    if let Some(address) = parse_literal(&text) {
        return Some(Exception::Network { address, bits: 128 });
    }
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) => (host, Some(port.parse().ok()?)),
        None => (text.as_str(), None),
    };
    let suffix = host.trim_start_matches('*').trim_start_matches('.').to_owned();
    Some(Exception::Domain { suffix, port })
}

fn same_network(a: IpAddr, b: IpAddr, bits: u32) -> bool {
    match (a, b) {
        (IpAddr::V4(a), IpAddr::V4(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros() >= bits.min(32),
        (IpAddr::V6(a), IpAddr::V6(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros() >= bits.min(128),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn through(rules: &ProxyRules, uri: &str) -> bool {
        rules.proxy_for(&Origin::of(&uri.parse().unwrap()).unwrap()).is_some()
    }

    #[test]
    fn no_proxy_entries_go_direct() {
        let except = "corp.example, .internal,10.0.0.0/8,192.168.1.7,[fd00::1],reg.example:5000";
        let rules = ProxyRules::new(Some("http://p:3128"), Some("p:3128"), except).unwrap();
        let direct = [
            "https://corp.example/",
            "https://a.corp.example/",
            "https://a.internal/",
            "http://10.1.2.3/",
            "http://192.168.1.7/",
            "http://[fd00::1]/",
            "https://reg.example:5000/",
            "http://localhost:5000/",
            "http://127.0.0.1/",
        ];
        for uri in direct {
            assert!(!through(&rules, uri), "{uri}");
        }
        for uri in [
            "https://quay.io/",
            "https://notcorp.example/",
            "http://192.168.1.8/",
            "https://reg.example/",
        ] {
            assert!(through(&rules, uri), "{uri}");
        }
        assert!(!through(
            &ProxyRules::new(Some("p"), Some("p"), "*").unwrap(),
            "https://quay.io/"
        ));
    }

    #[test]
    fn each_scheme_has_its_own_proxy_and_user() {
        let rules = ProxyRules::new(None, Some("http://us%40er:pw@proxy.example:3128"), "").unwrap();
        assert!(!through(&rules, "http://quay.io/"));
        let proxy = rules.https.unwrap();
        assert_eq!(proxy.uri, "http://proxy.example:3128/");
        assert_eq!(
            proxy.authorization.unwrap(),
            format!("Basic {}", STANDARD.encode("us@er:pw"))
        );
    }

    #[test]
    fn proxies_we_cannot_speak_to_are_named() {
        for proxy in ["socks5://p:1080", "https://p:3128", "http://"] {
            let error = ProxyRules::new(None, Some(proxy), "").unwrap_err();
            assert!(error.to_string().contains("HTTPS_PROXY"), "{error}");
        }
    }
}
