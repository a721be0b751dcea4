//! The chart, as the API server sees it.

use cluster::pods::image_of;
use cluster::{NAMESPACE, Pod, Source, Stage};

use crate::{CACHED, RUNNING};

/// What a user of kuik v1 has.
const V1_VALUES: &str = "../../charts/kube-image-keeper/ci/kuik-v1-values.yaml";

const CHART: &str = "../../charts/kube-image-keeper";

#[test]
#[ignore = "long: make e2e"]
fn a_values_file_of_v1_installs() {
    let values = std::fs::canonicalize(V1_VALUES).unwrap();
    let values = ["--values", values.to_str().unwrap()];
    let Some(mut stage) = Stage::enter_own_with(&values) else {
        return;
    };
    let image = stage.must(stage.machine().publish(Source::Public, "v1-values:1"));
    let pod = Pod::new("v1-values", &image);
    stage.must(stage.cluster().start(&pod, RUNNING));
    let found = stage.must(stage.cluster().pod(&pod));
    assert_eq!(stage.must(image_of(&found)), format!("localhost:7439/{image}"));
    stage.must(stage.cluster().wait_cached(&image, CACHED));
    stage.must(stage.cluster().delete(&pod));
    stage.remove_kuik();
}

#[test]
#[ignore = "long: make e2e"]
fn the_api_server_takes_every_rendered_manifest_strictly() {
    let Some(stage) = Stage::enter() else { return };
    let chart = std::fs::canonicalize(CHART).unwrap();
    let version = stage.must(stage.cluster().version());
    for values in ["values.yaml", "values-ha.yaml"] {
        let values = chart.join(values);
        let rendered = stage.must(stage.cluster().helm(&[
            "template",
            "--kube-version",
            &version,
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
