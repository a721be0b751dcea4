//! The keys that seal credentials, from a directory that may change at any time: `active` names one key, and each key is a
//! file of its own, base64 of 32 bytes.
//!
//! Keys are read again when they are asked for and a moment has passed, and at once when one is missing. What cannot be
//! read leaves the keys as they were: a secret that is half replaced must not lose what was sealed.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use daemon::runtime::one_line;
use meta::{CredentialId, CredentialRecord};
use tokio::time::Instant;

use super::seal::{KEY_BYTES, Login, SealingKey};

/// How old the keys may be. Kubernetes takes up to a minute to show a changed secret anyway.
const READ_AGAIN_AFTER: Duration = Duration::from_secs(5);
/// How often the directory is read for a key that is not there.
const LOOK_FOR_MISSING_EVERY: Duration = Duration::from_millis(500);
/// A key is 44 characters; a larger file is a mistake.
const FILE_BYTES_MAX: u64 = 4096;
/// Keys read. Two are alive during a rotation.
const KEYS_MAX: usize = 64;
/// The file that names the key to seal with.
const ACTIVE: &str = "active";

/// Why keys cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// The directory or a file cannot be read.
    #[error("read key file {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Not base64 of 32 bytes.
    #[error("key file {} is not base64 of 32 bytes", path.display())]
    Key {
        /// Which.
        path: PathBuf,
    },
    /// `active` names a key that is not there.
    #[error("active key {id:?} has no file in {}", dir.display())]
    Active {
        /// Which it names.
        id: String,
        /// Where.
        dir: PathBuf,
    },
}

/// A credential, sealed.
pub struct Sealed {
    /// Its name.
    pub id: CredentialId,
    /// Which key opens it.
    pub key_id: String,
    /// The bytes.
    pub bytes: Vec<u8>,
}

/// The keys of one directory, or none.
pub struct KeyRing {
    dir: Option<PathBuf>,
    read: Mutex<Option<Read>>,
}

struct Read {
    keys: Arc<Keys>,
    at: Instant,
}

#[derive(Default)]
struct Keys {
    active: Option<String>,
    keys: BTreeMap<String, SealingKey>,
}

impl KeyRing {
    /// Keys below `dir`; without one there are none.
    pub fn new(dir: Option<PathBuf>) -> Self {
        Self {
            dir,
            read: Mutex::new(None),
        }
    }

    /// Which key seals now.
    pub fn active(&self) -> Option<String> {
        self.keys(READ_AGAIN_AFTER).active.clone()
    }

    /// Seals a login with the active key; nothing without one.
    pub fn seal(&self, login: &Login) -> Option<Sealed> {
        self.seal_as(None, login)
    }

    /// Seals what has a name already with the active key.
    pub fn seal_again(&self, id: CredentialId, login: &Login) -> Option<Sealed> {
        self.seal_as(Some(id), login)
    }

    fn seal_as(&self, id: Option<CredentialId>, login: &Login) -> Option<Sealed> {
        let mut keys = self.keys(READ_AGAIN_AFTER);
        if keys.active.is_none() {
            keys = self.keys(LOOK_FOR_MISSING_EVERY);
        }
        let key_id = keys.active.clone()?;
        let key = keys.keys.get(&key_id)?;
        let id = id.unwrap_or_else(|| key.name(login));
        let bytes = key.seal(id, login)?;
        Some(Sealed { id, key_id, bytes })
    }

    /// Opens a credential; nothing without its key, or if the bytes are not its.
    pub fn open(&self, id: CredentialId, key_id: &str, sealed: &[u8]) -> Option<Login> {
        let mut keys = self.keys(READ_AGAIN_AFTER);
        if !keys.keys.contains_key(key_id) {
            keys = self.keys(LOOK_FOR_MISSING_EVERY);
        }
        keys.keys.get(key_id)?.open(id, sealed)
    }

    /// Whether a stored credential can be opened.
    pub fn opens(&self, id: CredentialId, stored: &CredentialRecord) -> bool {
        self.open(id, &stored.key_id, &stored.sealed).is_some()
    }

    fn keys(&self, not_older_than: Duration) -> Arc<Keys> {
        let Some(dir) = &self.dir else {
            return Arc::default();
        };
        let now = Instant::now();
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(read) = read
            .as_ref()
            .filter(|read| now.duration_since(read.at) < not_older_than)
        {
            return Arc::clone(&read.keys);
        }
        let keys = match Keys::read(dir) {
            Ok(keys) => Arc::new(keys),
            Err(error) => {
                tracing::warn!(error = one_line(&error), "keys that seal credentials are not read");
                read.as_ref().map(|read| Arc::clone(&read.keys)).unwrap_or_default()
            }
        };
        *read = Some(Read {
            keys: Arc::clone(&keys),
            at: now,
        });
        keys
    }
}

