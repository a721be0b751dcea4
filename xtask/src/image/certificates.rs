//! The authorities that Debian's `ca-certificates` trusts, as one file.

use std::path::Path;

use anyhow::{Context, Result, bail};

/// Joins every certificate below an unpacked `ca-certificates`, sorted by name, as its own installer does.
///
/// # Errors
/// If there is none.
pub(crate) fn bundle(root: &Path) -> Result<Vec<u8>> {
    let directory = root.join("usr/share/ca-certificates/mozilla");
    let mut files = Vec::new();
    for entry in std::fs::read_dir(&directory).with_context(|| format!("list {}", directory.display()))? {
        files.push(entry.context("list certificates")?.path());
    }
    files.sort();
    if files.is_empty() {
        bail!("{} has no certificate", directory.display());
    }
    let mut bundle = Vec::new();
    for file in files {
        bundle.extend(std::fs::read(&file).with_context(|| format!("read {}", file.display()))?);
        if !bundle.ends_with(b"\n") {
            bundle.push(b'\n');
        }
    }
    Ok(bundle)
}
