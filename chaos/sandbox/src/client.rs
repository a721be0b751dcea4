//! Real container clients: each pulls an image into a directory of its own and says which digests it then holds.

mod containerd;
mod crane;
mod podman;
mod skopeo;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Output};

use anyhow::{Context, Result, bail};

pub use containerd::Containerd;

/// A client program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Client {
    /// `ctr` with a containerd of its own.
    Containerd,
    Crane,
    Podman,
    Skopeo,
}

/// What a client holds after a pull.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pulled {
    /// The digest of what the image's name led to.
    pub top: String,
    /// Everything it fetched below that; a client that pulls for one platform has only that platform's part.
    pub all: BTreeSet<String>,
}

impl Client {
    /// Every client there is.
    pub const ALL: [Self; 4] = [Self::Containerd, Self::Crane, Self::Podman, Self::Skopeo];

    /// Pulls `image` (`127.0.0.1:7439/docker.io/library/app:1`) over plain HTTP into an empty store.
    ///
    /// # Errors
    /// If the client reports any, with its output.
    pub fn pull(self, image: &str) -> Result<Pulled> {
        let store = tempfile::tempdir().context("make a store")?;
        let pulled = match self {
            Self::Containerd => Containerd::start(store.path())?.fetch(image, &["--plain-http"]),
            Self::Crane => crane::pull(store.path(), image),
            Self::Podman => podman::pull(store.path(), image),
            Self::Skopeo => skopeo::pull(store.path(), image),
        };
        pulled.with_context(|| format!("{self:?} pulls {image}"))
    }

    /// Whether a pull brings every platform of an index, or only this machine's.
    pub fn pulls_every_platform(self) -> bool {
        self != Self::Podman
    }

    fn program(self) -> &'static str {
        match self {
            Self::Containerd => "containerd",
            Self::Crane => "crane",
            Self::Podman => "podman",
            Self::Skopeo => "skopeo",
        }
    }

    /// The clients this machine has. One that is missing fails the test in CI, and is said loudly elsewhere.
    ///
    /// # Panics
    /// In CI (`CI` is set), if one is missing.
    pub fn installed() -> Vec<Self> {
        let (found, missing): (Vec<_>, Vec<_>) = Self::ALL.into_iter().partition(|client| client.is_installed());
        for client in &missing {
            eprintln!("SKIPPED: no {} on this machine: run tools/setup test", client.program());
        }
        assert!(
            missing.is_empty() || std::env::var_os("CI").is_none(),
            "CI must have every client: {missing:?}"
        );
        found
    }

    fn is_installed(self) -> bool {
        if self == Self::Containerd && !rustix::process::geteuid().is_root() {
            eprintln!("SKIPPED: containerd starts only as root");
            return false;
        }
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path).any(|directory| directory.join(self.program()).is_file())
    }
}

/// Runs a client to its end.
fn run(command: &mut Command) -> Result<Output> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| format!("start {program}"))?;
    if !output.status.success() {
        bail!(
            "{program}: {}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(output)
}

/// Reads what an OCI image layout holds: the clients that write one have verified every blob in it.
fn read_layout(layout: &Path) -> Result<Pulled> {
    let index = std::fs::read(layout.join("index.json")).context("read index.json")?;
    let index: serde_json::Value = serde_json::from_slice(&index).context("parse index.json")?;
    let top = index["manifests"][0]["digest"]
        .as_str()
        .context("an empty layout")?
        .to_owned();
    let mut all = BTreeSet::new();
    for entry in std::fs::read_dir(layout.join("blobs/sha256")).context("list blobs")? {
        all.insert(format!(
            "sha256:{}",
            entry.context("list blobs")?.file_name().to_string_lossy()
        ));
    }
    Ok(Pulled { top, all })
}
