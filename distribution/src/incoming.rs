//! The port [`Incoming`]: where a server's connections come from.

use std::future::Future;
use std::io;

use tokio::net::{TcpListener, TcpStream};

/// A source of connections. Dropping it closes it.
pub trait Incoming: Send {
    /// Waits for the next connection. Cancel safe.
    ///
    /// # Errors
    /// As `accept(2)`; the caller tries again.
    fn accept(&mut self) -> impl Future<Output = io::Result<TcpStream>> + Send;

    /// The next of the connections that are still to be served although the server stops; called until there is none.
    /// The implementation bounds how long that takes.
    fn accept_last(&mut self) -> impl Future<Output = Option<TcpStream>> + Send {
        async { None }
    }
}

impl Incoming for TcpListener {
    async fn accept(&mut self) -> io::Result<TcpStream> {
        TcpListener::accept(self).await.map(|(stream, _client)| stream)
    }
}
