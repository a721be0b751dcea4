//! Every object is one that Kubernetes 1.24 to 1.37 takes, without a field it does not know.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::chart;
use super::helm::{Chart, helms, installed, scenarios};

const MINORS: std::ops::RangeInclusive<u32> = 24..=37;
/// The older set of schemas ends here, the newer begins before it.
const OLD_SCHEMAS_UNTIL: u32 = 30;

/// Complaints about files, as objects of Kubernetes 1.`minor`. Definitions of others (monitors, cert-manager) are not known.
fn complaints(schemas: &Path, minor: u32, files: &[PathBuf]) -> String {
    let mut command = Command::new("python3");
    command
        .env("PYTHONPATH", schemas)
        .args(["-m", "kubernetes_validate", "--strict", "--no-warn", "--quiet"]);
    let output = command
        .args(["-k", &format!("1.{minor}")])
        .args(files)
        .output()
        .expect("python3 starts");
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert_eq!(output.status.success(), !said.contains("ERROR"), "{said}");
    said
}

fn render_all(minor: u32, scenarios: &[&Path], into: &Path) -> Vec<PathBuf> {
    let render = |scenario: &&Path| {
        let chart = chart()?
            .kubernetes(&format!("1.{minor}.0"))
            .file(&scenario.display().to_string());
        let path = into.join(format!("{minor}-{}", scenario.file_name()?.to_string_lossy()));
        std::fs::write(
            &path,
            chart
                .text()
                .unwrap_or_else(|error| panic!("{scenario:?} for 1.{minor}: {error}")),
        )
        .expect("write");
        Some(path)
    };
    scenarios.iter().filter_map(render).collect()
}

#[test]
fn every_object_is_valid_for_every_kubernetes() {
    let (Some(old), Some(new), Some(_)) = (installed("KUIK_SCHEMAS_OLD"), installed("KUIK_SCHEMAS_NEW"), chart())
    else {
        return;
    };
    let directory = tempfile::tempdir().expect("directory");
    let all = scenarios();
    for minor in MINORS {
        // What depends on the version is in two scenarios; the oldest and the newest version get all of them.
        let wanted = |path: &&Path| {
            minor == *MINORS.start()
                || minor == *MINORS.end()
                || path.ends_with("all-values.yaml")
                || path.ends_with("values.yaml")
        };
        let scenarios: Vec<&Path> = all.iter().map(PathBuf::as_path).filter(wanted).collect();
        let files = render_all(minor, &scenarios, directory.path());
        assert!(files.len() >= 2, "{files:?}");
        let schemas = if minor <= OLD_SCHEMAS_UNTIL { &old } else { &new };
        let said = complaints(schemas, minor, &files);
        assert!(said.trim().is_empty(), "1.{minor}: {said}");
    }
}

#[test]
fn a_field_that_does_not_exist_would_be_found() {
    let (Some(new), Some(chart)) = (installed("KUIK_SCHEMAS_NEW"), chart()) else {
        return;
    };
    let directory = tempfile::tempdir().expect("directory");
    let file = directory.path().join("wrong.yaml");
    std::fs::write(
        &file,
        chart
            .text()
            .expect("renders")
            .replace("podManagementPolicy:", "podManagement:"),
    )
    .expect("write");
    assert!(complaints(&new, 34, &[file]).contains("podManagement"));
}

#[test]
fn helm_3_and_helm_4_render_the_same() {
    let [three, four] = helms() else { return };
    for scenario in scenarios() {
        // They order objects of one kind differently.
        let render = |helm: &PathBuf| {
            let mut objects = Chart::by(helm.clone()).file(&scenario.display().to_string()).render().0;
            objects.sort_by_key(|object| {
                (
                    object["kind"].to_string(),
                    object["metadata"]["namespace"].to_string(),
                    object["metadata"]["name"].to_string(),
                )
            });
            objects
        };
        let (by_three, by_four) = (render(three), render(four));
        assert_eq!(by_three.len(), by_four.len(), "{}", scenario.display());
        let differing = by_three.iter().zip(&by_four).find(|(one, other)| one != other);
        assert!(differing.is_none(), "{}: {differing:#?}", scenario.display());
    }
}

#[test]
fn kubernetes_that_is_too_old_is_refused() {
    let Some(chart) = chart() else { return };
    let error = chart.kubernetes("1.23.17").text().unwrap_err();
    assert!(error.contains("kubeVersion") && error.contains("1.24"), "{error}");
}
