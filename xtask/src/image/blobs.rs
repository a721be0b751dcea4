//! The directory of an OCI image layout, and the blobs in it.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// An image layout that is being written.
#[derive(Debug)]
pub(crate) struct Blobs {
    directory: PathBuf,
}

/// A blob by its digest (`sha256:` and hex digits) and its length in bytes.
#[derive(Debug, Clone)]
pub(crate) struct Blob {
    pub(crate) digest: String,
    pub(crate) size_bytes: u64,
}

impl Blobs {
    /// Makes an empty layout, in the place of an older one.
    ///
    /// # Errors
    /// If the directory has something else in it.
    pub(crate) fn create(directory: &Path) -> Result<Self> {
        let is_used = std::fs::read_dir(directory).is_ok_and(|mut entries| entries.next().is_some());
        if is_used && !directory.join("oci-layout").is_file() {
            bail!("{} is not empty, and no image layout", directory.display());
        }
        if is_used {
            std::fs::remove_dir_all(directory).with_context(|| format!("remove {}", directory.display()))?;
        }
        let blobs = Self {
            directory: directory.to_owned(),
        };
        std::fs::create_dir_all(blobs.path("")).with_context(|| format!("create {}", directory.display()))?;
        blobs.write_file("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        Ok(blobs)
    }

    /// Writes a file of the layout itself.
    pub(crate) fn write_file(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let path = self.directory.join(name);
        std::fs::write(&path, bytes).with_context(|| format!("write {}", path.display()))
    }

    /// Adds a JSON document.
    pub(crate) fn add_json(&mut self, document: &Value) -> Result<Blob> {
        let bytes = serde_json::to_vec(document).context("print JSON")?;
        let mut writer = self.begin()?;
        writer.write_all(&bytes).context("write a document")?;
        self.finish(writer)
    }

    /// Begins a blob; [`Blobs::finish`] keeps it.
    pub(crate) fn begin(&self) -> Result<BlobWriter> {
        // One at a time.
        let path = self.directory.join("part");
        let file = File::create_new(&path).context("create a blob")?;
        Ok(BlobWriter {
            path,
            hashed: Hashed::new(BufWriter::new(file)),
        })
    }

    /// Puts a written blob under its digest.
    pub(crate) fn finish(&mut self, writer: BlobWriter) -> Result<Blob> {
        let BlobWriter { path, hashed } = writer;
        let (mut file, blob) = hashed.finish();
        file.flush().context("write a blob")?;
        let name = blob.digest.trim_start_matches("sha256:");
        std::fs::rename(&path, self.path(name)).context("name a blob")?;
        Ok(blob)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.join("blobs/sha256").join(name)
    }
}

/// A blob that is being written.
pub(crate) struct BlobWriter {
    path: PathBuf,
    hashed: Hashed<BufWriter<File>>,
}

impl Write for BlobWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.hashed.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.hashed.flush()
    }
}

/// Hashes and counts what passes through.
pub(crate) struct Hashed<W> {
    inner: W,
    hasher: Sha256,
    size_bytes: u64,
}

impl<W: Write> Hashed<W> {
    pub(crate) fn new(inner: W) -> Self {
        Self {
            inner,
            hasher: Sha256::new(),
            size_bytes: 0,
        }
    }

    /// What is below, and what passed.
    pub(crate) fn finish(self) -> (W, Blob) {
        let hex: String = self
            .hasher
            .finalize()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let blob = Blob {
            digest: format!("sha256:{hex}"),
            size_bytes: self.size_bytes,
        };
        (self.inner, blob)
    }
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n_written = self.inner.write(bytes)?;
        self.hasher.update(&bytes[..n_written]);
        self.size_bytes += n_written as u64;
        Ok(n_written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
