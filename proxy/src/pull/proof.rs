//! Which bytes are hashed on their way to a client, and what that proves.
//!
//! Guarantees that a whole body from the source registry, or over a plain link, never ends cleanly unless it hashes
//! to its digest. Bytes that a cache node checked and sent over an authenticated link are not hashed again: at
//! 1.7 GB/s a hash would take half of what passing the bytes on costs. That leaves the body that began at such a node
//! and can only go on at the source registry. Two rules cover it:
//!
//! - While a node still fetches from the source registry ([`Source::Upstream`]), its bytes are hashed although they
//!   need not be. They come at the source's pace, so it costs next to nothing, and this is when the body is long
//!   under way. It goes on from the offset in hand.
//! - What a node has on disk is not hashed. Such a body takes a moment; if every node dies within it, the source
//!   registry is read from the start, hashed, and the bytes the client has are skipped. Nothing is held in memory.
//!   Past [`REREAD_BYTES_MAX`] the body is cut short instead, and the client resumes or starts again.
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
    /// A trusted node vouches for them; no hash was kept.
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

impl Proof {
    /// The proof for a whole body that starts at such a supplier. `None` if the digest cannot be verified.
    pub(crate) fn of_whole(digest: &Digest, standard: Standard) -> Option<Self> {
        if standard.trusted && standard.source != Source::Upstream {
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
    pub(crate) fn carries_over(&self, trusted: bool) -> bool {
        trusted || !matches!(self, Self::Vouched)
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
    fn only_what_nodes_have_at_hand_goes_unhashed() {
        let digest = Digest::sha256(BODY);
        let table = [
            (true, Source::Local, false),
            (true, Source::Peer, false),
            (true, Source::Upstream, true),
            (false, Source::Local, true),
            (false, Source::Upstream, true),
        ];
        for (trusted, source, hashes) in table {
            let proof = Proof::of_whole(&digest, Standard { trusted, source }).unwrap();
            assert_eq!(proof.withholds(), hashes, "{trusted} {source:?}");
            assert!(proof.carries_over(true));
            assert_eq!(proof.carries_over(false), hashes, "{trusted} {source:?}");
        }
    }
}
