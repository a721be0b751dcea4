//! The listeners on loopback that container runtimes connect to.
//!
//! Guarantees that the first address is listened on or the start fails; a further one that the machine does not have
//! (IPv6 switched off) is a warning. On shutdown listeners close first, so a runtime's next connection is refused and
//! it goes to its next host at once.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use daemon::shutdown::{Phase, Shutdown};
use distribution::{Limits, Registry, Server};
use tokio::net::{TcpListener, TcpSocket};

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

/// Binds every address; with `reuse_port` beside other proxies of the same user that do so too.
///
/// # Errors
/// [`ListenError`] if the first cannot be bound, or another is taken by someone else.
pub fn bind_all(addresses: &[SocketAddr], reuse_port: bool) -> Result<Vec<TcpListener>, ListenError> {
    let mut listeners = Vec::with_capacity(addresses.len());
    for &address in addresses {
        match bind(address, reuse_port) {
            Ok(listener) => listeners.push(listener),
            Err(ListenError::Refused { address, source }) if !listeners.is_empty() => {
                tracing::warn!(%address, error = %source, "address not available, going on without it");
            }
            Err(error) => return Err(error),
        }
    }
    Ok(listeners)
}

/// Binds one address.
///
/// # Errors
/// [`ListenError`].
pub fn bind(address: SocketAddr, reuse_port: bool) -> Result<TcpListener, ListenError> {
    let listen = || {
        let socket = if address.is_ipv4() {
            TcpSocket::new_v4()
        } else {
            TcpSocket::new_v6()
        }?;
        socket.set_reuseaddr(true)?;
        socket.set_reuseport(reuse_port)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    listen().map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => ListenError::Taken { address },
        _ => ListenError::Refused { address, source },
    })
}

/// What the listeners keep to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// Connections open at once, per listener.
    pub(crate) connections_max: usize,
    /// Time for answers in flight once shutdown began.
    pub(crate) drain: Duration,
}

/// Serves `registry` on all listeners until the shutdown's serving phase.
pub(crate) fn serve<R: Registry>(registry: &Arc<R>, listeners: Vec<TcpListener>, bounds: Bounds, shutdown: &Shutdown) {
    let tasks = shutdown.tasks(Phase::Serve);
    for listener in listeners {
        let limits = Limits {
            connections_max: bounds.connections_max,
            grace: bounds.drain,
            ..Limits::default()
        };
        let server = Server::new(Arc::clone(registry)).limits(limits);
        tasks.spawn_critical("listener", server.run(listener, tasks.stop_token()));
    }
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
        let first = bind("127.0.0.1:0".parse().unwrap(), true).unwrap();
        let address = first.local_addr().unwrap();
        bind(address, true).unwrap();
        assert!(matches!(bind(address, false), Err(ListenError::Taken { .. })));
        let alone = bind("127.0.0.1:0".parse().unwrap(), false).unwrap();
        let address = alone.local_addr().unwrap();
        assert!(matches!(bind(address, true), Err(ListenError::Taken { .. })));
    }
}
