//! Certificates that change under pulls. The controllers make a change over days; here each of its steps is written for
//! them, and they do the rest.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use cluster::pods::{image_of, name_of};
use cluster::{Cluster, NAMESPACE, PROXY_NAMESPACE, Pod, Source, Stage, wait};
use serde_json::{Value, json};

use crate::{CACHED, READY, RUNNING, pods_of, traffic};

/// The Secret of the authorities.
const AUTHORITIES: &str = "kuik-kube-image-keeper-ca";

/// The Secrets of the parts.
const PARTS: [(&str, &str); 3] = [
    (NAMESPACE, "kuik-kube-image-keeper-registry-tls"),
    (NAMESPACE, "kuik-kube-image-keeper-webhook-tls"),
    (PROXY_NAMESPACE, "kuik-kube-image-keeper-proxy-tls"),
];

/// What the webhook says when it serves with another certificate.
const SERVING: &str = "serving certificate loaded";

/// For the controllers to have looked at all Secrets, which they do once a minute.
const WRITTEN: Duration = Duration::from_secs(120);

/// For a kubelet to bring a changed Secret into a pod, and for the program to read it.
const LOADED: Duration = Duration::from_secs(180);

#[test]
#[ignore = "long: make e2e"]
fn an_authority_is_replaced_and_no_pull_fails() {
    let Some(stage) = Stage::enter_own() else { return };
    let cluster = stage.cluster();
    let old = stage.must(secret(cluster, NAMESPACE, AUTHORITIES));
    let next = stage.must(make_authority());
    let tally = stage.must(traffic::during(&stage, "authority", || {
        let trusted = json!({"next.crt": next.cert, "next.key": next.key});
        step(cluster, &trusted, false, |part| part["ca.crt"] != old["ca.crt"])?;
        let signing = json!({"ca.crt": next.cert, "ca.key": next.key, "previous.crt": old["ca.crt"],
            "next.crt": null, "next.key": null});
        let before = secret(cluster, PARTS[0].0, PARTS[0].1)?;
        step(cluster, &signing, true, |part| part["tls.crt"] != before["tls.crt"])?;
        let alone = json!({"previous.crt": null});
        step(cluster, &alone, false, |part| part["ca.crt"] == next.cert)
    }));
    stage.must(tally.check());
    stage.must(tally.check_all_rewritten());
    stage.must(trusts_alone(cluster, &next.cert));
    stage.must(everyone_works(&stage, "authority-after"));
}

#[test]
#[ignore = "long: make e2e"]
fn lost_secrets_are_made_again_and_no_pull_fails() {
    let Some(stage) = Stage::enter_own() else { return };
    let cluster = stage.cluster();
    let tally = stage.must(traffic::during(&stage, "lost-secrets", || {
        let since = now()?;
        for (namespace, name) in PARTS.into_iter().chain([(NAMESPACE, AUTHORITIES)]) {
            cluster.kubectl(&["delete", "secret", name, "--namespace", namespace])?;
        }
        wait::until(WRITTEN, "the Secrets to be there again", || {
            let authority = secret(cluster, NAMESPACE, AUTHORITIES)?;
            Ok(every_part(cluster, |part| part["ca.crt"] == authority["ca.crt"])?.then_some(()))
        })?;
        wait_loaded(cluster, &since, true)
    }));
    stage.must(tally.check());
    stage.must(cluster::wait_ready(cluster, READY));
    stage.must(everyone_works(&stage, "lost-secrets-after"));
}

/// One step of a change: writes the authorities, and waits until every part's Secret and every program follow.
fn step(cluster: &Cluster, authorities: &Value, new_leaves: bool, followed: impl Fn(&Value) -> bool) -> Result<()> {
    let since = now()?;
    let patch = json!({"data": authorities}).to_string();
    cluster.kubectl(&[
        "patch",
        "secret",
        AUTHORITIES,
        "--namespace",
        NAMESPACE,
        "--type=merge",
        "--patch",
        &patch,
    ])?;
    wait::until(WRITTEN, "every part's Secret to follow", || {
        Ok(every_part(cluster, &followed)?.then_some(()))
    })?;
    wait_loaded(cluster, &since, new_leaves)
}

