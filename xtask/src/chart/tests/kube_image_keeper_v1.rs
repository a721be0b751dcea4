//! A values file of kube-image-keeper v1 installs, and what it asks for is done or named.

use serde_json::json;

use super::helm::{Chart, installed, scenarios};
use super::{Objects, chart};
use crate::chart::{read, readme};
use crate::metadata::workspace_root;

fn v1() -> Option<Chart> {
    Some(chart()?.release("kube-image-keeper").file("ci/kuik-v1-values.yaml"))
}

fn env(objects: &Objects, part: &str, name: &str) -> Option<String> {
    let (_, pod) = objects
        .pods()
        .find(|(object, _)| object["metadata"]["name"] == format!("kube-image-keeper-{part}"))
        .unwrap();
    let env = pod["spec"]["containers"][0]["env"].as_array().unwrap();
    env.iter()
        .find(|variable| variable["name"] == name)
        .map(|variable| variable["value"].as_str().unwrap().to_owned())
}

#[test]
fn what_still_means_something_is_done() {
    let Some(chart) = v1() else { return };
    let objects = chart.render();
    let set = objects.get("StatefulSet", "kube-image-keeper-registry");
    assert_eq!(set["spec"]["replicas"], 1);
    assert!(
        set["spec"]["volumeClaimTemplates"].is_null(),
        "persistence.enabled: false"
    );
    assert_eq!(
        set["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"],
        json!({ "cpu": "1", "memory": "1Gi" })
    );
    assert_eq!(
        objects
            .of("PodDisruptionBudget")
            .map(|one| &one["metadata"]["name"])
            .collect::<Vec<_>>(),
        ["kube-image-keeper-webhook"]
    );
    let controller = objects.configuration("controller.toml");
    assert_eq!(
        controller["architectures"].as_array().unwrap()[0].as_str(),
        Some("amd64")
    );
    let policy = objects.configuration("policy.toml");
    assert_eq!(policy["ignore_pull_policy_always"].as_bool(), Some(true));
    assert_eq!(
        policy["ignored_images"].as_array().unwrap()[0].as_str(),
        Some("^internal/")
    );
    assert_eq!(env(&objects, "proxy", "KUIK_LOG").as_deref(), Some("info"));
    // v1's controllers fetched the images; now the cache nodes do, and need the way out.
    assert_eq!(
        env(&objects, "registry", "https_proxy").as_deref(),
        Some("http://proxy.corp:3128")
    );
}

#[test]
fn insecure_registries_match_with_a_scheme_too() {
    let Some(chart) = v1() else { return };
    let objects = chart.render();
    for file in ["cache-node.toml", "proxy.toml"] {
        let hosts = objects.configuration(file)["upstream"]["hosts"]
            .as_table()
            .unwrap()
            .clone();
        assert_eq!(hosts["registry.corp:5000"]["insecure"].as_bool(), Some(true), "{file}");
        assert_eq!(
            hosts["plain.corp:5000"]["url"].as_str(),
            Some("http://plain.corp:5000"),
            "{file}"
        );
    }
}

#[test]
fn no_part_runs_an_image_of_v1() {
    let Some(chart) = v1() else { return };
    for (object, pod) in chart.render().pods() {
        let image = pod["spec"]["containers"][0]["image"].as_str().unwrap();
        assert!(
            image.starts_with("ghcr.io/kube-image-keeper/"),
            "{}: {image}",
            object["metadata"]["name"]
        );
    }
    let tags = [
        "registry.image.tag=2.8",
        "registry.image.tag=1.14.0",
        "registry.image.repository=docker.io/library/registry",
        "registry.image.repository=quay.io/enix/kube-image-keeper",
    ];
    for value in tags {
        let rendered = chart.clone().set(value).render();
        let set = rendered.of("StatefulSet").next().unwrap();
        let image = set["spec"]["template"]["spec"]["containers"][0]["image"]
            .as_str()
            .unwrap();
        assert!(
            image.starts_with("ghcr.io/kube-image-keeper/") && image.ends_with(env!("CARGO_PKG_VERSION")),
            "{value}: {image}"
        );
    }
}

