//! A cluster as its users see it: objects in, objects out.

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::access::Access;
use crate::machine::Machine;
use crate::recording::Recording;
use crate::{shell, wait};

/// How long one `kubectl` or `helm` command may take.
const COMMAND_DEADLINE: Duration = Duration::from_secs(120);

/// A running cluster.
#[derive(Debug)]
pub struct Cluster {
    access: Access,
    machine: Option<Machine>,
}

impl Cluster {
    pub(crate) fn new(access: Access) -> Self {
        let machine = match &access {
            Access::Own { .. } => Some(Machine::new(access.clone())),
            Access::Kubeconfig(_) => None,
        };
        Self { access, machine }
    }

    /// What can be broken; nothing if the cluster is not of our own making.
    pub fn machine(&self) -> Option<&Machine> {
        self.machine.as_ref()
    }

    /// Runs `kubectl` and returns what it printed.
    ///
    /// # Errors
    /// If it fails, with its message.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        self.client("kubectl", arguments, None)
    }

    /// Runs `helm` and returns what it printed.
    ///
    /// # Errors
    /// If it fails, with its message.
    pub fn helm(&self, arguments: &[&str]) -> Result<String> {
        self.client("helm", arguments, None)
    }

    /// Runs Helm 4, on a cluster of our own making.
    ///
    /// # Errors
    /// As [`Cluster::helm`].
    pub fn helm4(&self, arguments: &[&str]) -> Result<String> {
        self.client("helm4", arguments, None)
    }

    /// The version of Kubernetes, such as `v1.34.9`.
    ///
    /// # Errors
    /// If the API server does not say.
    pub fn version(&self) -> Result<String> {
        let answer: Value = serde_json::from_str(&self.kubectl(&["get", "--raw", "/version"])?)?;
        Ok(answer["gitVersion"].as_str().context("a version")?.to_owned())
    }

    /// Applies manifests, as they are written, by the server.
    ///
    /// # Errors
    /// If the API server refuses one.
    pub fn apply_manifests(&self, manifests: &str) -> Result<()> {
        let arguments = ["apply", "--server-side", "--filename", "-"];
        self.client("kubectl", &arguments, Some(manifests))?;
        Ok(())
    }

    /// Deletes what manifests name, as far as it is there, and waits until it is gone.
    ///
    /// # Errors
    /// If something does not go.
    pub fn delete_manifests(&self, manifests: &str) -> Result<()> {
        let arguments = ["delete", "--ignore-not-found", "--filename", "-"];
        self.client("kubectl", &arguments, Some(manifests))?;
        Ok(())
    }

    /// Applies one object.
    ///
    /// # Errors
    /// If the API server refuses it.
    pub fn apply(&self, object: &Value) -> Result<()> {
        let text = object.to_string();
        self.client("kubectl", &["apply", "--filename", "-"], Some(&text))?;
        Ok(())
    }

    /// Creates objects that are not there yet, in one go.
    ///
    /// # Errors
    /// If the API server refuses one; the others are made all the same.
    pub fn create(&self, objects: &[Value]) -> Result<()> {
        let list = json!({"apiVersion": "v1", "kind": "List", "items": objects}).to_string();
        self.client("kubectl", &["create", "--filename", "-"], Some(&list))?;
        Ok(())
    }

    /// Writes down every state that objects go through from now on, a line each.
    ///
    /// # Errors
    /// If `kubectl` cannot be started.
    pub fn watch(&self, arguments: &[&str]) -> Result<Recording> {
        let mut command = self.access.client("kubectl");
        command.args([&["get", "--watch"], arguments].concat());
        Recording::start(command)
    }

    /// Has the API server check manifests strictly, without keeping them.
    ///
    /// # Errors
    /// If it refuses one, or does not know a field of one.
    pub fn apply_strictly_dry(&self, manifests: &str) -> Result<()> {
        let arguments = [
            "apply",
            "--dry-run=server",
            "--validate=strict",
            "--server-side",
            "--force-conflicts",
            "--filename",
            "-",
        ];
        self.client("kubectl", &arguments, Some(manifests))?;
        Ok(())
    }

    /// Asks for objects: `get(&["pods", "--namespace", "x"])`; a list or one object, as `kubectl get` does.
    ///
    /// # Errors
    /// If there is no such object, or no API server.
    pub fn get(&self, arguments: &[&str]) -> Result<Value> {
        let arguments = [&["get"], arguments, &["--output", "json"]].concat();
        let text = self.kubectl(&arguments)?;
        serde_json::from_str(&text).context("parse kubectl's answer")
    }

    /// The objects of a list.
    ///
    /// # Errors
    /// As [`Cluster::get`].
    pub fn list(&self, arguments: &[&str]) -> Result<Vec<Value>> {
        let list = self.get(arguments)?;
        Ok(list["items"].as_array().cloned().unwrap_or_default())
    }

    /// Waits for an object to be as `is` wants it, and says how long that took.
    ///
    /// # Errors
    /// After the deadline, with the object's status as it was last.
    pub fn wait_for(
        &self,
        arguments: &[&str],
        what: &str,
        deadline: Duration,
        is: impl Fn(&Value) -> bool,
    ) -> Result<Duration> {
        let mut last = Value::Null;
        let waited = wait::until(deadline, &format!("{arguments:?} to be {what}"), || {
            last = self.get(arguments)?;
            Ok(is(&last).then_some(()))
        });
        match waited {
            Ok(((), took)) => Ok(took),
            Err(error) => Err(error.context(format!("last seen: {}", last["status"]))),
        }
    }

    fn client(&self, program: &str, arguments: &[&str], input: Option<&str>) -> Result<String> {
        let mut command = self.access.client(program);
        command.args(arguments);
        shell::output(command, input, COMMAND_DEADLINE)
    }
}
