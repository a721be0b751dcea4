//! Checking content against a digest, fed in chunks.

use std::fmt;

use sha2::{Digest as _, Sha256, Sha512};

use crate::digest::{Algorithm, Digest};

/// Hashes bytes as they pass and compares at the end.
///
/// Feed it large chunks: at 64 bytes a call the hash runs at half speed. Cloning keeps the state reached so far.
#[derive(Clone)]
pub struct Verifier {
    expected: Digest,
    state: State,
}

#[derive(Clone)]
enum State {
    Sha256(Sha256),
    Sha512(Sha512),
}

/// A digest whose algorithm cannot be checked here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("digest {digest} uses an algorithm that cannot be verified (sha256 and sha512 can)")]
pub struct UnsupportedAlgorithm {
    /// The digest that was asked for.
    pub digest: Digest,
}

/// The content is not what its digest says.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("content hashes to {actual}, not {expected}")]
pub struct DigestMismatch {
    /// What was asked for.
    pub expected: Digest,
    /// What the bytes hash to.
    pub actual: Digest,
}

impl Verifier {
    pub(crate) fn new(expected: &Digest) -> Result<Self, UnsupportedAlgorithm> {
        let state = match expected.algorithm() {
            Algorithm::Sha256 => State::Sha256(Sha256::new()),
            Algorithm::Sha512 => State::Sha512(Sha512::new()),
            Algorithm::Other => {
                return Err(UnsupportedAlgorithm {
                    digest: expected.clone(),
                });
            }
        };
        Ok(Self {
            expected: expected.clone(),
            state,
        })
    }

    /// The digest the content is checked against.
    pub fn expected(&self) -> &Digest {
        &self.expected
    }

    /// Adds the next bytes of the content.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.state {
            State::Sha256(hash) => hash.update(bytes),
            State::Sha512(hash) => hash.update(bytes),
        }
    }

    /// Compares everything fed so far with the digest.
    ///
    /// # Errors
    /// [`DigestMismatch`] with both digests.
    pub fn finish(self) -> Result<(), DigestMismatch> {
        let actual = match self.state {
            State::Sha256(hash) => Digest::from_hash("sha256", &hash.finalize()),
            State::Sha512(hash) => Digest::from_hash("sha512", &hash.finalize()),
        };
        if actual == self.expected {
            Ok(())
        } else {
            Err(DigestMismatch {
                expected: self.expected,
                actual,
            })
        }
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier")
            .field("expected", &self.expected)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_add_up_to_the_whole() {
        let mut verifier = Digest::sha256(b"hello world").verifier().unwrap();
        verifier.update(b"hello ");
        verifier.update(b"world");
        assert_eq!(verifier.finish(), Ok(()));
    }

    #[test]
    fn sha512_is_verified() {
        let abc = "sha512:ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f";
        let mut verifier = abc.parse::<Digest>().unwrap().verifier().unwrap();
        verifier.update(b"abc");
        assert_eq!(verifier.finish(), Ok(()));
    }

    #[test]
    fn other_content_is_a_mismatch_that_names_both() {
        let mut verifier = Digest::sha256(b"right").verifier().unwrap();
        verifier.update(b"wrong");
        let mismatch = verifier.finish().unwrap_err();
        assert_eq!(mismatch.expected, Digest::sha256(b"right"));
        assert_eq!(mismatch.actual, Digest::sha256(b"wrong"));
    }

    #[test]
    fn unknown_algorithms_are_not_verified() {
        let digest: Digest = "blake3:aabb".parse().unwrap();
        assert_eq!(digest.verifier().unwrap_err().digest, digest);
    }
}
