//! containerd, with a daemon of its own, driven by `ctr`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use super::{Pulled, run};
use crate::process::Process;
use crate::wait;

/// containerd answers within a second on an idle machine.
const START_DEADLINE: Duration = Duration::from_secs(30);

/// Plugins that need devices, networks or mounts this has no use for.
const DISABLED_PLUGINS: &str = r#"["io.containerd.grpc.v1.cri", "io.containerd.snapshotter.v1.aufs",
  "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs",
  "io.containerd.internal.v1.opt", "io.containerd.internal.v1.tracing", "io.containerd.tracing.processor.v1.otlp"]"#;

/// A running containerd with an empty store.
#[derive(Debug)]
pub struct Containerd {
    socket: PathBuf,
    _process: Process,
}

impl Containerd {
    /// Starts a daemon that keeps everything below `store`. Needs root.
    ///
    /// # Errors
    /// If it does not answer in time, with the end of its log.
    pub fn start(store: &Path) -> Result<Self> {
        let socket = store.join("containerd.sock");
        let config = store.join("config.toml");
        std::fs::write(&config, configuration(store, &socket)).context("write containerd's configuration")?;
        let mut command = Command::new("containerd");
        command.arg("--config").arg(&config);
        let mut process = Process::start(&mut command, &store.join("containerd.log"))?;
        wait::until(START_DEADLINE, "containerd to answer", || {
            process.check()?;
            Ok(run(Command::new("ctr").arg("--address").arg(&socket).arg("version")).ok())
        })?;
        Ok(Self {
            socket,
            _process: process,
        })
    }

    /// Fetches every platform of `image`; `options` say how the registry is reached.
    ///
    /// # Errors
    /// If `ctr` reports any.
    pub fn fetch(&self, image: &str, options: &[&str]) -> Result<Pulled> {
        run(self
            .ctr()
            .args(["content", "fetch", "--all-platforms"])
            .args(options)
            .arg(image))?;
        self.contents(image)
    }

    /// Pulls this machine's platform of `image` and unpacks it, as the kubelet does: through the `hosts.toml` files in
    /// `hosts`, which name mirrors by the image's registry.
    ///
    /// # Errors
    /// If `ctr` reports any.
    pub fn pull_by_mirror(&self, image: &str, hosts: &Path) -> Result<Pulled> {
        run(self
            .ctr()
            .args(["image", "pull", "--snapshotter", "native", "--hosts-dir"])
            .arg(hosts)
            .arg(image))?;
        self.contents(image)
    }

    fn contents(&self, image: &str) -> Result<Pulled> {
        let listed = run(self.ctr().args(["image", "ls", &format!("name=={image}")]))?;
        let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
        let top = listed.split_whitespace().find(|word| word.starts_with("sha256:"));
        let top = top
            .with_context(|| format!("no digest of {image} in {listed:?}"))?
            .to_owned();
        let digests = run(self.ctr().args(["content", "ls", "--quiet"]))?;
        let all: BTreeSet<String> = String::from_utf8_lossy(&digests.stdout)
            .split_whitespace()
            .map(str::to_owned)
            .collect();
        Ok(Pulled { top, all })
    }

    fn ctr(&self) -> Command {
        let mut command = Command::new("ctr");
        command.arg("--address").arg(&self.socket).args(["--namespace", "test"]);
        command
    }
}

fn configuration(store: &Path, socket: &Path) -> String {
    let store = store.display();
    let socket = socket.display();
    format!(
        "version = 2\nroot = \"{store}/root\"\nstate = \"{store}/state\"\ndisabled_plugins = {DISABLED_PLUGINS}\n\
         [grpc]\naddress = \"{socket}\"\n[ttrpc]\naddress = \"{socket}.ttrpc\"\n"
    )
}
