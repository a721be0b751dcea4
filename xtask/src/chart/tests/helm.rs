//! Renders the chart, and finds objects in what came out.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use serde::Deserialize;
use serde_json::Value;

use crate::chart::directory;

/// Rendered for this version of Kubernetes, unless a test says otherwise.
const KUBERNETES: &str = "1.34.0";
const RELEASE: &str = "kuik";
pub(super) const NAMESPACE: &str = "kuik-system";

/// One rendering, to be described and then run.
#[derive(Clone, Debug)]
pub(super) struct Chart {
    helm: PathBuf,
    release: String,
    kubernetes: String,
    arguments: Vec<String>,
}

/// The chart with its own values, by Helm 3. `None` where that is not installed.
pub(super) fn chart() -> Option<Chart> {
    helms().first().cloned().map(Chart::by)
}

/// The Helms to test with; a missing one is said aloud, and wrong where CI runs.
pub(super) fn helms() -> &'static [PathBuf] {
    static HELMS: OnceLock<Vec<PathBuf>> = OnceLock::new();
    HELMS.get_or_init(|| ["KUIK_HELM3", "KUIK_HELM4"].into_iter().filter_map(installed).collect())
}

/// The program a variable of `tools/with-env` names.
pub(super) fn installed(variable: &str) -> Option<PathBuf> {
    let path = std::env::var_os(variable)
        .map(PathBuf::from)
        .filter(|path| path.exists());
    if path.is_none() {
        assert!(
            std::env::var_os("CI").is_none(),
            "{variable} names nothing: run tools/setup test"
        );
        eprintln!("SKIPPED: no {variable}: run tools/setup test, and the tests under tools/with-env");
    }
    path
}

impl Chart {
    pub(super) fn by(helm: PathBuf) -> Self {
        Self {
            helm,
            release: RELEASE.to_owned(),
            kubernetes: KUBERNETES.to_owned(),
            arguments: Vec::new(),
        }
    }

    pub(super) fn release(mut self, name: &str) -> Self {
        name.clone_into(&mut self.release);
        self
    }

    pub(super) fn kubernetes(mut self, version: &str) -> Self {
        version.clone_into(&mut self.kubernetes);
        self
    }

    pub(super) fn set(self, value: &str) -> Self {
        self.with(&["--set", value])
    }

    /// A values file of the chart, by its path in it.
    pub(super) fn file(self, path: &str) -> Self {
        let path = directory().join(path);
        self.with(&["--values", &path.display().to_string()])
    }

    fn with(mut self, arguments: &[&str]) -> Self {
        self.arguments.extend(arguments.iter().map(ToString::to_string));
        self
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(&self.helm);
        command
            .args(arguments)
            .arg(&self.release)
            .arg(directory())
            .args(["--namespace", NAMESPACE]);
        // No cluster of the machine this runs on is asked.
        command.args(&self.arguments).env("KUBECONFIG", "/dev/null");
        command.output().expect("helm starts")
    }

    /// What `helm template` says.
    pub(super) fn text(&self) -> Result<String, String> {
        let output = self.run(&["template", "--kube-version", &self.kubernetes]);
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned());
        }
        Ok(String::from_utf8(output.stdout).expect("helm writes UTF-8"))
    }

    pub(super) fn render(&self) -> Objects {
        Objects::parse(
            &self
                .text()
                .unwrap_or_else(|error| panic!("{:?}: {error}", self.arguments)),
        )
    }

    /// The notes after an install. Only Helm 4 knows without a cluster what Kubernetes there is.
    pub(super) fn notes(&self) -> Option<String> {
        let chart = Self {
            helm: installed("KUIK_HELM4")?,
            ..self.clone()
        };
        let output = chart.run(&["install", "--dry-run=client"]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8_lossy(&output.stdout);
        Some(text.split_once("NOTES:").expect("the chart has notes").1.to_owned())
    }
}

/// What was rendered.
#[derive(Debug, PartialEq)]
pub(super) struct Objects(pub(super) Vec<Value>);

impl Objects {
    fn parse(text: &str) -> Self {
        let documents = serde_yaml_ng::Deserializer::from_str(text)
            .map(|document| Value::deserialize(document).expect("valid YAML"));
        Self(documents.filter(|document| !document.is_null()).collect())
    }

    /// The object of a kind and name, in whatever namespace.
    pub(super) fn get(&self, kind: &str, name: &str) -> &Value {
        let found = self.of(kind).find(|object| object["metadata"]["name"] == name);
        found.unwrap_or_else(|| panic!("no {kind} {name} among {:?}", self.names()))
    }

    pub(super) fn of(&self, kind: &str) -> impl Iterator<Item = &Value> {
        self.0.iter().filter(move |object| object["kind"] == kind)
    }

    /// `kind/name` of all, in the order of the output.
    pub(super) fn names(&self) -> Vec<String> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        self.0
            .iter()
            .map(|object| format!("{}/{}", text(&object["kind"]), text(&object["metadata"]["name"])))
            .collect()
    }

    /// Everything that starts pods, with the pods' metadata and spec.
    pub(super) fn pods(&self) -> impl Iterator<Item = (&Value, &Value)> {
        self.0
            .iter()
            .filter(|object| object["spec"]["template"]["spec"].is_object())
            .map(|object| (object, &object["spec"]["template"]))
    }

    /// A file of the programs' configuration, as it is mounted.
    pub(super) fn configuration_text(&self, file: &str) -> &str {
        let text = self.of("ConfigMap").find_map(|object| object["data"][file].as_str());
        text.unwrap_or_else(|| panic!("no {file}"))
    }

    /// The same, parsed.
    pub(super) fn configuration(&self, file: &str) -> toml::Table {
        let text = self.configuration_text(file);
        text.parse().unwrap_or_else(|error| panic!("{file}: {error}\n{text}"))
    }
}

/// The chart's scenarios: its own values, `values-ha.yaml`, and `ci/`.
pub(super) fn scenarios() -> Vec<PathBuf> {
    let listed = std::fs::read_dir(directory().join("ci")).expect("ci/");
    let mut files: Vec<PathBuf> = listed.map(|entry| entry.expect("entry").path()).collect();
    files.extend(["values.yaml", "values-ha.yaml"].map(|name| directory().join(name)));
    files.sort();
    files
        .iter()
        .map(|file| {
            file.strip_prefix(directory())
                .map(Path::to_owned)
                .expect("below the chart")
        })
        .collect()
}
