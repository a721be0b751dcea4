//! Which addresses a cluster gets: the ones it had, where they are still free, and new ones elsewhere.
//!
//! Planning holds every port it has chosen until it is done, so no two parts get the same one. Between the plan
//! and the child's own bind another program may still take it; the child then says so and is started again.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};

use crate::children::NodeListen;
use crate::cluster::{Cluster, NodeAddresses, ProxyAddresses};
use crate::port_owner::PortOwner;

/// Below the range that outgoing connections take their ports from, so that a kept port is still free next time.
const PORT_RANGE: std::ops::Range<u16> = 20_000..32_000;
/// Free ports are many; not finding one so often means that binding itself does not work.
const ATTEMPTS_MAX: usize = 200;

/// Why there are no addresses.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PortError {
    #[error("{address} is taken{owner}: stop what listens there, or choose another address with --listen")]
    Taken { address: SocketAddr, owner: PortOwner },
    #[error("{address} is not on this machine alone: the proxy's plain listener is for loopback addresses only")]
    NotLoopback { address: SocketAddr },
    #[error("listen on {address}")]
    Listen { address: SocketAddr, source: io::Error },
    #[error("no free port on {}", Ipv4Addr::LOCALHOST)]
    NoneFree(#[source] io::Error),
}

/// Ports that are ours until the plan is dropped.
#[derive(Default)]
struct Plan {
    held: Vec<TcpListener>,
}

/// Chooses addresses for a proxy at `listen` and `n_nodes` nodes, keeping those of `before` that are free.
///
/// # Errors
/// [`PortError::Taken`] and [`PortError::NotLoopback`] for `listen`, which is never replaced.
pub(crate) fn plan(listen: SocketAddr, n_nodes: u32, before: Option<&Cluster>) -> Result<Cluster, PortError> {
    let mut plan = Plan::default();
    let kept_proxy = before.map(|cluster| &cluster.proxy);
    let proxy = ProxyAddresses {
        listen: plan.proxy_listen(listen, kept_proxy)?,
        admin: plan.keep_or_choose(kept_proxy.map(|proxy| proxy.admin))?,
    };
    let mut nodes = Vec::new();
    for ordinal in 0..n_nodes {
        let kept = before.and_then(|cluster| cluster.nodes.iter().find(|node| node.ordinal == ordinal));
        let listen = plan.node_listen(kept.map(|node| node.listen))?;
        nodes.push(NodeAddresses { ordinal, listen });
    }
    let cluster_id = before.and_then(|cluster| cluster.cluster_id.clone());
    Ok(Cluster::new(proxy, nodes, cluster_id))
}

/// Whether processes of an earlier run still hold an address the cluster had.
pub(crate) fn held_by_our_own(cluster: &Cluster) -> bool {
    let mut taken = addresses(cluster).filter(|address| !is_free(*address));
    taken.any(|address| PortOwner::of(address.port()).is_ours())
}

fn is_free(address: SocketAddr) -> bool {
    TcpListener::bind(address).is_ok()
}

/// A free loopback address beside those of `cluster`, for a part that keeps none between runs.
pub(crate) fn choose_beside(cluster: &Cluster) -> Result<SocketAddr, PortError> {
    let mut plan = Plan::default();
    for address in addresses(cluster) {
        // Whoever has it meanwhile, it is not chosen.
        let _taken = plan.hold(address);
    }
    plan.choose()
}

fn addresses(cluster: &Cluster) -> impl Iterator<Item = SocketAddr> {
    let nodes = cluster.nodes.iter().map(|node| node.listen);
    let nodes = nodes.flat_map(|listen| [listen.client, listen.registry, listen.grpc, listen.admin]);
    nodes
        .chain([cluster.proxy.admin])
        .chain(cluster.proxy.listen.iter().copied())
}

impl Plan {
    fn node_listen(&mut self, kept: Option<NodeListen>) -> Result<NodeListen, PortError> {
        Ok(NodeListen {
            client: self.keep_or_choose(kept.map(|listen| listen.client))?,
            registry: self.keep_or_choose(kept.map(|listen| listen.registry))?,
            grpc: self.keep_or_choose(kept.map(|listen| listen.grpc))?,
            admin: self.keep_or_choose(kept.map(|listen| listen.admin))?,
        })
    }

