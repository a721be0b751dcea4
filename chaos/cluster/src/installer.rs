//! The ways in which people put the chart on a cluster, and take it off again.

use std::time::Duration;

use anyhow::{Context, Result};

use crate::access::checkout;
use crate::cluster::Cluster;
use crate::kuik::{NAMESPACE, PROXY_NAMESPACE, RELEASE};
use crate::wait;

/// For a namespace to end, with the pods in it.
const GONE_DEADLINE: Duration = Duration::from_secs(60);

/// A way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Installer {
    /// `helm upgrade --install` of Helm 3.
    Helm3,
    /// `helm upgrade --install` of Helm 4.
    Helm4,
    /// `helm template`, and what it prints to `kubectl apply`.
    PlainYaml,
}

impl Installer {
    /// Installs the chart, or upgrades it, and waits for nothing. `values` go to helm as they are.
    ///
    /// # Errors
    /// If helm or kubectl fails.
    pub fn install(self, cluster: &Cluster, image: &str, values: &[&str]) -> Result<()> {
        if self == Self::PlainYaml {
            let namespace =
                serde_json::json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}});
            cluster.apply(&namespace)?;
            return cluster.apply_manifests(&rendered(cluster, image, values)?);
        }
        let chart = ChartArguments::of(image)?;
        let command = ["upgrade", "--install", "--create-namespace"];
        self.helm(cluster, &chart.after(&command, values))?;
        Ok(())
    }

    /// Takes the chart off again, if it is there; the release's namespace and, by helm, the definitions of objects stay.
    /// Plain YAML is found again by the image and the values it was installed with.
    ///
    /// # Errors
    /// If helm or kubectl fails, or the proxies' namespace does not go.
    pub fn uninstall(self, cluster: &Cluster, image: &str, values: &[&str]) -> Result<()> {
        if self == Self::PlainYaml {
            cluster.delete_manifests(&rendered(cluster, image, values)?)?;
        } else {
            let command = ["uninstall", RELEASE, "--ignore-not-found", "--namespace", NAMESPACE];
            let patiently = ["--wait", "--timeout", "100s"];
            self.helm(cluster, &[command.as_slice(), &patiently].concat())?;
        }
        wait::until(GONE_DEADLINE, "the proxies' namespace to be gone", || {
            let found = cluster.kubectl(&["get", "namespace", PROXY_NAMESPACE, "--ignore-not-found"])?;
            Ok(found.is_empty().then_some(()))
        })?;
        Ok(())
    }

    /// Runs the chart's own test.
    ///
    /// # Errors
    /// If it fails, or there is none: plain YAML has no hooks.
    pub fn test(self, cluster: &Cluster) -> Result<()> {
        let command = ["test", RELEASE, "--namespace", NAMESPACE, "--timeout", "100s"];
        self.helm(cluster, &command)?;
        Ok(())
    }

    fn helm(self, cluster: &Cluster, arguments: &[&str]) -> Result<String> {
        match self {
            Self::Helm3 | Self::PlainYaml => cluster.helm(arguments),
            Self::Helm4 => cluster.helm4(arguments),
        }
    }
}

/// What every command that reads the chart is told.
struct ChartArguments {
    chart: String,
    settings: Vec<String>,
}

impl ChartArguments {
    fn of(image: &str) -> Result<Self> {
        let (repository, tag) = image.rsplit_once(':').context("an image has a tag")?;
        let (registry, repository) = repository.split_once('/').context("an image has a registry")?;
        Ok(Self {
            chart: checkout()
                .join("charts/kube-image-keeper")
                .to_string_lossy()
                .into_owned(),
            settings: vec![
                format!("image.registry={registry}"),
                format!("image.repository={repository}"),
                format!("image.tag={tag}"),
                "insecureRegistries={http://source.kuik.test,http://private.kuik.test}".to_owned(),
                "registry.persistence.size=5Gi".to_owned(),
            ],
        })
    }

    fn after<'a>(&'a self, command: &[&'a str], values: &[&'a str]) -> Vec<&'a str> {
        let mut arguments = command.to_vec();
        arguments.extend([RELEASE, &self.chart, "--namespace", NAMESPACE]);
        for setting in &self.settings {
            arguments.extend(["--set", setting]);
        }
        arguments.extend(values);
        arguments
    }
}

fn rendered(cluster: &Cluster, image: &str, values: &[&str]) -> Result<String> {
    let chart = ChartArguments::of(image)?;
    let version = cluster.version()?;
    cluster.helm(&chart.after(&["template", "--kube-version", &version], values))
}
