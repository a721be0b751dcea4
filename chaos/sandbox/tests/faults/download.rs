//! A body read at the pace of its story, hashed, with an eye on how long it kept its reader waiting.

use std::io::Read;
use std::time::Duration;

use oci::{Digest, Verifier};
use sandbox::http;
use tokio::time::Instant;

const BUFFER_BYTES: usize = 64 * 1024;

pub(crate) struct Download {
    body: http::Body,
    verifier: Verifier,
    pub(crate) n_bytes: u64,
    /// The longest wait for bytes so far.
    pub(crate) longest_wait: Duration,
}

impl Download {
    /// Asks for a blob, which must be answered 200.
    pub(crate) fn open(url: &str, digest: &Digest) -> Self {
        let response = http::get(url).unwrap();
        assert_eq!(response.status, 200, "{url}");
        Self {
            body: response.body,
            verifier: digest.verifier().unwrap(),
            n_bytes: 0,
            longest_wait: Duration::ZERO,
        }
    }

    /// Reads at least so many bytes in all.
    pub(crate) fn read_past(&mut self, n_bytes: u64) {
        while self.n_bytes < n_bytes {
            assert!(self.read_some(), "ended after {} bytes", self.n_bytes);
        }
    }

    /// Reads to the end, where the bytes must have been the blob's. Answers the longest wait for any of them.
    pub(crate) fn finish(mut self) -> Duration {
        while self.read_some() {}
        let n_bytes = self.n_bytes;
        self.verifier
            .finish()
            .unwrap_or_else(|wrong| panic!("after {n_bytes} bytes: {wrong}"));
        self.longest_wait
    }

    fn read_some(&mut self) -> bool {
        let mut buffer = [0; BUFFER_BYTES];
        let asked = Instant::now();
        let read = self.body.read(&mut buffer);
        self.longest_wait = self.longest_wait.max(asked.elapsed());
        let n_bytes = read.unwrap_or_else(|error| panic!("after {} bytes: {error}", self.n_bytes));
        self.verifier.update(&buffer[..n_bytes]);
        self.n_bytes += n_bytes as u64;
        n_bytes > 0
    }
}
