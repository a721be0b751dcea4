//! The other ways to install it: with Helm 4, from plain YAML, with certificates that somebody else makes.

use anyhow::{Result, ensure};
use cluster::pods::image_of;
use cluster::{Cluster, Installer, NAMESPACE, Pod, Source, Stage};

use crate::issuer::Issuer;
use crate::{CACHED, READY, RUNNING};

#[test]
#[ignore = "long: make e2e"]
fn both_helms_install_it_test_it_and_uninstall_it() {
    let Some(mut stage) = Stage::bare_own() else { return };
    for (installer, name) in [(Installer::Helm3, "helm-3"), (Installer::Helm4, "helm-4")] {
        stage.remove_kuik();
        stage.must(installer.install(stage.cluster(), stage.image(), &[]));
        stage.must(cluster::wait_ready(stage.cluster(), READY));
        stage.must(installer.test(stage.cluster()));
        stage.must(caches(&stage, name));
        stage.must(installer.uninstall(stage.cluster(), stage.image(), &[]));
        stage.must(rewrites_nothing(&stage, name));
    }
    stage.remove_kuik();
}

#[test]
#[ignore = "long: make e2e"]
fn plain_yaml_installs_it_and_takes_it_off_again() {
    let Some(mut stage) = Stage::bare_own() else { return };
    stage.remove_kuik();
    stage.must(Installer::PlainYaml.install(stage.cluster(), stage.image(), &[]));
    stage.must(cluster::wait_ready(stage.cluster(), READY));
    stage.must(caches(&stage, "plain-yaml"));
    stage.must(Installer::PlainYaml.uninstall(stage.cluster(), stage.image(), &[]));
    stage.must(rewrites_nothing(&stage, "plain-yaml"));
    stage.must(stage.cluster().kubectl(&["delete", "namespace", NAMESPACE]));
    stage.remove_kuik();
}

/// Everything that cert-manager would do is done here; only the program is not its own.
#[test]
#[ignore = "long: make e2e"]
fn certificates_of_cert_manager_are_used_and_renewed() {
    const VALUES: [&str; 6] = [
        "--set",
        "certificates.mode=certManager",
        "--set",
        "certificates.issuerRef.kind=ClusterIssuer",
        "--set",
        "certificates.issuerRef.name=test",
    ];
    let Some(mut stage) = Stage::bare_own() else { return };
    stage.remove_kuik();
    let issuer = stage.must(Issuer::install(stage.cluster()));
    stage.must(Installer::Helm3.install(stage.cluster(), stage.image(), &VALUES));
    stage.must(issuer.issue_all(stage.cluster()));
    stage.must(cluster::wait_ready(stage.cluster(), READY));
    stage.must(caches(&stage, "issued"));
    let since = stage.must(crate::certificates::now());
    stage.must(issuer.issue_all(stage.cluster()));
    stage.must(crate::certificates::wait_loaded(stage.cluster(), &since, true));
    stage.must(caches(&stage, "renewed"));
    stage.remove_kuik();
    // With the Secrets, which are nobody's any more.
    stage.must(stage.cluster().kubectl(&["delete", "namespace", NAMESPACE]));
    stage.must(issuer.uninstall(stage.cluster()));
}

/// A pod runs from a rewritten image, which the tier then has.
fn caches(stage: &Stage, name: &str) -> Result<()> {
    let cluster = stage.cluster();
    let image = stage.machine().publish(Source::Public, &format!("{name}:1"))?;
    let pod = Pod::new(name, &image);
    cluster.start(&pod, RUNNING)?;
    let found = cluster.pod(&pod)?;
    let used = image_of(&found)?;
    ensure!(used == format!("localhost:7439/{image}"), "{name} runs from {used}");
    cluster.wait_cached(&image, CACHED)?;
    cluster.delete(&pod)
}

/// Nothing is left that stands between a pod and its registry.
fn rewrites_nothing(stage: &Stage, name: &str) -> Result<()> {
    let cluster: &Cluster = stage.cluster();
    ensure!(cluster.list(&["mutatingwebhookconfigurations"])?.is_empty());
    let image = stage.machine().publish(Source::Public, &format!("{name}-after:1"))?;
    let pod = Pod::new(name, &image);
    cluster.start(&pod, RUNNING)?;
    let found = cluster.pod(&pod)?;
    let used = image_of(&found)?;
    ensure!(used == image, "{name} runs from {used}");
    cluster.delete(&pod)
}
