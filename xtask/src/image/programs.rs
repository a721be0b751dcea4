//! Our programs, found where they were built, and stripped.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::arguments::Input;
use super::platform::Architecture;
use super::tree::{Entry, Tree};

/// All programs of the product; each is at `/usr/bin`.
pub(crate) const NAMES: [&str; 5] = [
    "kuik",
    "kuik-cache-node",
    "kuik-controller",
    "kuik-proxy",
    "kuik-webhook",
];

/// The programs of one architecture, as they go into the image.
#[derive(Debug)]
pub(crate) struct Programs {
    tree: Tree,
    files: Vec<PathBuf>,
    /// Where stripped copies lie while this lives.
    _stripped: tempfile::TempDir,
}

impl Programs {
    /// The layer.
    pub(crate) fn tree(&self) -> &Tree {
        &self.tree
    }

    /// The files themselves.
    pub(crate) fn paths(&self) -> Vec<&Path> {
        self.files.iter().map(PathBuf::as_path).collect()
    }
}

/// Where cargo leaves the programs of a profile.
///
/// # Errors
/// If it is not said where cargo builds: `tools/with-env` says it.
pub(crate) fn built(profile: &str) -> Result<PathBuf> {
    let target = std::env::var_os("CARGO_TARGET_DIR").context("CARGO_TARGET_DIR is not set: use tools/with-env")?;
    Ok(Path::new(&target).join(if profile == "dev" { "debug" } else { profile }))
}

/// Finds every program, and strips those that can be stripped here.
///
/// # Errors
/// Names a program that is not there.
pub(crate) fn collect(input: &Input) -> Result<Programs> {
    let stripped = tempfile::tempdir().context("create a directory for stripped programs")?;
    let mut tree = Tree::default();
    let mut files = Vec::new();
    for name in NAMES {
        let built = input.programs.join(name);
        if !built.is_file() {
            bail!("{} is not there: `make build` builds the programs", built.display());
        }
        let file = if input.architecture == Architecture::native()? {
            strip(&built, &stripped.path().join(name))?
        } else {
            built
        };
        let from = file.clone();
        tree.add(&format!("usr/bin/{name}"), Entry::Copy { from, executable: true });
        files.push(file);
    }
    // Called so, it is a plugin of kubectl.
    tree.add("usr/bin/kubectl-kuik", Entry::Link("kuik".to_owned()));
    Ok(Programs {
        tree,
        files,
        _stripped: stripped,
    })
}

fn strip(from: &Path, to: &Path) -> Result<PathBuf> {
    let status = Command::new("strip").arg("-o").arg(to).arg(from).status();
    if !status.context("start strip (package binutils)")?.success() {
        bail!("cannot strip {}", from.display());
    }
    Ok(to.to_owned())
}
