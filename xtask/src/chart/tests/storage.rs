//! Where cache nodes keep data, as far as it shows without a cluster.

use serde_json::{Value, json};

use super::{Chart, chart};

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
