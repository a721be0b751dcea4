//! kuik on a cluster: its image, its installation with the chart, its state.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::access::with_env;
use crate::cluster::Cluster;
use crate::installer::Installer;
use crate::{shell, wait};

/// The Helm release.
pub const RELEASE: &str = "kuik";

/// The namespace of everything that needs no privileges.
pub const NAMESPACE: &str = "kuik-system";

/// The namespace of the proxies.
pub const PROXY_NAMESPACE: &str = "kuik-system-proxy";

/// Names the image to install on a cluster that is not of our own making.
const IMAGE_VARIABLE: &str = "KUIK_E2E_IMAGE";

/// The profile whose programs are packed: `dev` if it is not set. Figures want `release`.
const PROFILE_VARIABLE: &str = "KUIK_E2E_PROFILE";

/// Where our own clusters keep kuik's image.
const OWN_IMAGE: &str = "system.kuik.test/kuik:e2e";

/// How long packing an image may take; the first time it downloads libraries.
const PACK_DEADLINE: Duration = Duration::from_secs(300);

/// From `helm install` to everything ready.
const READY_DEADLINE: Duration = Duration::from_secs(60);

/// An installation.
#[derive(Debug)]
pub struct Kuik {
    image: String,
    /// From `helm install` to everything ready.
    pub ready_after: Duration,
}

impl Kuik {
    /// Makes the image available to the cluster's nodes, and returns its name.
    ///
    /// # Errors
    /// If the programs are not built, or no image is named for a cluster of others.
    pub(crate) fn provide_image(cluster: &Cluster) -> Result<String> {
        if let Ok(image) = std::env::var(IMAGE_VARIABLE) {
            return Ok(image);
        }
        let Some(machine) = cluster.machine() else {
            bail!("name kuik's image in {IMAGE_VARIABLE}: nothing can be pushed to this cluster");
        };
        let layout = tempfile::tempdir().context("make a directory for the image")?;
        pack(layout.path())?;
        machine.push(layout.path(), OWN_IMAGE)?;
        Ok(OWN_IMAGE.to_owned())
    }

    /// Installs the chart with three cache nodes, and waits until all of it is ready. `values` go to helm as they are.
    ///
    /// # Errors
    /// If something is not ready within a minute.
    pub fn install(cluster: &Cluster, image: &str, values: &[&str]) -> Result<Self> {
        let started = wait::now();
        Installer::Helm3.install(cluster, image, values)?;
        wait_ready(cluster, READY_DEADLINE)?;
        Ok(Self {
            image: image.to_owned(),
            ready_after: started.elapsed(),
        })
    }

    /// Upgrades the release in place with other values, and waits until all of it is ready.
    ///
    /// # Errors
    /// If something is not ready in time.
    pub fn upgrade(&self, cluster: &Cluster, values: &[&str], deadline: Duration) -> Result<()> {
        Installer::Helm3.install(cluster, &self.image, values)?;
        wait_ready(cluster, deadline)
    }

    /// Goes back to the previous revision of the release, and waits until all of it is ready.
    ///
    /// # Errors
    /// If something is not ready in time.
    pub fn rollback(&self, cluster: &Cluster, deadline: Duration) -> Result<()> {
        cluster.helm(&["rollback", RELEASE, "--namespace", NAMESPACE])?;
        wait_ready(cluster, deadline)
    }
}

/// Removes what an uninstall leaves on volumes: the cache nodes' claims, and what was written.
///
/// # Errors
/// If a claim does not go.
pub(crate) fn forget_volumes(cluster: &Cluster) -> Result<()> {
    cluster.kubectl(&["delete", "persistentvolumeclaims", "--all", "--namespace", NAMESPACE])?;
    match cluster.machine() {
        Some(machine) => machine.free_volumes(),
        None => Ok(()),
    }
}

/// Waits until every workload of kuik is as its spec wants it.
///
/// # Errors
/// After the deadline, naming those that are not.
pub fn wait_ready(cluster: &Cluster, deadline: Duration) -> Result<()> {
    wait::until(deadline, "kuik to be ready", || {
        let waiting = not_ready(cluster)?;
        if waiting.is_empty() {
            return Ok(Some(()));
        }
        bail!("not ready: {}", waiting.join(", "))
    })?;
    Ok(())
}

