//! Which addresses a host named by a client, a registry or a redirect must not lead us to.
//!
//! Pure. Loopback, link-local, unspecified, multicast and cloud metadata addresses are forbidden; private networks are
//! where most companies' registries are, so they are not. The connector asks after name resolution, on every hop.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Metadata services outside the link-local range: Alibaba, Azure's wire server, Oracle.
const METADATA_V4: [Ipv4Addr; 3] = [
    Ipv4Addr::new(100, 100, 100, 200),
    Ipv4Addr::new(168, 63, 129, 16),
    Ipv4Addr::new(192, 0, 0, 192),
];
/// The link-local metadata address that every large cloud shares, and AWS' container credentials.
const METADATA_LINK_LOCAL: [Ipv4Addr; 3] = [
    Ipv4Addr::new(169, 254, 169, 254),
    Ipv4Addr::new(169, 254, 170, 2),
    Ipv4Addr::new(169, 254, 170, 23),
];
/// Names whose only purpose is to lead to a metadata service, checked where a proxy resolves for us.
const METADATA_NAMES: [&str; 3] = ["metadata.google.internal", "metadata", "instance-data"];

/// What kind of address it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForbiddenKind {
    /// This machine.
    Loopback,
    /// The local link.
    LinkLocal,
    /// `0.0.0.0/8`, `::` and the broadcast address.
    Unspecified,
    /// A group.
    Multicast,
    /// A cloud's metadata service.
    Metadata,
}

/// A host leads to an address that only explicitly configured hosts may have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{host} is at a {kind} address ({address}), which only a host configured under `hosts` may be")]
pub struct ForbiddenAddress {
    /// The host that led there.
    pub host: String,
    /// The address or the name.
    pub address: String,
    /// Why it is forbidden.
    pub kind: ForbiddenKind,
}

/// Says why an address is forbidden, or nothing if it is fine.
pub(crate) fn forbidden(address: IpAddr) -> Option<ForbiddenKind> {
    match address {
        IpAddr::V4(v4) => forbidden_v4(v4),
        IpAddr::V6(v6) => match embedded_v4(v6) {
            Some(v4) => forbidden_v4(v4),
            None => forbidden_v6(v6),
        },
    }
}

/// Checks what can be seen without resolving: address literals and names that mean this machine or a metadata service.
pub(crate) fn check_unresolved(host: &str) -> Result<(), ForbiddenAddress> {
    let lower = host.trim_end_matches('.').to_ascii_lowercase();
    let kind = match parse_literal(&lower) {
        Some(address) => forbidden(address),
        None if is_localhost(&lower) => Some(ForbiddenKind::Loopback),
        None if METADATA_NAMES.contains(&&*lower) => Some(ForbiddenKind::Metadata),
        None => None,
    };
    match kind {
        Some(kind) => Err(ForbiddenAddress {
            host: host.to_owned(),
            address: lower,
            kind,
        }),
        None => Ok(()),
    }
}

/// True for `localhost` and the names below it.
pub(crate) fn is_localhost(host: &str) -> bool {
    host == "localhost" || host.ends_with(".localhost")
}

/// Reads an address literal, in brackets or not.
pub(crate) fn parse_literal(host: &str) -> Option<IpAddr> {
    host.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

fn forbidden_v4(address: Ipv4Addr) -> Option<ForbiddenKind> {
    if METADATA_V4.contains(&address) || METADATA_LINK_LOCAL.contains(&address) {
        Some(ForbiddenKind::Metadata)
    } else if address.is_loopback() {
        Some(ForbiddenKind::Loopback)
    } else if address.is_link_local() {
        Some(ForbiddenKind::LinkLocal)
    } else if address.octets()[0] == 0 || address.is_broadcast() {
        Some(ForbiddenKind::Unspecified)
    } else if address.is_multicast() {
        Some(ForbiddenKind::Multicast)
    } else {
        None
    }
}

fn forbidden_v6(address: Ipv6Addr) -> Option<ForbiddenKind> {
    let segments = address.segments();
    let aws = segments[..2] == [0xfd00, 0x0ec2];
    let google = address == Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254);
    if aws || google {
        Some(ForbiddenKind::Metadata)
    } else if address.is_loopback() {
        Some(ForbiddenKind::Loopback)
    } else if address.is_unicast_link_local() {
        Some(ForbiddenKind::LinkLocal)
    } else if address.is_unspecified() {
        Some(ForbiddenKind::Unspecified)
    } else if address.is_multicast() {
        Some(ForbiddenKind::Multicast)
    } else {
        None
    }
}

/// The IPv4 address inside a mapped, compatible, 6to4 or NAT64 one: it is where the packets end up.
fn embedded_v4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let s = address.segments();
    let v4 = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    match s {
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => Some(v4(high, low)),
        [0, 0, 0, 0, 0, 0, high, low] if high != 0 => Some(v4(high, low)),
        [0x2002, high, low, ..] => Some(v4(high, low)),
        _ => None,
    }
}

impl fmt::Display for ForbiddenKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Loopback => "loopback",
            Self::LinkLocal => "link-local",
            Self::Unspecified => "unspecified",
            Self::Multicast => "multicast",
            Self::Metadata => "cloud metadata",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_this_machine_the_link_and_metadata_are_forbidden() {
        let table = [
            ("127.0.0.1", ForbiddenKind::Loopback),
            ("127.8.9.1", ForbiddenKind::Loopback),
            ("::1", ForbiddenKind::Loopback),
            ("::ffff:127.0.0.1", ForbiddenKind::Loopback),
            ("64:ff9b::7f00:1", ForbiddenKind::Loopback),
            ("2002:7f00:1::", ForbiddenKind::Loopback),
            ("169.254.1.1", ForbiddenKind::LinkLocal),
            ("fe80::1", ForbiddenKind::LinkLocal),
            ("169.254.169.254", ForbiddenKind::Metadata),
            ("::ffff:169.254.169.254", ForbiddenKind::Metadata),
            ("fd00:ec2::254", ForbiddenKind::Metadata),
            ("100.100.100.200", ForbiddenKind::Metadata),
            ("0.0.0.0", ForbiddenKind::Unspecified),
            ("0.1.2.3", ForbiddenKind::Unspecified),
            ("255.255.255.255", ForbiddenKind::Unspecified),
            ("::", ForbiddenKind::Unspecified),
            ("224.0.0.1", ForbiddenKind::Multicast),
            ("ff02::1", ForbiddenKind::Multicast),
        ];
        for (address, kind) in table {
            assert_eq!(forbidden(address.parse().unwrap()), Some(kind), "{address}");
        }
    }

    #[test]
    fn private_and_public_addresses_are_allowed() {
        for address in [
            "10.0.0.1",
            "172.16.3.4",
            "192.168.1.1",
            "100.64.0.1",
            "8.8.8.8",
            "fd12::1",
            "2606:4700::1",
        ] {
            assert_eq!(forbidden(address.parse().unwrap()), None, "{address}");
        }
    }

    #[test]
    fn names_that_mean_this_machine_are_seen_without_resolving() {
        for host in [
            "localhost",
            "a.localhost",
            "LOCALHOST.",
            "[::1]",
            "metadata.google.internal",
        ] {
            assert!(check_unresolved(host).is_err(), "{host}");
        }
        for host in ["quay.io", "localhost.example.com", "[2606:4700::1]"] {
            assert!(check_unresolved(host).is_ok(), "{host}");
        }
    }
}
