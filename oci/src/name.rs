//! Repository names, tags and source hosts, with the limits of the specification.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Longest repository name in bytes. The specification advises clients that many registries stop at 255
/// for host, colon, port, slash and name together; this is the bound on the name alone.
const NAME_BYTES_MAX: usize = 255;
/// Longest tag in bytes (distribution-spec: `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}`).
const TAG_BYTES_MAX: usize = 128;
/// Longest DNS name in bytes (RFC 1035), without the port.
const HOST_BYTES_MAX: usize = 253;

/// A repository within a registry: `<name>` of the distribution-spec, such as `library/nginx`.
///
/// Invariants: `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*` components joined by `/`, at most 255 bytes, any depth.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RepositoryName(Box<str>);

/// A tag: `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag(Box<str>);

/// The registry an image comes from, as written in image names and in containerd's `ns` parameter.
///
/// Invariants: a lower-case DNS name, IPv4 address or bracketed IPv6 address, and optionally a port 1-65535.
/// `docker.io` stands for Docker Hub; `index.docker.io` and `registry-1.docker.io` parse to it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceHost(Box<str>);

/// Why a string is not a name of the kind asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid {kind} {text:?}: {reason}")]
pub struct NameError {
    kind: &'static str,
    text: String,
    reason: &'static str,
}

impl NameError {
    fn new(kind: &'static str, text: &str, reason: &'static str) -> Self {
        Self {
            kind,
            text: text.chars().take(80).collect(),
            reason,
        }
    }
}

impl RepositoryName {
    /// The path components, at least one.
    pub fn components(&self) -> impl Iterator<Item = &str> {
        self.0.split('/')
    }
}

impl SourceHost {
    /// Docker Hub.
    pub fn docker_hub() -> Self {
        Self("docker.io".into())
    }

    /// True for Docker Hub, whose one-component names live under `library/`.
    pub fn is_docker_hub(&self) -> bool {
        &*self.0 == "docker.io"
    }

    /// The host without its port; an IPv6 address keeps its brackets.
    pub fn host(&self) -> &str {
        split_port(&self.0).0
    }

    /// The port, where one is written.
    pub fn port(&self) -> Option<u16> {
        split_port(&self.0).1.and_then(|port| port.parse().ok())
    }
}

fn check_name(text: &str) -> Result<(), &'static str> {
    if text.is_empty() {
        return Err("empty");
    }
    if text.len() > NAME_BYTES_MAX {
        return Err("longer than 255 bytes");
    }
    if text.split('/').all(is_name_component) {
        Ok(())
    } else {
        Err("each part between '/' takes lower-case letters and digits, joined by '.', '_', '__' or '-'")
    }
}

fn is_name_component(component: &str) -> bool {
    let bytes = component.as_bytes();
    let alphanumeric = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else {
        return false;
    };
    if !alphanumeric(first) || !alphanumeric(last) {
        return false;
    }
    bytes
        .split(alphanumeric)
        .all(|separator| matches!(separator, b"" | b"." | b"_" | b"__") || separator.iter().all(|b| *b == b'-'))
}

fn check_tag(text: &str) -> Result<(), &'static str> {
    let bytes = text.as_bytes();
    let word = |b: &u8| b.is_ascii_alphanumeric() || *b == b'_';
    match bytes.first() {
        None => Err("empty"),
        Some(_) if bytes.len() > TAG_BYTES_MAX => Err("longer than 128 bytes"),
        Some(first) if !word(first) => Err("starts with a character outside [a-zA-Z0-9_]"),
        Some(_) if bytes.iter().all(|b| word(b) || b".-".contains(b)) => Ok(()),
        Some(_) => Err("has a character outside [a-zA-Z0-9._-]"),
    }
}

fn split_port(text: &str) -> (&str, Option<&str>) {
    let after_bracket = text.rfind(']').unwrap_or(0);
    match text[after_bracket..].rfind(':') {
        Some(colon) => (&text[..after_bracket + colon], Some(&text[after_bracket + colon + 1..])),
        None => (text, None),
    }
}

fn check_host(text: &str) -> Result<(), &'static str> {
    let (host, port) = split_port(text);
    if let Some(port) = port {
        let digits = !port.is_empty() && port.len() <= 5 && port.bytes().all(|b| b.is_ascii_digit());
        if !digits || port.parse::<u16>().is_ok_and(|p| p == 0) || port.parse::<u16>().is_err() {
            return Err("port is not a number from 1 to 65535");
        }
    }
    if let Some(address) = host.strip_prefix('[') {
        let address = address.strip_suffix(']').ok_or("'[' without ']'")?;
        return address.parse::<Ipv6Addr>().map(drop).map_err(|_| "not an IPv6 address");
    }
    if host.is_empty() || host.len() > HOST_BYTES_MAX {
        return Err("host is empty or longer than 253 bytes");
    }
    let label = |l: &str| {
        !l.is_empty()
            && l.len() <= 63
            && !l.starts_with('-')
            && !l.ends_with('-')
            && l.bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    };
    if !host.split('.').all(label) {
        return Err("host is not a DNS name");
    }
    let numeric = host
        .split('.')
        .next_back()
        .is_some_and(|l| l.bytes().all(|b| b.is_ascii_digit()));
    if numeric && host.parse::<IpAddr>().is_err() {
        return Err("not an IPv4 address");
    }
    Ok(())
}