    /// The address asked for, and its twin on the other loopback: `localhost` may mean either.
    fn proxy_listen(&mut self, asked: SocketAddr, kept: Option<&ProxyAddresses>) -> Result<Vec<SocketAddr>, PortError> {
        if !asked.ip().is_loopback() {
            return Err(PortError::NotLoopback { address: asked });
        }
        let first = match asked.port() {
            0 => self.keep_or_choose(kept.and_then(|proxy| proxy.listen.first().copied()))?,
            _ => self.hold_asked(asked)?,
        };
        let twin = SocketAddr::new(twin_of(asked.ip()), first.port());
        match self.hold(twin) {
            Ok(()) => Ok(vec![first, twin]),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && asked.port() != 0 => Err(taken(twin)),
            // No IPv6 on this machine, or a picked port whose twin someone has: one address is enough.
            Err(_) => Ok(vec![first]),
        }
    }

    fn hold_asked(&mut self, asked: SocketAddr) -> Result<SocketAddr, PortError> {
        match self.hold(asked) {
            Ok(()) => Ok(asked),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => Err(taken(asked)),
            Err(source) => Err(PortError::Listen { address: asked, source }),
        }
    }

    fn keep_or_choose(&mut self, kept: Option<SocketAddr>) -> Result<SocketAddr, PortError> {
        match kept {
            Some(address) if self.hold(address).is_ok() => Ok(address),
            Some(_) | None => self.choose(),
        }
    }

    fn choose(&mut self) -> Result<SocketAddr, PortError> {
        let mut failed = io::ErrorKind::AddrInUse.into();
        for _attempt in 0..ATTEMPTS_MAX {
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, fastrand::u16(PORT_RANGE)));
            match self.hold(address) {
                Ok(()) => return Ok(address),
                Err(error) => failed = error,
            }
        }
        Err(PortError::NoneFree(failed))
    }

    fn hold(&mut self, address: SocketAddr) -> io::Result<()> {
        self.held.push(TcpListener::bind(address)?);
        Ok(())
    }
}

fn twin_of(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => Ipv6Addr::LOCALHOST.into(),
        IpAddr::V6(_) => Ipv4Addr::LOCALHOST.into(),
    }
}

fn taken(address: SocketAddr) -> PortError {
    let owner = PortOwner::of(address.port());
    PortError::Taken { address, owner }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const ANY: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

    #[test]
    fn every_part_has_a_port_of_its_own() {
        let cluster = plan(ANY, 5, None).unwrap();
        let distinct: BTreeSet<_> = addresses(&cluster).collect();
        assert_eq!(distinct.len(), 5 * 4 + 1 + cluster.proxy.listen.len());
        assert!(!distinct.contains(&choose_beside(&cluster).unwrap()));
        assert!(distinct.iter().all(|address| address.ip().is_loopback()));
    }

    #[test]
    fn free_ports_are_kept_and_taken_ones_replaced() {
        let before = plan(ANY, 3, None).unwrap();
        assert_eq!(plan(ANY, 3, Some(&before)).unwrap(), before);
        let taken = before.nodes[1].listen.grpc;
        let _other = TcpListener::bind(taken).unwrap();
        assert!(!held_by_our_own(&before), "a test is not called kuik");
        let after = plan(ANY, 3, Some(&before)).unwrap();
        assert_ne!(after.nodes[1].listen.grpc, taken);
        assert_eq!(after.nodes[0], before.nodes[0]);
        assert_eq!(after.nodes[1].listen.registry, before.nodes[1].listen.registry);
    }

    #[test]
    fn taken_listen_address_is_named_with_its_owner() {
        let other = TcpListener::bind(ANY).unwrap();
        let address = other.local_addr().unwrap();
        let error = plan(address, 1, None).unwrap_err().to_string();
        assert!(error.starts_with(&format!("{address} is taken by ")), "{error}");
        assert!(error.contains(&format!("(process {})", std::process::id())), "{error}");
    }

    #[test]
    fn addresses_others_can_reach_are_refused() {
        let error = plan("0.0.0.0:0".parse().unwrap(), 1, None).unwrap_err();
        assert!(matches!(error, PortError::NotLoopback { .. }));
    }
}
