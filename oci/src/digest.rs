//! Content digests, by the image-spec grammar.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::Digest as _;

use crate::verifier::{UnsupportedAlgorithm, Verifier};

/// Longest digest accepted, in bytes: `sha512:` and 128 hex digits is 135; registered forms stay well below.
const DIGEST_BYTES_MAX: usize = 255;

/// A content identifier `<algorithm>:<encoded>`.
///
/// Invariants: matches the image-spec grammar
/// `algorithm ::= component (separator component)*`, `component ::= [a-z0-9]+`, `separator ::= [+._-]`,
/// `encoded ::= [a-zA-Z0-9=_-]+`; a `sha256` or `sha512` digest has exactly 64 or 128 lower-case hex digits.
/// Any other algorithm parses; only [`Digest::verifier`] refuses what it cannot check.
/// Source: image-spec `descriptor.md`, "Digests".
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest {
    text: Box<str>,
}

/// The hash a [`Digest`] names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// SHA-256, which every implementation must support.
    Sha256,
    /// SHA-512.
    Sha512,
    /// Well-formed, but not one that can be verified here.
    Other,
}

/// Why a string is not a [`Digest`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid digest {text:?}: {reason}")]
pub struct DigestError {
    text: String,
    reason: &'static str,
}

impl Digest {
    /// The SHA-256 digest of `content`.
    pub fn sha256(content: &[u8]) -> Self {
        Self::from_hash("sha256", &sha2::Sha256::digest(content))
    }

    pub(crate) fn from_hash(algorithm: &str, hash: &[u8]) -> Self {
        let mut text = String::with_capacity(algorithm.len() + 1 + hash.len() * 2);
        text.push_str(algorithm);
        text.push(':');
        for byte in hash {
            text.push(char::from(HEX[usize::from(byte >> 4)]));
            text.push(char::from(HEX[usize::from(byte & 15)]));
        }
        Self { text: text.into() }
    }

    /// The whole digest, `sha256:…`.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The algorithm it names.
    pub fn algorithm(&self) -> Algorithm {
        match self.split().0 {
            "sha256" => Algorithm::Sha256,
            "sha512" => Algorithm::Sha512,
            _ => Algorithm::Other,
        }
    }

    /// The part before the colon.
    pub fn algorithm_name(&self) -> &str {
        self.split().0
    }

    /// The part after the colon.
    pub fn encoded(&self) -> &str {
        self.split().1
    }

    /// Starts checking content against this digest.
    ///
    /// # Errors
    /// [`UnsupportedAlgorithm`] unless the digest is `sha256` or `sha512`: a cache must not keep what it cannot verify.
    pub fn verifier(&self) -> Result<Verifier, UnsupportedAlgorithm> {
        Verifier::new(self)
    }

    fn split(&self) -> (&str, &str) {
        self.text.split_once(':').expect("a parsed digest holds a colon")
    }
}

const HEX: &[u8; 16] = b"0123456789abcdef";

fn check(text: &str) -> Result<(), &'static str> {
    if text.len() > DIGEST_BYTES_MAX {
        return Err("longer than 255 bytes");
    }
    let (algorithm, encoded) = text.split_once(':').ok_or("no ':' between algorithm and hash")?;
    let component = |c: &str| !c.is_empty() && c.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    if !algorithm.split(['+', '.', '_', '-']).all(component) {
        return Err("algorithm is not [a-z0-9]+ parts joined by one of '+._-'");
    }
    let lower_hex = |n: usize| encoded.len() == n && encoded.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    match algorithm {
        "sha256" if !lower_hex(64) => Err("sha256 takes 64 lower-case hex digits"),
        "sha512" if !lower_hex(128) => Err("sha512 takes 128 lower-case hex digits"),
        _ if encoded.is_empty() => Err("hash is empty"),
        _ if !encoded
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"=_-".contains(&b)) =>
        {
            Err("hash has a character outside [a-zA-Z0-9=_-]")
        }
        _ => Ok(()),
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        match check(text) {
            Ok(()) => Ok(Self { text: text.into() }),
            Err(reason) => Err(DigestError {
                text: text.chars().take(80).collect(),
                reason,
            }),
        }
    }
}

impl TryFrom<String> for Digest {
    type Error = DigestError;

    fn try_from(text: String) -> Result<Self, DigestError> {
        text.parse()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn known_content_has_its_known_digest() {
        let empty = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(Digest::sha256(b"").as_str(), empty);
    }

    #[test]
    fn any_registered_form_parses() {
        for good in [
            "sha512:".to_owned() + &"a".repeat(128),
            "multihash+base58:QmRZxt2b1FVZPNqd8hsiykDL3TdBDeTSPX9Kv46HmX4Gx8".into(),
        ] {
            assert_eq!(good.parse::<Digest>().unwrap().as_str(), good);
        }
    }

    #[test]
    fn malformed_digests_are_refused_and_named() {
        for bad in [
            "",
            "sha256",
            "sha256:",
            "sha256:baddigeststring",
            "SHA256:aa",
            ":aa",
            "a..b:cc",
            "sha256:../../etc/passwd",
        ] {
            let error = bad.parse::<Digest>().unwrap_err();
            assert!(error.to_string().contains(&format!("{bad:?}")), "{error}");
        }
        let upper = format!("sha256:{}", "A".repeat(64));
        assert!(upper.parse::<Digest>().is_err());
    }

    proptest! {
        #[test]
        fn parsing_never_panics_and_round_trips(text in "\\PC{0,80}") {
            if let Ok(digest) = text.parse::<Digest>() {
                prop_assert_eq!(digest.to_string(), text);
            }
        }

        #[test]
        fn every_digest_of_content_parses(content in proptest::collection::vec(any::<u8>(), 0..64)) {
            let digest = Digest::sha256(&content);
            prop_assert_eq!(digest.as_str().parse::<Digest>().unwrap(), digest);
        }
    }
}
