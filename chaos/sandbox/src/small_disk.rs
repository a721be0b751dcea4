//! A volume of a given size, to be filled.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// A tmpfs mounted over a directory until this is dropped. Needs root.
#[derive(Debug)]
pub(crate) struct SmallDisk {
    directory: PathBuf,
}

impl SmallDisk {
    pub(crate) fn mount(directory: &Path, bytes: u64) -> Result<Self> {
        std::fs::create_dir_all(directory).context("make a mount point")?;
        let output = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={bytes}"), "tmpfs"])
            .arg(directory)
            .output()
            .context("start mount")?;
        if !output.status.success() {
            bail!("mount: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(Self {
            directory: directory.to_owned(),
        })
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // A lazy unmount always works; what is left of a test's memory goes with it.
        let _ = Command::new("umount").arg("--lazy").arg(&self.directory).status();
    }
}