impl Keys {
    fn read(dir: &Path) -> Result<Self, KeysError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| KeysError::Read { path, source }
        };
        let mut keys = BTreeMap::new();
        for entry in std::fs::read_dir(dir).map_err(failed(dir))?.take(KEYS_MAX) {
            let path = entry.map_err(failed(dir))?.path();
            let Some(id) = path.file_name().and_then(|name| name.to_str()) else {
                continue;
            };
            // Mounted secrets hold links and directories of their own, which begin with a dot.
            if id == ACTIVE || id.starts_with('.') {
                continue;
            }
            let text = read_text(&path).map_err(failed(&path))?;
            let key = parse(&text).ok_or_else(|| KeysError::Key { path: path.clone() })?;
            keys.insert(id.to_owned(), key);
        }
        let path = dir.join(ACTIVE);
        let active = read_text(&path).map_err(failed(&path))?.trim().to_owned();
        if !keys.contains_key(&active) {
            let dir = dir.to_owned();
            return Err(KeysError::Active { id: active, dir });
        }
        Ok(Self {
            active: Some(active),
            keys,
        })
    }
}

fn read_text(path: &Path) -> io::Result<String> {
    if std::fs::metadata(path)?.len() > FILE_BYTES_MAX {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    std::fs::read_to_string(path)
}

fn parse(text: &str) -> Option<SealingKey> {
    let bytes: [u8; KEY_BYTES] = STANDARD.decode(text.trim()).ok()?.try_into().ok()?;
    SealingKey::new(&bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write_key(dir: &Path, id: &str, byte: u8) {
        std::fs::write(dir.join(id), STANDARD.encode([byte; KEY_BYTES])).unwrap();
    }

    fn login() -> Login {
        Login {
            username: "u".into(),
            password: "p".into(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_active_key_seals_and_every_key_opens() {
        let dir = tempfile::tempdir().unwrap();
        write_key(dir.path(), "k1", 1);
        std::fs::write(dir.path().join(ACTIVE), "k1\n").unwrap();
        std::fs::create_dir(dir.path().join("..data")).unwrap();
        let ring = KeyRing::new(Some(dir.path().to_owned()));
        let first = ring.seal(&login()).unwrap();
        assert_eq!(first.key_id, "k1");

        write_key(dir.path(), "k2", 2);
        std::fs::write(dir.path().join(ACTIVE), "k2").unwrap();
        tokio::time::advance(READ_AGAIN_AFTER).await;
        let second = ring.seal(&login()).unwrap();
        assert_eq!(second.key_id, "k2");
        for sealed in [first, second] {
            assert_eq!(ring.open(sealed.id, &sealed.key_id, &sealed.bytes), Some(login()));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_directory_that_cannot_be_read_leaves_the_keys_as_they_were() {
        let dir = tempfile::tempdir().unwrap();
        write_key(dir.path(), "k1", 1);
        std::fs::write(dir.path().join(ACTIVE), "k1").unwrap();
        let ring = KeyRing::new(Some(dir.path().to_owned()));
        let sealed = ring.seal(&login()).unwrap();
        std::fs::write(dir.path().join(ACTIVE), "nothing").unwrap();
        tokio::time::advance(READ_AGAIN_AFTER).await;
        assert_eq!(ring.active().as_deref(), Some("k1"));
        std::fs::write(dir.path().join("k1"), "short").unwrap();
        tokio::time::advance(READ_AGAIN_AFTER).await;
        assert_eq!(ring.open(sealed.id, "k1", &sealed.bytes), Some(login()));
    }

    #[tokio::test(start_paused = true)]
    async fn without_keys_nothing_is_sealed_and_a_key_that_comes_later_is_found() {
        assert!(KeyRing::new(None).seal(&login()).is_none());
        let dir = tempfile::tempdir().unwrap();
        let ring = KeyRing::new(Some(dir.path().to_owned()));
        assert!(ring.seal(&login()).is_none());
        write_key(dir.path(), "k1", 1);
        std::fs::write(dir.path().join(ACTIVE), "k1").unwrap();
        tokio::time::advance(LOOK_FOR_MISSING_EVERY).await;
        assert!(ring.seal(&login()).is_some());
    }
}
