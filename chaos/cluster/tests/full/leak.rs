//! Looks for passwords wherever kuik writes something.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use cluster::pods::name_of;
use cluster::{Cluster, NAMESPACE, PROXY_NAMESPACE, Stage};
use serde_json::Value;

/// The port of `/metrics` of every part but the proxy.
const ADMIN_PORT: u16 = 8080;

/// The proxy's, on its node.
const PROXY_ADMIN_PORT: u16 = 7440;

/// Fails if one of the passwords, plain or as a registry's credentials have it, is in a log, a metric, an object or a file
/// of kuik's.
pub(crate) fn check(stage: &Stage, passwords: &[&str]) -> Result<()> {
    let mut needles = Vec::new();
    for password in passwords {
        needles.extend(forms(password)?);
    }
    let cluster = stage.cluster();
    let known = cluster.kubectl(&["get", "secrets", "--namespace", "team", "--output", "yaml"])?;
    ensure!(!found(&known, &needles).is_empty(), "this search finds nothing at all");
    let written = [logs(cluster)?, metrics(stage)?, objects(cluster)?].concat();
    for (place, text) in &written {
        let found = found(text, &needles);
        ensure!(found.is_empty(), "{place} contains {found:?}");
    }
    println!("no password in {} logs, metrics and lists of objects", written.len());
    no_file_has_one(stage, &needles)
}

/// A password as it may appear: itself, in base64, and in base64 behind its user.
fn forms(password: &str) -> Result<Vec<String>> {
    let mut forms = vec![password.to_owned()];
    for text in [password.to_owned(), format!("puller:{password}")] {
        // Three places of the text in what is encoded; the ends depend on what is around.
        for before in ["", "x", "xx"] {
            let encoded = base64(&format!("{before}{text}"))?;
            let inner = encoded.get(4..encoded.len().saturating_sub(4)).unwrap_or_default();
            forms.push(inner.to_owned());
        }
    }
    ensure!(
        forms.iter().all(|form| form.len() >= 8),
        "{password} is too short to be looked for"
    );
    Ok(forms)
}

fn base64(text: &str) -> Result<String> {
    let script = "printf %s \"$1\" | base64 --wrap=0";
    let printed = Command::new("sh").args(["-c", script, "sh", text]).output();
    Ok(String::from_utf8(printed.context("start base64")?.stdout)?)
}

fn found<'a>(text: &str, needles: &'a [String]) -> Vec<&'a String> {
    needles.iter().filter(|needle| text.contains(*needle)).collect()
}

fn kuiks_pods(cluster: &Cluster) -> Result<Vec<Value>> {
    let mut pods = cluster.list(&["pods", "--namespace", NAMESPACE])?;
    pods.extend(cluster.list(&["pods", "--namespace", PROXY_NAMESPACE])?);
    Ok(pods)
}

/// Of every container of every pod, also of those that ended before.
fn logs(cluster: &Cluster) -> Result<Vec<(String, String)>> {
    let mut logs = Vec::new();
    // One that waits to lead may have said nothing yet.
    for pod in kuiks_pods(cluster)? {
        let (name, namespace) = (
            name_of(&pod)?,
            pod["metadata"]["namespace"].as_str().unwrap_or_default(),
        );
        let arguments = ["logs", name, "--namespace", namespace, "--all-containers"];
        logs.push((format!("the log of {name}"), cluster.kubectl(&arguments)?));
        // There mostly is none, and then this fails.
        if let Ok(previous) = cluster.kubectl(&[arguments.as_slice(), &["--previous"]].concat()) {
            logs.push((format!("the previous log of {name}"), previous));
        }
    }
    Ok(logs)
}

fn metrics(stage: &Stage) -> Result<Vec<(String, String)>> {
    let mut metrics = Vec::new();
    for pod in kuiks_pods(stage.cluster())? {
        let is_proxy = pod["metadata"]["namespace"] == PROXY_NAMESPACE;
        let port = if is_proxy { PROXY_ADMIN_PORT } else { ADMIN_PORT };
        let address = pod["status"]["podIP"].as_str().context("a pod has an address")?;
        let url = format!("http://{address}:{port}/metrics");
        let text = stage
            .machine()
            .exec("n1", &["curl", "--silent", "--fail", "--max-time", "5", &url])?;
        metrics.push((format!("the metrics of {}", name_of(&pod)?), text));
    }
    Ok(metrics)
}

fn objects(cluster: &Cluster) -> Result<Vec<(String, String)>> {
    let namespaced = "all,configmaps,secrets,serviceaccounts,leases,events";
    let lists: [&[&str]; 4] = [
        &["get", namespaced, "--namespace", NAMESPACE],
        &["get", namespaced, "--namespace", PROXY_NAMESPACE],
        &["get", "cachedimages,repositories,mutatingwebhookconfigurations"],
        &["get", "events,pods", "--all-namespaces"],
    ];
    let get = |arguments: &&[&str]| {
        let text = cluster.kubectl(&[arguments, ["--output", "yaml"].as_slice()].concat())?;
        Ok((format!("kubectl {}", arguments.join(" ")), text))
    };
    lists.iter().map(get).collect()
}

/// On the disks of the nodes, where cache nodes keep credentials sealed.
fn no_file_has_one(stage: &Stage, needles: &[String]) -> Result<()> {
    for node in stage.cluster().nodes()? {
        let mut arguments = vec!["grep", "--recursive", "--files-with-matches", "--fixed-strings"];
        for needle in needles {
            arguments.extend(["--regexp", needle.as_str()]);
        }
        arguments.extend(["/var/lib/volumes", "/var/lib/kubelet/pods"]);
        // It fails where it finds nothing, and files come and go meanwhile.
        let files = stage.machine().exec(&node, &arguments).unwrap_or_default();
        ensure!(files.is_empty(), "on {node}: {files}");
    }
    Ok(())
}

#[test]
fn a_password_is_found_in_every_form() {
    let needles = forms("canary-b81f5d0c7e").unwrap();
    for text in [
        "canary-b81f5d0c7e",
        "puller:canary-b81f5d0c7e",
        "{\"password\":\"canary-b81f5d0c7e\"}",
    ] {
        for written in [text.to_owned(), base64(text).unwrap()] {
            assert!(!found(&written, &needles).is_empty(), "{written}");
        }
    }
    assert!(found("nothing of the kind", &needles).is_empty());
}
