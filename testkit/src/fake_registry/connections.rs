//! Accepting connections, each with a way to reset it, or letting none come about.

use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use distribution::Server;
use rustix::net::sockopt::set_socket_linger;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::Shared;
use super::routes::FakeRoutes;

/// Backlog of a listener that takes part.
const BACKLOG: i32 = 1024;

/// A local connection that takes longer than this does not come about.
const CONNECT: Duration = Duration::from_millis(100);

/// Connections that fill a backlog of nothing, with some to spare.
const FILLERS_MAX: usize = 16;

/// Whether connections come about.
#[derive(Debug)]
pub(super) struct Gate(watch::Sender<bool>);

impl Default for Gate {
    fn default() -> Self {
        Self(watch::Sender::new(true))
    }
}

/// No connection comes about until this is lifted or dropped.
#[derive(Debug)]
pub struct ConnectHang {
    gate: watch::Sender<bool>,
    fillers: Vec<TcpStream>,
}

impl ConnectHang {
    /// Lets connections come about again.
    pub fn lift(self) {}
}

impl Drop for ConnectHang {
    fn drop(&mut self) {
        self.fillers.clear();
        self.gate.send_replace(true);
    }
}

impl Gate {
    /// Stops accepting, and fills the listener's queue until the kernel drops further attempts.
    pub(super) async fn close(&self, address: SocketAddr) -> ConnectHang {
        self.0.send_replace(false);
        let mut fillers = Vec::new();
        while fillers.len() < FILLERS_MAX {
            match timeout(CONNECT, TcpStream::connect(address)).await {
                Ok(Ok(filler)) => fillers.push(filler),
                Ok(Err(_)) | Err(_) => break,
            }
        }
        ConnectHang {
            gate: self.0.clone(),
            fillers,
        }
    }
}

/// A listener of a fake registry.
pub(super) struct Listening {
    pub(super) shared: Arc<Shared>,
    pub(super) listener: TcpListener,
    /// Where redirects lead.
    pub(super) content_address: Option<SocketAddr>,
    /// This is where redirects lead.
    pub(super) is_content: bool,
}

impl Listening {
    pub(super) async fn accept_all(self) {
        let mut connections = JoinSet::new();
        let mut gate = self.shared.gate.0.subscribe();
        loop {
            let open = *gate.borrow_and_update();
            self.set_backlog(if open || self.is_content { BACKLOG } else { 0 });
            tokio::select! {
                biased;
                _ = gate.changed(), if !self.is_content => (),
                accepted = self.listener.accept(), if open || self.is_content => {
                    if let Ok((stream, _)) = accepted {
                        self.serve(stream, &mut connections);
                    }
                }
                Some(_) = connections.join_next() => (),
            }
        }
    }

    fn set_backlog(&self, backlog: i32) {
        rustix::net::listen(&self.listener, backlog).expect("a listener's backlog can be changed");
    }

    fn serve(&self, stream: TcpStream, connections: &mut JoinSet<()>) {
        let Ok(socket) = stream.as_fd().try_clone_to_owned() else {
            return;
        };
        let reset = Reset {
            socket,
            cut: CancellationToken::new(),
        };
        let cut = reset.cut.clone();
        let routes = FakeRoutes {
            shared: Arc::clone(&self.shared),
            reset: Arc::new(reset),
            address: stream.local_addr().expect("a connected socket has an address"),
            content_address: self.content_address,
            is_content: self.is_content,
        };
        let mut server = Server::new(Arc::clone(&self.shared.library)).routes(Arc::new(routes));
        if let Some(tls) = self.shared.tls.as_ref().filter(|_| !self.is_content) {
            server = server.tls(Arc::clone(tls));
        }
        connections.spawn(async move {
            tokio::select! {
                () = server.serve_connection(stream, CancellationToken::new()) => (),
                () = cut.cancelled() => (),
            }
        });
    }
}

/// Resets one connection.
#[derive(Debug)]
pub(super) struct Reset {
    socket: OwnedFd,
    cut: CancellationToken,
}

impl Reset {
    /// The connection is gone soon after, and the client reads a reset.
    pub(super) fn reset(&self) {
        // Fails only on a socket that is gone already.
        let _ = set_socket_linger(&self.socket, Some(Duration::ZERO));
        self.cut.cancel();
    }
}
