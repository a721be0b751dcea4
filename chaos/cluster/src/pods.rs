//! Pods as a test sees them: started, running, where, and from which image.

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::object::Pod;

impl Cluster {
    /// Creates a pod and waits until it is ready; says how long that took.
    ///
    /// # Errors
    /// If it is not ready in time, with its status.
    pub fn start(&self, pod: &Pod, deadline: Duration) -> Result<Duration> {
        self.apply(&pod.manifest())?;
        self.wait_running(pod, deadline)
    }

    /// Waits until a pod is ready.
    ///
    /// # Errors
    /// If it is not ready in time, with its status.
    pub fn wait_running(&self, pod: &Pod, deadline: Duration) -> Result<Duration> {
        let (namespace, name) = pod.key();
        self.wait_for(&["pod", name, "--namespace", namespace], "ready", deadline, is_ready)
    }

    /// The pod as the API server has it.
    ///
    /// # Errors
    /// If there is none.
    pub fn pod(&self, pod: &Pod) -> Result<Value> {
        let (namespace, name) = pod.key();
        self.get(&["pod", name, "--namespace", namespace])
    }

    /// Deletes a pod and waits until it is gone.
    ///
    /// # Errors
    /// If it does not go.
    pub fn delete(&self, pod: &Pod) -> Result<()> {
        let (namespace, name) = pod.key();
        self.kubectl(&["delete", "pod", name, "--namespace", namespace, "--ignore-not-found"])?;
        Ok(())
    }

    /// The pods with the label `app` of this value, in the namespace `default`, that are not about to end.
    ///
    /// # Errors
    /// If there is no API server.
    pub fn pods_of(&self, app: &str) -> Result<Vec<Value>> {
        let pods = self.list(&["pods", "--selector", &format!("app={app}")])?;
        Ok(pods
            .into_iter()
            .filter(|pod| pod["metadata"]["deletionTimestamp"].is_null())
            .collect())
    }

    /// The names of the nodes, in order.
    ///
    /// # Errors
    /// If there is no API server.
    pub fn nodes(&self) -> Result<Vec<String>> {
        let nodes = self.list(&["nodes"])?;
        nodes.iter().map(|node| name_of(node).map(str::to_owned)).collect()
    }

    /// The CachedImage for an image as its pod named it, if there is one.
    ///
    /// # Errors
    /// If kuik's definitions are not installed.
    pub fn cached_image(&self, image: &str) -> Result<Option<Value>> {
        let all = self.list(&["cachedimages"])?;
        Ok(all.into_iter().find(|cached| cached["spec"]["sourceImage"] == image))
    }

    /// Waits until the CachedImage of an image says that all of it is cached, with every copy made.
    ///
    /// # Errors
    /// If it does not say so in time, with its status.
    pub fn wait_cached(&self, image: &str, deadline: Duration) -> Result<Value> {
        let mut last = None;
        let waited = crate::wait::until(deadline, &format!("{image} to be cached"), || {
            last = self.cached_image(image)?;
            Ok(last.clone().filter(|cached| cached["status"]["phase"] == "Ready"))
        });
        match waited {
            Ok((cached, _)) => Ok(cached),
            Err(error) => Err(error.context(format!("last seen: {}", last.unwrap_or(Value::Null)))),
        }
    }

    /// Creates a namespace, if it is not there.
    ///
    /// # Errors
    /// If the API server refuses it.
    pub fn make_namespace(&self, name: &str) -> Result<()> {
        self.apply(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}))
    }
}

/// The image of a pod's first container.
///
/// # Errors
/// If it has none.
pub fn image_of(pod: &Value) -> Result<&str> {
    pod["spec"]["containers"][0]["image"]
        .as_str()
        .context("a pod has an image")
}

/// The node a pod is on.
///
/// # Errors
/// If it is on none yet.
pub fn node_of(pod: &Value) -> Result<&str> {
    pod["spec"]["nodeName"].as_str().context("the pod is on no node")
}

/// The name of an object.
///
/// # Errors
/// If it has none.
pub fn name_of(object: &Value) -> Result<&str> {
    object["metadata"]["name"].as_str().context("an object has a name")
}

/// Whether a pod says that it is ready.
pub fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
    conditions
        .into_iter()
        .any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}
