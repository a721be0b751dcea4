//! A volume of a given size, to be filled or to hang.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// A volume mounted over a directory until this is dropped. Needs root.
#[derive(Debug)]
pub(crate) struct SmallDisk {
    directory: PathBuf,
}

/// What kind of volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// In memory.
    Memory,
    /// A file system that can be frozen: whoever writes to it then waits.
    Freezable,
}

impl SmallDisk {
    pub(crate) fn mount(directory: &Path, bytes: u64, kind: Kind) -> Result<Self> {
        std::fs::create_dir_all(directory).context("make a mount point")?;
        match kind {
            Kind::Memory => {
                let size = format!("size={bytes}");
                run(Command::new("mount")
                    .args(["-t", "tmpfs", "-o", &size, "tmpfs"])
                    .arg(directory))?;
            }
            Kind::Freezable => {
                let image = directory.with_extension("img");
                File::create(&image)
                    .and_then(|file| file.set_len(bytes))
                    .context("make a disk")?;
                run(Command::new("mkfs.ext4").arg("-q").arg(&image))?;
                run(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(directory))?;
            }
        }
        Ok(Self {
            directory: directory.to_owned(),
        })
    }

    pub(crate) fn is_at(&self, directory: &Path) -> bool {
        self.directory == directory
    }

    /// Makes every write wait, or lets them go on.
    pub(crate) fn freeze(&self, frozen: bool) -> Result<()> {
        let flag = if frozen { "--freeze" } else { "--unfreeze" };
        run(Command::new("fsfreeze").arg(flag).arg(&self.directory))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // One that is frozen could not be unmounted; most are not.
        let _ = Command::new("fsfreeze").arg("--unfreeze").arg(&self.directory).output();
        // A lazy unmount always works; what is left of a test's memory goes with it.
        let _ = Command::new("umount").arg("--lazy").arg(&self.directory).status();
    }
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("start {command:?}"))?;
    if !output.status.success() {
        bail!("{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
