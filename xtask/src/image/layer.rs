//! A tree of files as a compressed layer: sorted, without times, owned by root.

use std::io::{Read, Write};

use anyhow::{Context, Result};
use flate2::{Compression, GzBuilder};
use tar::{EntryType, Header};

use super::blobs::{Blobs, Hashed};
use super::tree::{Entry, NONROOT, Tree};

/// A written layer.
#[derive(Debug)]
pub(crate) struct Layer {
    /// What is in it, for people.
    pub(crate) name: &'static str,
    /// Digest and length as it is pulled.
    pub(crate) digest: String,
    pub(crate) size_bytes: u64,
    /// Digest and length once unpacked.
    pub(crate) diff_id: String,
    pub(crate) unpacked_bytes: u64,
}

impl Layer {
    /// One line about it.
    pub(crate) fn summary(&self) -> String {
        let (packed, unpacked) = (megabytes(self.size_bytes), megabytes(self.unpacked_bytes));
        format!("{}: {packed} compressed, {unpacked} unpacked", self.name)
    }
}

/// A length for people.
pub(crate) fn megabytes(n_bytes: u64) -> String {
    format!("{:.1} MB", n_bytes as f64 / 1e6)
}

/// Writes a tree as a blob.
///
/// # Errors
/// If a file cannot be read or the blob not be written.
pub(crate) fn write(blobs: &mut Blobs, name: &'static str, tree: &Tree, level: Compression) -> Result<Layer> {
    let compressed = GzBuilder::new().mtime(0).write(blobs.begin()?, level);
    let mut archive = tar::Builder::new(Hashed::new(compressed));
    for (path, entry) in tree.entries() {
        append(&mut archive, path, entry).with_context(|| format!("pack {path}"))?;
    }
    let (compressed, unpacked) = archive.into_inner().context("end the archive")?.finish();
    let packed = blobs.finish(compressed.finish().context("compress a layer")?)?;
    Ok(Layer {
        name,
        digest: packed.digest,
        size_bytes: packed.size_bytes,
        diff_id: unpacked.digest,
        unpacked_bytes: unpacked.size_bytes,
    })
}

fn append<W: Write>(archive: &mut tar::Builder<W>, path: &str, entry: &Entry) -> Result<()> {
    match entry {
        Entry::Directory { mode } => directory(archive, path, *mode, 0)?,
        Entry::Owned => directory(archive, path, 0o755, NONROOT)?,
        Entry::Link(target) => archive.append_link(&mut header(EntryType::Symlink, 0o777), path, target)?,
        Entry::Text(bytes) => file(archive, path, 0o644, bytes.len() as u64, bytes.as_slice())?,
        Entry::Copy { from, executable } => {
            let opened = std::fs::File::open(from).with_context(|| format!("open {}", from.display()))?;
            let size_bytes = opened.metadata()?.len();
            file(
                archive,
                path,
                if *executable { 0o755 } else { 0o644 },
                size_bytes,
                opened,
            )?;
        }
    }
    Ok(())
}

fn directory<W: Write>(archive: &mut tar::Builder<W>, path: &str, mode: u32, owner: u64) -> Result<()> {
    let mut header = header(EntryType::Directory, mode);
    header.set_uid(owner);
    header.set_gid(owner);
    Ok(archive.append_data(&mut header, format!("{path}/"), std::io::empty())?)
}

fn file<W: Write>(archive: &mut tar::Builder<W>, path: &str, mode: u32, n_bytes: u64, from: impl Read) -> Result<()> {
    let mut header = header(EntryType::Regular, mode);
    header.set_size(n_bytes);
    Ok(archive.append_data(&mut header, path, from)?)
}

fn header(kind: EntryType, mode: u32) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(0);
    header
}
