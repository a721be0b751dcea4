//! Where cache nodes keep data, as far as it shows without a cluster.

use serde_json::{Value, json};

use super::{Chart, chart};

const GIB: i64 = 1 << 30;

fn claims(chart: &Chart) -> Value {
    let objects = chart.render();
    let set = objects.of("StatefulSet").next().unwrap();
    let volumes = set["spec"]["template"]["spec"]["volumes"].as_array().unwrap();
    let has_empty_dir = volumes.iter().any(|volume| volume["name"] == "kuik-data");
    let claims = set["spec"]["volumeClaimTemplates"].clone();
    assert_ne!(has_empty_dir, claims.is_array(), "one or the other");
    claims
}

#[test]
fn without_a_cluster_to_ask_nothing_waits_for_a_volume() {
    let Some(chart) = chart() else { return };
    assert_eq!(claims(&chart), Value::Null);
    assert_eq!(claims(&chart.set("registry.persistence.enabled=false")), Value::Null);
}

#[test]
fn volumes_are_claimed_where_asked_for() {
    let Some(chart) = chart() else { return };
    let claims = claims(&chart.clone().set("registry.persistence.enabled=true"));
    let spec = json!({ "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": "20Gi" } } });
    assert_eq!(claims[0]["spec"], spec);
    let class = |value: &str| {
        self::claims(
            &chart
                .clone()
                .set("registry.persistence.enabled=true")
                .set(&format!("registry.persistence.storageClass={value}")),
        )[0]["spec"]["storageClassName"]
            .clone()
    };
    assert_eq!((class("fast"), class("-")), (json!("fast"), json!("")));
    assert!(
        self::claims(&chart.clone().set("registry.persistence.storageClass=fast")).is_array(),
        "a named class is asked for"
    );
    let v1 = chart
        .set("registry.persistence.enabled=true")
        .set("registry.persistence.accessModes=ReadWriteMany");
    assert_eq!(self::claims(&v1)[0]["spec"]["accessModes"], json!(["ReadWriteMany"]));
}

#[test]
fn a_cache_node_keeps_less_than_what_it_is_evicted_for() {
    let Some(chart) = chart() else { return };
    let quota = |values: &[&str]| {
        let chart = values.iter().fold(chart.clone(), |chart, value| chart.set(value));
        let configuration = chart.render().configuration("cache-node.toml");
        let storage = configuration.get("storage")?;
        storage["quota_bytes"].as_integer()
    };
    let persistent = "registry.persistence.enabled=true";
    for (values, expected) in [
        (vec![], Some(18 * GIB)),
        (vec!["registry.persistence.size=1.5Gi"], Some(1_449_551_462)),
        (vec!["registry.persistence.size=30G"], Some(27_000_000_000)),
        (vec![persistent], Some(20 * GIB)),
        (vec![persistent, "registry.persistence.quota=1Ti"], Some(1024 * GIB)),
        (vec![persistent, "registry.persistence.quota=none"], None),
    ] {
        assert_eq!(quota(&values), expected, "{values:?}");
    }
    let tiny = chart.clone().set("registry.persistence.size=70Mi").text().unwrap_err();
    assert!(tiny.contains("raise size or quota"), "{tiny}");
    let word = chart.clone().set("registry.persistence.quota=lots").text().unwrap_err();
    assert!(word.contains("quota"), "{word}");
}

#[test]
fn volumes_outlive_the_release_where_the_server_can_say_so() {
    let Some(chart) = chart() else { return };
    let policy = |version: &str| {
        let objects = chart
            .clone()
            .set("registry.persistence.enabled=true")
            .kubernetes(version)
            .render();
        objects.of("StatefulSet").next().unwrap()["spec"]["persistentVolumeClaimRetentionPolicy"].clone()
    };
    assert_eq!(policy("1.26.0"), Value::Null);
    assert_eq!(
        policy("1.27.0"),
        json!({ "whenDeleted": "Retain", "whenScaled": "Retain" })
    );
}