/// The workloads that do not have every pod ready and of the newest version.
fn not_ready(cluster: &Cluster) -> Result<Vec<String>> {
    let mut waiting = Vec::new();
    for (kind, namespace) in [
        ("statefulsets", NAMESPACE),
        ("deployments", NAMESPACE),
        ("daemonsets", PROXY_NAMESPACE),
    ] {
        let found = cluster.list(&[kind, "--namespace", namespace])?;
        if found.is_empty() {
            waiting.push(format!("no {kind} in {namespace}"));
        }
        for workload in found.iter().filter(|workload| !is_ready(workload)) {
            waiting.push(format!(
                "{kind}/{}",
                workload["metadata"]["name"].as_str().unwrap_or("?")
            ));
        }
    }
    Ok(waiting)
}

fn is_ready(workload: &Value) -> bool {
    let status = &workload["status"];
    let number = |value: &Value| value.as_u64().unwrap_or(0);
    if status["observedGeneration"] != workload["metadata"]["generation"] {
        return false;
    }
    if workload["kind"] == "DaemonSet" {
        let wanted = number(&status["desiredNumberScheduled"]);
        return wanted > 0
            && number(&status["numberReady"]) == wanted
            && number(&status["updatedNumberScheduled"]) == wanted;
    }
    let wanted = number(&workload["spec"]["replicas"]);
    // Whoever replaces pods by hand decides when.
    let by_hand = workload["spec"]["updateStrategy"]["type"] == "OnDelete";
    number(&status["readyReplicas"]) == wanted && (by_hand || number(&status["updatedReplicas"]) == wanted)
}

/// Packs the programs that lie beside this test into an image.
fn pack(layout: &Path) -> Result<()> {
    let mut command: Command = with_env();
    let profile = std::env::var(PROFILE_VARIABLE).unwrap_or_else(|_| "dev".to_owned());
    let programs = programs()?;
    let xtask = programs.join("xtask");
    if !xtask.is_file() {
        bail!("no {}: run `cargo xtask e2e`, which builds it", xtask.display());
    }
    command
        .arg(xtask)
        .args(["image", "--profile", &profile, "--tag", OWN_IMAGE])
        .arg("--output")
        .arg(layout);
    command.env(
        "CARGO_TARGET_DIR",
        programs.parent().context("programs lie below the target directory")?,
    );
    shell::output(command, None, PACK_DEADLINE).context("pack kuik's image")?;
    Ok(())
}

fn programs() -> Result<PathBuf> {
    let test = std::env::current_exe().context("find this test's program")?;
    let beside = test.ancestors().find(|path| !path.ends_with("deps") && path.is_dir());
    Ok(beside.context("a program has no directory")?.to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_workload_is_ready_when_every_pod_is_of_the_newest_version_and_ready() {
        let mut daemon_set = json!({
            "kind": "DaemonSet",
            "metadata": {"generation": 2},
            "status": {
                "observedGeneration": 2, "desiredNumberScheduled": 3, "numberReady": 3, "updatedNumberScheduled": 3,
            },
        });
        assert!(is_ready(&daemon_set));
        daemon_set["status"]["updatedNumberScheduled"] = json!(2);
        assert!(!is_ready(&daemon_set), "a rollout is under way");
        let deployment = json!({
            "kind": "Deployment",
            "metadata": {"generation": 2},
            "spec": {"replicas": 2},
            "status": {"observedGeneration": 1, "readyReplicas": 2, "updatedReplicas": 2},
        });
        assert!(!is_ready(&deployment), "nobody has looked at its newest version");
        let mut stateful_set = json!({
            "kind": "StatefulSet",
            "metadata": {"generation": 2},
            "spec": {"replicas": 3, "updateStrategy": {"type": "RollingUpdate"}},
            "status": {"observedGeneration": 2, "readyReplicas": 3, "updatedReplicas": 0},
        });
        assert!(!is_ready(&stateful_set), "a rollout is under way");
        stateful_set["spec"]["updateStrategy"]["type"] = json!("OnDelete");
        assert!(is_ready(&stateful_set), "nothing is replaced by itself");
    }
}
