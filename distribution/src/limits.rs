//! Every bound the server keeps, with the reason for its value.

use std::time::Duration;

/// Bounds of one server. [`Default`] is right for production; tests shorten the times.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Connections open at once; a further one is told 503 and closed, so that its client asks its next host
    /// at once instead of waiting in the accept queue.
    pub connections_max: usize,
    /// Request line and headers together, in bytes. Bearer tokens of some registries reach 16 KiB.
    pub head_bytes_max: usize,
    /// A TLS handshake takes a few round trips; this is one lost packet more than a slow one.
    pub tls_handshake: Duration,
    /// From a request's first byte to the end of its headers.
    pub header_read: Duration,
    /// A kept connection without a request. Longer than the 90 s after which Go's clients let theirs go, so
    /// that it is the client who closes and no request meets a closing server.
    pub idle: Duration,
    /// The client takes no byte while some wait for it. Runtimes unpack while they download, and pause.
    pub write_stall: Duration,
    /// A request is being answered and nothing at all was written. Only a guard against leaks: the registry
    /// ends waits for its sources, and a range at the far end of a blob in flight may rightly wait long.
    pub silence: Duration,
    /// Bytes of an unwanted request body that are read to keep the connection; more closes it.
    pub drain_bytes_max: u64,
    /// How long an unwanted request body may take to arrive before the connection is closed instead.
    pub drain: Duration,
    /// Time for in-flight answers once shutdown began.
    pub grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 4096,
            head_bytes_max: 64 * 1024,
            tls_handshake: Duration::from_secs(10),
            header_read: Duration::from_secs(10),
            idle: Duration::from_secs(120),
            write_stall: Duration::from_secs(60),
            silence: Duration::from_secs(600),
            drain_bytes_max: 1024 * 1024,
            drain: Duration::from_secs(1),
            grace: Duration::from_secs(20),
        }
    }
}

impl Limits {
    /// How often a connection is looked at: often enough to notice each bound soon after it is reached, rarely
    /// enough to cost nothing.
    pub(crate) fn tick(&self) -> Duration {
        const TICK_MAX: Duration = Duration::from_secs(5);
        const TICK_MIN: Duration = Duration::from_millis(10);
        let shortest = self.header_read.min(self.idle).min(self.write_stall).min(self.silence);
        (shortest / 4).clamp(TICK_MIN, TICK_MAX)
    }
}