impl FromStr for RepositoryName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        check_name(text).map_err(|reason| NameError::new("repository name", text, reason))?;
        Ok(Self(text.into()))
    }
}

impl FromStr for Tag {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        check_tag(text).map_err(|reason| NameError::new("tag", text, reason))?;
        Ok(Self(text.into()))
    }
}

impl FromStr for SourceHost {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let lower = text.to_ascii_lowercase();
        check_host(&lower).map_err(|reason| NameError::new("source host", text, reason))?;
        Ok(match &*lower {
            "index.docker.io" | "registry-1.docker.io" => Self::docker_hub(),
            _ => Self(lower.into()),
        })
    }
}

macro_rules! text_type {
    ($name:ident) => {
        impl $name {
            /// The text itself.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;

            fn try_from(text: String) -> Result<Self, NameError> {
                text.parse()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

text_type!(RepositoryName);
text_type!(Tag);
text_type!(SourceHost);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn repository_names_follow_the_grammar() {
        let deep = vec!["a"; 20].join("/");
        for good in [
            "nginx",
            "library/nginx",
            "a/manifests/b",
            "blobs/uploads",
            "x__y/a---b/c.d_e",
            "docker.io/library/nginx",
            &deep,
        ] {
            assert!(good.parse::<RepositoryName>().is_ok(), "{good}");
        }
        for bad in [
            "",
            "/",
            "a//b",
            "/a",
            "a/",
            "A",
            "a..b",
            "a___b",
            "-a",
            "a-",
            "a b",
            "a:b",
            "ä",
            &"a".repeat(256),
        ] {
            assert!(bad.parse::<RepositoryName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn tags_follow_the_grammar() {
        for good in ["latest", "_x", "1.2.3-rc.1_b", &"t".repeat(128)] {
            assert!(good.parse::<Tag>().is_ok(), "{good}");
        }
        for bad in ["", ".x", "-x", "a/b", "a:b", "a b", &"t".repeat(129)] {
            assert!(bad.parse::<Tag>().is_err(), "{bad}");
        }
    }

    #[test]
    fn source_hosts_keep_their_port() {
        let table = [
            ("quay.io", "quay.io", None),
            ("quay.io:443", "quay.io", Some(443)),
            ("[::1]:5000", "[::1]", Some(5000)),
            ("[fd00::2]", "[fd00::2]", None),
            ("10.0.0.1:5000", "10.0.0.1", Some(5000)),
            ("localhost", "localhost", None),
        ];
        for (text, host, port) in table {
            let parsed: SourceHost = text.parse().unwrap();
            assert_eq!((parsed.host(), parsed.port()), (host, port), "{text}");
        }
        for bad in [
            "", ":5000", "a:0", "a:65536", "a:b", "a_b", "::1", "[::1", "a..b", "-a.b", "1.2.3", "http://a", "a/b",
        ] {
            assert!(bad.parse::<SourceHost>().is_err(), "{bad}");
        }
    }

    #[test]
    fn docker_hub_has_one_name() {
        for alias in ["docker.io", "index.docker.io", "registry-1.docker.io", "DOCKER.io"] {
            assert!(alias.parse::<SourceHost>().unwrap().is_docker_hub(), "{alias}");
        }
    }

    proptest! {
        #[test]
        fn generated_names_parse_and_round_trip(name in "[a-z0-9]{1,5}((\\.|_|__|-{1,3})[a-z0-9]{1,4}){0,3}(/[a-z0-9]{1,5}){0,6}") {
            prop_assert_eq!(name.parse::<RepositoryName>().unwrap().to_string(), name);
        }

        #[test]
        fn generated_tags_parse_and_round_trip(tag in "[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}") {
            prop_assert_eq!(tag.parse::<Tag>().unwrap().to_string(), tag);
        }

        #[test]
        fn arbitrary_text_never_panics(text in "\\PC{0,60}") {
            let _ = text.parse::<RepositoryName>();
            let _ = text.parse::<Tag>();
            if let Ok(host) = text.parse::<SourceHost>() {
                prop_assert_eq!(host.as_str().parse::<SourceHost>().unwrap(), host);
            }
        }
    }
}
