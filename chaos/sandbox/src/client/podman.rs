//! podman: pulls this machine's platform into a store of its own, as root or not.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;

use super::{Pulled, run};

pub(super) fn pull(store: &Path, image: &str) -> Result<Pulled> {
    run(podman(store).args(["pull", "--quiet", "--tls-verify=false", image]))?;
    let output = run(podman(store).args(["image", "inspect", image]))?;
    let inspected: Value = serde_json::from_slice(&output.stdout).context("parse podman's answer")?;
    let image = &inspected[0];
    let digests = image["RepoDigests"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str);
    let mut all: BTreeSet<String> = digests
        .filter_map(|name| Some(name.split_once('@')?.1.to_owned()))
        .collect();
    let top = image["Digest"]
        .as_str()
        .context("an image without a digest")?
        .to_owned();
    all.insert(format!(
        "sha256:{}",
        image["Id"].as_str().context("an image without an id")?
    ));
    all.insert(top.clone());
    Ok(Pulled { top, all })
}

/// Every directory it writes to is below `store`; `vfs` needs no kernel support.
fn podman(store: &Path) -> Command {
    let mut command = Command::new("podman");
    command
        .args(["--storage-driver", "vfs", "--root"])
        .arg(store.join("root"));
    command
        .arg("--runroot")
        .arg(store.join("run"))
        .arg("--tmpdir")
        .arg(store.join("tmp"));
    command
}
