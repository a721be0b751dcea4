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
use tokio::net::TcpListener;

/// Time for bodies in flight once shutdown began; it leaves the rest of the process's grace period for the rest.
const GRACE: Duration = Duration::from_secs(15);

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

/// Binds every address.
///
/// # Errors
/// [`ListenError`] if the first cannot be bound, or another is taken by someone else.
pub async fn bind_all(addresses: &[SocketAddr]) -> Result<Vec<TcpListener>, ListenError> {
    let mut listeners = Vec::with_capacity(addresses.len());
    for &address in addresses {
        match TcpListener::bind(address).await {
            Ok(listener) => listeners.push(listener),
            Err(source) if source.kind() == io::ErrorKind::AddrInUse => return Err(ListenError::Taken { address }),
            Err(source) if listeners.is_empty() => return Err(ListenError::Refused { address, source }),
            Err(error) => tracing::warn!(%address, %error, "address not available, going on without it"),
        }
    }
    Ok(listeners)
}

/// Serves `registry` on all listeners until the shutdown's serving phase.
pub(crate) fn serve<R: Registry>(
    registry: &Arc<R>,
    listeners: Vec<TcpListener>,
    connections_max: usize,
    shutdown: &Shutdown,
) {
    let tasks = shutdown.tasks(Phase::Serve);
    for listener in listeners {
        let limits = Limits {
            connections_max,
            grace: GRACE,
            ..Limits::default()
        };
        let server = Server::new(Arc::clone(registry)).limits(limits);
        tasks.spawn_critical("listener", server.run(listener, tasks.stop_token()));
    }
}
