//! The listeners on loopback that container runtimes connect to.
//!
//! Guarantees that the first address is listened on or the start fails; a further one that the machine does not have
//! (IPv6 switched off) is a warning. On shutdown listeners close first: another proxy on the same port takes over
//! ([`handover`]), else a runtime's next connection is refused and it goes to its next host at once.

mod handover;
mod steering;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use daemon::shutdown::{Phase, Shutdown};
use distribution::{Limits, Registry, Server};
use tokio::net::{TcpListener, TcpSocket};

use handover::Handover;

/// Connections that wait to be accepted; Linux caps it at `net.core.somaxconn`.
const BACKLOG: u32 = 1024;

/// Why the proxy cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Something else listens there.
    #[error("listen on {address}: the port is taken; another proxy may be running")]
    Taken {
        /// The address.
        address: SocketAddr,
    },
    /// The operating system refuses.
    #[error("listen on {address}")]
    Refused {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
}

/// An address that is ours, without a queue yet: who connects is refused, or goes to another proxy on the same port.
#[derive(Debug)]
pub struct BoundSocket {
    socket: TcpSocket,
    address: SocketAddr,
    reuse_port: bool,
}

/// Binds every address; with `reuse_port` beside other proxies of the same user that do so too.
///
/// # Errors
/// [`ListenError`] if the first cannot be bound, or another is taken by someone else.
pub fn bind_all(addresses: &[SocketAddr], reuse_port: bool) -> Result<Vec<BoundSocket>, ListenError> {
    let mut sockets = Vec::with_capacity(addresses.len());
    for &address in addresses {
        match BoundSocket::bind(address, reuse_port) {
            Ok(socket) => sockets.push(socket),
            Err(ListenError::Refused { address, source }) if !sockets.is_empty() => {
                tracing::warn!(%address, error = %source, "address not available, going on without it");
            }
            Err(error) => return Err(error),
        }
    }
    Ok(sockets)
}

impl BoundSocket {
    /// Binds one address.
    ///
    /// # Errors
    /// [`ListenError`].
    pub fn bind(address: SocketAddr, reuse_port: bool) -> Result<Self, ListenError> {
        let bind = || {
            let socket = if address.is_ipv4() {
                TcpSocket::new_v4()
            } else {
                TcpSocket::new_v6()
            }?;
            socket.set_reuseaddr(true)?;
            socket.set_reuseport(reuse_port)?;
            socket.bind(address)?;
            let address = socket.local_addr()?;
            Ok(Self {
                socket,
                address,
                reuse_port,
            })
        };
        bind().map_err(|error| ListenError::of(address, error))
    }

    /// Begins to listen.
    ///
    /// # Errors
    /// [`ListenError`].
    pub fn listen(self) -> Result<TcpListener, ListenError> {
        let address = self.address;
        self.socket
            .listen(BACKLOG)
            .map_err(|error| ListenError::of(address, error))
    }
}

impl ListenError {
    fn of(address: SocketAddr, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::AddrInUse => Self::Taken { address },
            _ => Self::Refused { address, source },
        }
    }
}

/// What the listeners keep to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// Connections open at once, per listener.
    pub(crate) connections_max: usize,
    /// Time for answers in flight once shutdown began.
    pub(crate) drain: Duration,
}

/// Listens on all sockets, and serves `registry` there until the shutdown's serving phase. Answers where.
///
/// # Errors
/// [`ListenError`].
pub(crate) fn serve<R: Registry>(
    registry: &Arc<R>,
    sockets: Vec<BoundSocket>,
    bounds: Bounds,
    shutdown: &Shutdown,
) -> Result<Vec<SocketAddr>, ListenError> {
    let tasks = shutdown.tasks(Phase::Serve);
    let addresses = sockets.iter().map(|socket| socket.address).collect();
    for socket in sockets {
        let limits = Limits {
            connections_max: bounds.connections_max,
            grace: bounds.drain,
            ..Limits::default()
        };
        let shared = socket.reuse_port;
        let incoming = Handover::new(socket.listen()?, shared);
        let server = Server::new(Arc::clone(registry)).limits(limits);
        tasks.spawn_critical("listener", server.run(incoming, tasks.stop_token()));
    }
    Ok(addresses)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_address_the_machine_has_not_is_gone_without_unless_it_is_the_first() {
        let here: SocketAddr = "127.0.0.1:0".parse().unwrap();
        // For documentation, so on no machine; without IPv6 the socket itself is refused.
        let elsewhere: SocketAddr = "[2001:db8::1]:7439".parse().unwrap();
        assert_eq!(bind_all(&[here, elsewhere], true).unwrap().len(), 1);
        let refused = bind_all(&[elsewhere, here], true).unwrap_err();
        assert!(matches!(refused, ListenError::Refused { address, .. } if address == elsewhere));
    }

    #[tokio::test]
    async fn a_port_is_shared_only_by_those_who_say_so() {
        let any = "127.0.0.1:0".parse().unwrap();
        let first = BoundSocket::bind(any, true).unwrap().listen().unwrap();
        let address = first.local_addr().unwrap();
        BoundSocket::bind(address, true).unwrap().listen().unwrap();
        assert!(matches!(
            BoundSocket::bind(address, false),
            Err(ListenError::Taken { .. })
        ));
        let alone = BoundSocket::bind(any, false).unwrap().listen().unwrap();
        let address = alone.local_addr().unwrap();
        assert!(matches!(
            BoundSocket::bind(address, true),
            Err(ListenError::Taken { .. })
        ));
    }
}
