//! Which of the sockets that share a port gets the next connection: by a filter that the kernel runs, where it would
//! else choose by the client's port. It needs no privileges.

use std::io;

use nix::libc::{BPF_K, BPF_RET, sock_filter, sock_fprog};
use nix::sys::socket::{setsockopt, sockopt};
use tokio::net::TcpListener;

/// A place among the sockets that share a port, in the order in which they began to listen; one that closes gives its
/// place to the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place(pub(super) u32);

/// Sends all new connections to the socket at `place`, for all who share the port. While there is none the kernel
/// chooses as it does without a filter.
///
/// # Errors
/// If the kernel does not know such filters, or the port is not shared.
pub(super) fn steer_to(place: Place, listener: &TcpListener) -> io::Result<()> {
    let mut filter = [sock_filter {
        code: (BPF_RET | BPF_K) as u16,
        jt: 0,
        jf: 0,
        k: place.0,
    }];
    let program = sock_fprog {
        len: 1,
        filter: filter.as_mut_ptr(),
    };
    Ok(setsockopt(listener, sockopt::AttachReusePortCbpf, &program)?)
}