fn every_part(cluster: &Cluster, is: impl Fn(&Value) -> bool) -> Result<bool> {
    for (namespace, name) in PARTS {
        if !is(&secret(cluster, namespace, name)?) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The data of a Secret, in base64.
fn secret(cluster: &Cluster, namespace: &str, name: &str) -> Result<Value> {
    Ok(cluster.get(&["secret", name, "--namespace", namespace])?["data"].take())
}

/// Waits until every program has read its new certificate.
pub(crate) fn wait_loaded(cluster: &Cluster, since: &str, new_leaves: bool) -> Result<()> {
    touch_pods(cluster, since)?;
    wait::until(LOADED, "every program to read its certificate", || {
        for component in ["registry", "proxy", "webhook"] {
            for pod in pods_of(cluster, component)? {
                let (name, namespace) = (
                    name_of(&pod)?,
                    pod["metadata"]["namespace"].as_str().unwrap_or_default(),
                );
                let log = cluster.kubectl(&["logs", name, "--namespace", namespace, "--since-time", since])?;
                let loaded = |words: &str| log.contains(words);
                if !loaded("TLS certificates reloaded") || new_leaves && component == "webhook" && !loaded(SERVING) {
                    bail!("{name} has not");
                }
            }
        }
        Ok(Some(()))
    })?;
    Ok(())
}

/// A kubelet looks after a pod's volumes once a minute, and at once when the pod changes.
fn touch_pods(cluster: &Cluster, since: &str) -> Result<()> {
    let annotation = format!("kuik.test/touched={since}");
    for namespace in [NAMESPACE, PROXY_NAMESPACE] {
        cluster.kubectl(&[
            "annotate",
            "pods",
            "--all",
            "--overwrite",
            "--namespace",
            namespace,
            &annotation,
        ])?;
    }
    Ok(())
}

/// The API server and all parts trust this authority, and no other.
fn trusts_alone(cluster: &Cluster, authority: &str) -> Result<()> {
    ensure!(
        every_part(cluster, |part| part["ca.crt"] == authority)?,
        "a part trusts another authority"
    );
    let webhooks = cluster.list(&["mutatingwebhookconfigurations"])?;
    let bundles = webhooks
        .iter()
        .flat_map(|found| found["webhooks"].as_array().into_iter().flatten());
    for webhook in bundles {
        let bundle = &webhook["clientConfig"]["caBundle"];
        ensure!(
            bundle == authority,
            "the API server trusts {bundle} for {}",
            webhook["name"]
        );
    }
    Ok(())
}

/// The webhook is called, every node's proxy reaches the tier, and the tier records what it has.
fn everyone_works(stage: &Stage, name: &str) -> Result<()> {
    let cluster = stage.cluster();
    let image = stage.machine().publish(Source::Public, &format!("{name}:1"))?;
    let nodes = cluster.nodes()?;
    let pods: Vec<Pod> = nodes
        .iter()
        .map(|node| Pod::new(&format!("{name}-{node}"), &image).on(node))
        .collect();
    cluster.start(&pods[0], RUNNING)?;
    cluster.wait_cached(&image, CACHED)?;
    stage.machine().stop_sources()?;
    for pod in &pods {
        cluster.start(pod, RUNNING)?;
        let found = cluster.pod(pod)?;
        ensure!(
            image_of(&found)? == format!("localhost:7439/{image}"),
            "{} is not rewritten",
            name_of(&found)?
        );
    }
    stage.machine().start_sources()?;
    cluster.kubectl(&["delete", "pods", "--all"])?;
    Ok(())
}

/// A certificate and its key, in base64 as a Secret holds them.
struct Authority {
    cert: String,
    key: String,
}

fn make_authority() -> Result<Authority> {
    let directory = tempfile::tempdir().context("make a directory for the authority")?;
    let (cert, key) = (directory.path().join("ca.crt"), directory.path().join("ca.key"));
    let mut openssl = Command::new("openssl");
    openssl.args([
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-days",
        "3650",
    ]);
    openssl.args([
        "-subj",
        "/CN=another authority",
        "-addext",
        "keyUsage=critical,keyCertSign,cRLSign",
    ]);
    openssl.arg("-keyout").arg(&key).arg("-out").arg(&cert);
    let made = openssl.output().context("start openssl")?;
    ensure!(
        made.status.success(),
        "openssl: {}",
        String::from_utf8_lossy(&made.stderr)
    );
    Ok(Authority {
        cert: base64_of(&cert)?,
        key: base64_of(&key)?,
    })
}

fn base64_of(path: &Path) -> Result<String> {
    let encoded = Command::new("base64")
        .arg("--wrap=0")
        .arg(path)
        .output()
        .context("start base64")?;
    Ok(String::from_utf8(encoded.stdout)?)
}

/// The time, as `kubectl logs` takes it.
pub(crate) fn now() -> Result<String> {
    let printed = Command::new("date").args(["--utc", "+%Y-%m-%dT%H:%M:%SZ"]).output();
    Ok(String::from_utf8(printed.context("start date")?.stdout)?
        .trim()
        .to_owned())
}
