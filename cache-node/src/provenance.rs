//! Where each blob on this disk came from, and when: for people who ask why it is here.
//!
//! A text file with one line a blob, appended as blobs are stored and compacted when the node starts. It is not synced:
//! losing a line loses an explanation, never a blob.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use oci::Digest;

/// Blobs remembered; beyond it the origin of new ones is not known.
const ENTRIES_MAX: usize = 2_000_000;
/// Longest line read back: a digest, a number, a label, a repository.
const LINE_BYTES_MAX: usize = 1024;

/// Where a blob came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// `upstream`, or `node-N`.
    pub source: String,
    /// The repository it was fetched for, `docker.io/library/nginx`.
    pub repository: String,
    /// When, in milliseconds since 1970.
    pub fetched_at_ms: u64,
}

/// Remembers where blobs came from.
pub struct Provenance {
    inner: Mutex<Inner>,
}

struct Inner {
    origins: HashMap<Digest, Origin>,
    file: File,
}

impl Provenance {
    /// Reads what an earlier run remembered below `dir`, keeping what `is_held` says is still there.
    ///
    /// # Errors
    /// If the file cannot be read or written anew; damaged lines are left out.
    pub fn open(dir: &Path, is_held: impl Fn(&Digest) -> bool) -> io::Result<Self> {
        let path = dir.join("provenance");
        let mut origins = read(&path)?;
        origins.retain(|digest, _| is_held(digest));
        let file = rewrite(&path, &origins)?;
        Ok(Self {
            inner: Mutex::new(Inner { origins, file }),
        })
    }

    /// Remembers that a blob was stored just now, from `source`.
    pub fn note(&self, digest: &Digest, source: &str, repository: &str) {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let fetched_at_ms = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        let origin = Origin {
            source: source.to_owned(),
            repository: repository.to_owned(),
            fetched_at_ms,
        };
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if inner.origins.len() >= ENTRIES_MAX {
            return;
        }
        if let Err(error) = inner.file.write_all(line(digest, &origin).as_bytes()) {
            tracing::debug!(%error, "the origin of a blob could not be written down");
        }
        inner.origins.insert(digest.clone(), origin);
    }

    /// Where a blob came from, if that is remembered.
    pub fn of(&self, digest: &Digest) -> Option<Origin> {
        self.inner
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .origins
            .get(digest)
            .cloned()
    }
}

fn line(digest: &Digest, origin: &Origin) -> String {
    format!(
        "{digest} {} {} {}\n",
        origin.fetched_at_ms, origin.source, origin.repository
    )
}

fn parse(line: &str) -> Option<(Digest, Origin)> {
    let mut parts = line.trim_end().splitn(4, ' ');
    let digest = parts.next()?.parse().ok()?;
    let fetched_at_ms = parts.next()?.parse().ok()?;
    let source = parts.next().filter(|source| !source.is_empty())?.to_owned();
    let repository = parts.next()?.to_owned();
    Some((
        digest,
        Origin {
            source,
            repository,
            fetched_at_ms,
        },
    ))
}

fn read(path: &Path) -> io::Result<HashMap<Digest, Origin>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(HashMap::new()),
        Err(error) => return Err(error),
    };
    let mut origins = HashMap::new();
    for line in BufReader::new(file).split(b'\n').take(ENTRIES_MAX) {
        let line = line?;
        if let Some((digest, origin)) = (line.len() <= LINE_BYTES_MAX)
            .then(|| parse(&String::from_utf8_lossy(&line)))
            .flatten()
        {
            origins.insert(digest, origin);
        }
    }
    Ok(origins)
}

fn rewrite(path: &Path, origins: &HashMap<Digest, Origin>) -> io::Result<File> {
    let fresh: PathBuf = path.with_extension("new");
    let mut text = String::new();
    for (digest, origin) in origins {
        text.push_str(&line(digest, origin));
    }
    std::fs::write(&fresh, text)?;
    std::fs::rename(&fresh, path)?;
    OpenOptions::new().append(true).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_outlive_the_process_while_their_blob_is_held() {
        let dir = tempfile::tempdir().unwrap();
        let (kept, gone) = (Digest::sha256(b"kept"), Digest::sha256(b"gone"));
        let first = Provenance::open(dir.path(), |_| true).unwrap();
        first.note(&kept, "upstream", "a.example/b");
        first.note(&gone, "node-2", "a.example/b");
        drop(first);
        let second = Provenance::open(dir.path(), |digest| *digest == kept).unwrap();
        assert_eq!(second.of(&kept).unwrap().source, "upstream");
        assert_eq!(second.of(&gone), None);
    }

    #[test]
    fn damaged_lines_are_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let digest = Digest::sha256(b"x");
        let text = format!("garbage\n{digest} 12 upstream a.example/b\n{digest}\n\u{0}\n{digest} x y z");
        std::fs::write(dir.path().join("provenance"), text).unwrap();
        let read = Provenance::open(dir.path(), |_| true).unwrap();
        assert_eq!(
            read.of(&digest),
            Some(Origin {
                source: "upstream".into(),
                repository: "a.example/b".into(),
                fetched_at_ms: 12
            })
        );
    }
}