#[test]
fn the_metrics_port_of_v1s_pod_is_not_taken_from_the_host() {
    let Some(chart) = chart() else { return };
    let admin = |chart: &Chart| {
        chart.render().configuration("proxy.toml")["admin"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    assert_eq!(admin(&chart), "0.0.0.0:7440");
    let v1 = chart.clone().set("proxy.metricsPort=8080");
    assert_eq!(admin(&v1), "0.0.0.0:8080");
    assert_eq!(admin(&v1.set("proxy.hostNetwork=false")), "0.0.0.0:7440");
}

#[test]
fn probes_keep_their_timing_and_lose_their_handler() {
    let Some(chart) = chart() else { return };
    let chart = chart
        .set("registry.readinessProbe.httpGet.path=/v2/")
        .set("registry.readinessProbe.periodSeconds=7");
    let objects = chart.render();
    let set = objects.of("StatefulSet").next().unwrap();
    let probe = &set["spec"]["template"]["spec"]["containers"][0]["readinessProbe"];
    assert_eq!(
        (&probe["httpGet"], &probe["periodSeconds"]),
        (&json!({ "path": "/readyz", "port": "admin" }), &json!(7))
    );
}

// Defect 23 of v1: secrets were drawn at random at each rendering, so that a GitOps tool never came to rest.
#[test]
fn what_is_rendered_twice_is_the_same() {
    let Some(chart) = chart() else { return };
    for file in scenarios() {
        let chart = chart.clone().file(&file.display().to_string());
        let [one, other] = [chart.text().unwrap(), chart.text().unwrap()];
        assert!(one == other, "{}", file.display());
        assert_eq!(
            chart.render().of("Secret").count(),
            0,
            "{}: they are made in the cluster",
            file.display()
        );
    }
}

// Defects 7 and 22 of v1: a job stopped the registry for its garbage collection, or collected under its feet.
#[test]
fn nothing_stops_the_cache_or_shares_its_volume() {
    let Some(chart) = v1() else { return };
    let objects = chart
        .set("registry.persistence.enabled=true")
        .set("registry.persistence.accessModes=ReadWriteMany")
        .set("registry.replicas=3")
        .render();
    for kind in ["CronJob", "Job", "PersistentVolumeClaim"] {
        assert_eq!(objects.of(kind).count(), 0, "{kind}");
    }
    let set = objects.get("StatefulSet", "kube-image-keeper-registry");
    assert!(set["spec"]["volumeClaimTemplates"].is_array(), "a volume for each");
}

#[test]
fn every_value_without_effect_is_named_after_the_install() {
    let (Some(chart), Some(_)) = (v1(), installed("KUIK_HELM4")) else {
        return;
    };
    let notes = chart.notes().unwrap();
    let warnings = read("templates/_warnings.tpl").unwrap();
    let obsolete = readme::obsolete(&warnings).unwrap();
    assert!(obsolete.len() > 20);
    for (key, _) in obsolete {
        assert!(
            notes.contains(&format!("- {key}: not used")),
            "{key} is not named in {notes}"
        );
    }
    for key in [
        "registry.image",
        "proxy.image",
        "controllers.image",
        "proxy.hostNetwork",
        "registry.env",
    ] {
        assert!(
            notes.contains(&format!("- {key}: not used")),
            "{key} is not named in {notes}"
        );
    }
    let quiet = self::chart().unwrap().notes().unwrap();
    assert!(!quiet.contains("not used"), "{quiet}");
}

#[test]
fn every_defect_of_v1_names_a_test_that_exists() {
    let page = workspace_root().join("docs/operations/coming-from-v1.md");
    let page = std::fs::read_to_string(page).unwrap();
    let mut defects = Vec::new();
    for row in page.lines() {
        let cells: Vec<&str> = row.split(" | ").collect();
        let Some(defect) = cells[0].strip_prefix("| ").and_then(|cell| cell.parse::<u32>().ok()) else {
            continue;
        };
        defects.push(defect);
        let test = cells[cells.len() - 1].trim_end_matches([' ', '|']).trim_matches('`');
        let (file, name) = test.split_once("::").unwrap();
        let source =
            std::fs::read_to_string(workspace_root().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
        assert!(source.contains(&format!("fn {name}()")), "{test}");
    }
    assert_eq!(defects, (1..=26).collect::<Vec<_>>());
}
