//! Which bytes are hashed on their way to a client, and what that proves.
//!
//! Guarantees that a whole body never ends cleanly unless it hashes to its digest, whoever supplied which part of it.
//! A stored copy of a cache node ([`Source::Local`], over an authenticated link) needs no hash here: the node checked
//! each chunk before it left, and at 1.7 GB/s a hash would take half of what passing the bytes on costs. Everything
//! else is hashed: what the source registry sends, what comes over a plain link, and what a node passes on while it
//! is still being fetched. The node checks such a fill only at its end, so if it fails before that, the bytes before
//! are proved by nothing; and it comes at the source's pace, where a hash costs next to nothing.
//!
//! That leaves the body that began as a stored copy and can only go on as something else. A stored copy takes a
//! moment to send, so this is rare: the new supplier is read from the start and hashed, and the bytes the client has
//! (which were right) are skipped. Nothing is held in memory. Past [`REREAD_BYTES_MAX`] the body is cut short instead,
//! and the client resumes or starts again.
//!
//! A part of a blob cannot be checked against the digest of the whole: it is passed on as the supplier sent it, and
//! the client, which has the rest, checks it as it would on a direct pull.

use distribution::Source;
use oci::{Digest, Verifier};

/// How much is read again to prove the end of a body: at 20 MB/s this is under a minute, and runtimes give up on a
/// body without progress after five.
pub(crate) const REREAD_BYTES_MAX: u64 = 1 << 30;

/// What is known of the bytes before an offset.
pub(crate) enum Proof {
    /// They came from stored copies of trusted nodes; no hash was kept.
    Vouched,
    /// They were hashed up to `hashed`.
    Hashed { verifier: Box<Verifier>, hashed: u64 },
    /// They are part of a blob, and cannot be checked here.
    Partial,
}

/// What an opened supplier brings to a proof.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Standard {
    /// It checked its bytes, over an authenticated link.
    pub(crate) trusted: bool,
    /// Where it has them from.
    pub(crate) source: Source,
}

impl Standard {
    /// Whether each byte was proved right before it was sent.
    pub(crate) fn proves_each_byte(self) -> bool {
        self.trusted && self.source == Source::Local
    }
}

impl Proof {
    /// The proof for a whole body that starts at such a supplier. `None` if the digest cannot be verified.
    pub(crate) fn of_whole(digest: &Digest, standard: Standard) -> Option<Self> {
        if standard.proves_each_byte() {
            return Some(Self::Vouched);
        }
        Self::from_start(digest)
    }

    /// A hash that has seen nothing yet.
    pub(crate) fn from_start(digest: &Digest) -> Option<Self> {
        let verifier = Box::new(digest.verifier().ok()?);
        Some(Self::Hashed { verifier, hashed: 0 })
    }

    /// Whether a body can go on at a supplier without reading it from the start.
    pub(crate) fn carries_over(&self, standard: Standard) -> bool {
        standard.proves_each_byte() || !matches!(self, Self::Vouched)
    }

    /// Takes note of a frame at an offset; what was hashed before is not hashed again.
    pub(crate) fn feed(&mut self, offset: u64, frame: &[u8]) {
        let Self::Hashed { verifier, hashed } = self else {
            return;
        };
        let Some(seen) = hashed.checked_sub(offset).and_then(|seen| usize::try_from(seen).ok()) else {
            return;
        };
        if let Some(new) = frame.get(seen..) {
            verifier.update(new);
            *hashed += new.len() as u64;
        }
    }

    /// Whether the last bytes must wait until [`Proof::holds`].
    pub(crate) fn withholds(&self) -> bool {
        matches!(self, Self::Hashed { .. })
    }

    /// Judges a body of `size` bytes that has been fed whole.
    pub(crate) fn holds(&self, size: u64) -> bool {
        match self {
            Self::Vouched | Self::Partial => true,
            Self::Hashed { verifier, hashed } => *hashed == size && verifier.as_ref().clone().finish().is_ok(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &[u8] = b"a body in several frames";

    fn hashed() -> Proof {
        Proof::from_start(&Digest::sha256(BODY)).unwrap()
    }

    #[test]
    fn overlapping_frames_are_hashed_once() {
        let mut proof = hashed();
        proof.feed(0, &BODY[..10]);
        proof.feed(4, &BODY[4..8]);
        proof.feed(0, &BODY[..12]);
        proof.feed(12, &BODY[12..]);
        assert!(proof.holds(BODY.len() as u64));
    }

    #[test]
    fn a_gap_is_never_a_proof() {
        let mut proof = hashed();
        proof.feed(0, &BODY[..10]);
        proof.feed(11, &BODY[11..]);
        assert!(!proof.holds(BODY.len() as u64));
    }

    #[test]
    fn a_flipped_byte_is_no_proof() {
        let mut proof = hashed();
        let mut wrong = BODY.to_vec();
        wrong[3] ^= 1;
        proof.feed(0, &wrong);
        assert!(!proof.holds(BODY.len() as u64));
    }

    #[test]
    fn only_stored_copies_of_trusted_nodes_go_unhashed() {
        let digest = Digest::sha256(BODY);
        let table = [
            (true, Source::Local, false),
            (true, Source::Peer, true),
            (true, Source::Upstream, true),
            (false, Source::Local, true),
            (false, Source::Upstream, true),
        ];
        let stored = Standard {
            trusted: true,
            source: Source::Local,
        };
        for (trusted, source, hashes) in table {
            let standard = Standard { trusted, source };
            let proof = Proof::of_whole(&digest, standard).unwrap();
            assert_eq!(proof.withholds(), hashes, "{standard:?}");
            assert!(proof.carries_over(stored));
            assert_eq!(Proof::Vouched.carries_over(standard), !hashes, "{standard:?}");
        }
    }
}
