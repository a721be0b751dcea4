//! The chart, as the API server sees it.

use cluster::{Kuik, NAMESPACE, Stage};

/// What a user of kuik v1 has.
const V1_VALUES: &str = "../../charts/kube-image-keeper/ci/kuik-v1-values.yaml";

const CHART: &str = "../../charts/kube-image-keeper";

#[test]
#[ignore = "long: make e2e"]
fn a_values_file_of_v1_installs() {
    let Some(mut stage) = Stage::enter_own() else { return };
    stage.must(Kuik::uninstall(stage.cluster()));
    stage.forget_kuik();
    let values = std::fs::canonicalize(V1_VALUES).unwrap();
    stage.must(Kuik::install(
        stage.cluster(),
        stage.image(),
        &["--values", values.to_str().unwrap()],
    ));
    stage.must(Kuik::uninstall(stage.cluster()));
}

#[test]
#[ignore = "long: make e2e"]
fn the_api_server_takes_every_rendered_manifest_strictly() {
    let Some(stage) = Stage::enter() else { return };
    let chart = std::fs::canonicalize(CHART).unwrap();
    let version = stage.must(stage.cluster().kubectl(&["get", "--raw", "/version"]));
    let version: serde_json::Value = serde_json::from_str(&version).unwrap();
    let version = version["gitVersion"].as_str().unwrap();
    for values in ["values.yaml", "values-ha.yaml"] {
        let values = chart.join(values);
        let rendered = stage.must(stage.cluster().helm(&[
            "template",
            "--kube-version",
            version,
            // Beside what is installed, so that nothing of it is an update.
            "another",
            chart.to_str().unwrap(),
            "--namespace",
            NAMESPACE,
            "--values",
            values.to_str().unwrap(),
        ]));
        stage.must(stage.cluster().apply_strictly_dry(&rendered));
    }
}
