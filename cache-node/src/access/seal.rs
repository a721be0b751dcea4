//! Seals credentials: AES-256-GCM under a key that only lies in files, bound to the credential's id. Pure but for the nonce.

use meta::CredentialId;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};
use upstream::Credential;

/// First byte of everything sealed; another one is another format.
const FORMAT: u8 = 1;
/// Length of a key.
pub(super) const KEY_BYTES: usize = 32;
/// What the user of an OAuth refresh token is called in docker's configuration.
const IDENTITY_TOKEN_USER: &str = "<token>";

/// A key that seals credentials and names them.
pub(super) struct SealingKey {
    cipher: LessSafeKey,
    naming: hmac::Key,
}

/// A user and a password, as a pull secret has them.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    /// The user.
    pub username: String,
    /// The password.
    pub password: String,
}

impl SealingKey {
    pub(super) fn new(bytes: &[u8; KEY_BYTES]) -> Option<Self> {
        let cipher = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, bytes).ok()?);
        // Never the same key for two purposes.
        let root = hmac::Key::new(hmac::HMAC_SHA256, bytes);
        let derived = hmac::sign(&root, b"kuik credential names");
        let naming = hmac::Key::new(hmac::HMAC_SHA256, derived.as_ref());
        Some(Self { cipher, naming })
    }

    /// The same for the same login and key, and a secret's hash to nobody without the key.
    pub(super) fn name(&self, login: &Login) -> CredentialId {
        let tag = hmac::sign(&self.naming, &login.encode());
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&tag.as_ref()[..16]);
        CredentialId::new(u128::from_be_bytes(bytes))
    }

    /// Nothing if the machine has no randomness.
    pub(super) fn seal(&self, id: CredentialId, login: &Login) -> Option<Vec<u8>> {
        let mut nonce = [0; NONCE_LEN];
        SystemRandom::new().fill(&mut nonce).ok()?;
        let mut sealed = login.encode();
        let unique = Nonce::assume_unique_for_key(nonce);
        self.cipher
            .seal_in_place_append_tag(unique, bound_to(id), &mut sealed)
            .ok()?;
        Some([&[FORMAT], nonce.as_slice(), &sealed].concat())
    }

    /// Nothing if it was sealed with another key or for another id, or is damaged.
    pub(super) fn open(&self, id: CredentialId, sealed: &[u8]) -> Option<Login> {
        let (&FORMAT, rest) = sealed.split_first()? else {
            return None;
        };
        let (nonce, rest) = rest.split_first_chunk::<NONCE_LEN>()?;
        let mut bytes = rest.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let opened = self.cipher.open_in_place(nonce, bound_to(id), &mut bytes).ok()?;
        Login::decode(opened)
    }
}

fn bound_to(id: CredentialId) -> Aad<[u8; 16]> {
    Aad::from(id.get().to_be_bytes())
}

impl Login {
    fn encode(&self) -> Vec<u8> {
        let length = (self.username.len() as u64).to_be_bytes();
        [length.as_slice(), self.username.as_bytes(), self.password.as_bytes()].concat()
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (length, rest) = bytes.split_first_chunk::<8>()?;
        let length = usize::try_from(u64::from_be_bytes(*length)).ok()?;
        let (username, password) = rest.split_at_checked(length)?;
        Some(Self {
            username: String::from_utf8(username.to_vec()).ok()?,
            password: String::from_utf8(password.to_vec()).ok()?,
        })
    }

    /// What to show a registry.
    pub fn credential(&self) -> Credential {
        if self.username == IDENTITY_TOKEN_USER {
            return Credential::IdentityToken(self.password.clone());
        }
        Credential::Basic {
            username: self.username.clone(),
            password: self.password.clone(),
        }
    }
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Login")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> SealingKey {
        SealingKey::new(&[byte; KEY_BYTES]).unwrap()
    }

    fn login() -> Login {
        Login {
            username: "robot$team".into(),
            password: "p4ss:wörd".into(),
        }
    }

    #[test]
    fn what_was_sealed_opens_with_its_key_and_id_alone() {
        let (key_1, key_2) = (key(1), key(2));
        let id = key_1.name(&login());
        let sealed = key_1.seal(id, &login()).unwrap();
        assert_eq!(key_1.open(id, &sealed), Some(login()));
        assert_eq!(key_2.open(id, &sealed), None);
        assert_eq!(key_1.open(CredentialId::new(1), &sealed), None);
        for place in 0..sealed.len() {
            let mut damaged = sealed.clone();
            damaged[place] ^= 1;
            assert_eq!(key_1.open(id, &damaged), None, "byte {place}");
            assert_eq!(key_1.open(id, &sealed[..place]), None, "cut at {place}");
        }
    }

    #[test]
    fn sealed_twice_is_two_texts_of_one_name() {
        let key = key(1);
        let id = key.name(&login());
        assert_eq!(key.name(&login()), id);
        assert_ne!(key.seal(id, &login()), key.seal(id, &login()));
        let shifted = Login {
            username: "robot$teamp".into(),
            password: "4ss:wörd".into(),
        };
        assert_ne!(key.name(&shifted), id);
    }

    #[test]
    fn the_secret_is_neither_in_the_sealed_bytes_nor_printed() {
        let key = key(1);
        let sealed = key.seal(key.name(&login()), &login()).unwrap();
        let needle = login().password.into_bytes();
        assert!(!sealed.windows(needle.len()).any(|window| window == needle));
        assert_eq!(format!("{:?}", login()), "Login");
    }

    #[test]
    fn a_refresh_token_is_shown_as_one() {
        let token = Login {
            username: "<token>".into(),
            password: "t".into(),
        };
        assert!(matches!(token.credential(), Credential::IdentityToken(token) if token == "t"));
    }
}
