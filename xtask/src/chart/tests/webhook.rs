//! The webhook's registration: it must never keep a pod from being created.

use serde_json::{Value, json};

use super::chart;
use super::helm::Chart;

fn registration(chart: &Chart) -> Value {
    let objects = chart.render();
    let configuration = objects
        .of("MutatingWebhookConfiguration")
        .next()
        .expect("a registration");
    assert_eq!(configuration["webhooks"].as_array().map(Vec::len), Some(1));
    configuration["webhooks"][0].clone()
}

#[test]
fn a_webhook_that_is_away_stops_nothing() {
    let Some(chart) = chart() else { return };
    let webhook = registration(&chart);
    let expected = json!({
        "failurePolicy": "Ignore", "timeoutSeconds": 3, "sideEffects": "None",
        "matchPolicy": "Equivalent", "reinvocationPolicy": "IfNeeded",
    });
    for (key, value) in expected.as_object().unwrap() {
        assert_eq!(&webhook[key], value, "{key}");
    }
    let rules: Vec<Value> = webhook["rules"]
        .as_array()
        .unwrap()
        .iter()
        .map(|rule| json!([rule["resources"], rule["operations"]]))
        .collect();
    assert_eq!(
        rules,
        [
            json!([["pods"], ["CREATE", "UPDATE"]]),
            json!([["pods/ephemeralcontainers"], ["UPDATE"]])
        ]
    );
}

#[test]
fn the_authority_is_left_to_whoever_makes_it() {
    let Some(chart) = chart() else { return };
    let webhook = registration(&chart);
    // Neither an upgrade by Helm nor a tool that compares may take away what the controllers wrote.
    assert_eq!(webhook["clientConfig"].get("caBundle"), None);
    let own = registration(&chart.clone().file("ci/own-certificates-values.yaml"));
    assert!(own["clientConfig"]["caBundle"].is_string());
    let objects = chart.file("ci/cert-manager-values.yaml").render();
    let configuration = objects.of("MutatingWebhookConfiguration").next().unwrap();
    assert!(configuration["metadata"]["annotations"]["cert-manager.io/inject-ca-from"].is_string());
    assert_eq!(configuration["webhooks"][0]["clientConfig"].get("caBundle"), None);
}

#[test]
fn conditions_are_sent_only_to_servers_that_know_them() {
    let Some(chart) = chart() else { return };
    let has = |version: &str| registration(&chart.clone().kubernetes(version))["matchConditions"].is_array();
    assert_eq!(
        [
            has("1.24.0"),
            has("1.29.9"),
            has("1.30.0"),
            has("1.37.1"),
            has("1.33.5-gke.1000")
        ],
        [false, false, true, true, true]
    );
    let old = registration(&chart.clone().set("kubeVersion=1.28.0"));
    assert!(old["matchConditions"].is_null(), "kubeVersion is the user's word");
}

#[test]
fn pods_opt_out_by_label_and_users_add_expressions() {
    let Some(chart) = chart() else { return };
    let opt_out =
        json!({ "key": "kube-image-keeper.enix.io/image-caching-policy", "operator": "NotIn", "values": ["ignore"] });
    assert_eq!(
        registration(&chart)["objectSelector"]["matchExpressions"],
        json!([opt_out])
    );
    let with_own = registration(&chart.file("ci/kuik-v1-values.yaml"));
    let own = json!({ "key": "team", "operator": "NotIn", "values": ["games"] });
    assert_eq!(with_own["objectSelector"]["matchExpressions"], json!([opt_out, own]));
}

// With the ports of a node taken by one pod, a third pod may find no node, and the upgrade would wait for it for ever.
#[test]
fn on_the_hosts_network_one_goes_before_the_next_comes() {
    let Some(chart) = chart() else { return };
    let strategy = |chart: Chart| {
        let objects = chart.render();
        objects.get("Deployment", "kuik-kube-image-keeper-webhook")["spec"]["strategy"].clone()
    };
    let rolling = |surge: u32, away: u32| json!({ "type": "RollingUpdate", "rollingUpdate": { "maxSurge": surge, "maxUnavailable": away } });
    assert_eq!(strategy(chart.clone()), rolling(1, 0));
    let on_host = chart.set("webhook.hostNetwork=true");
    assert_eq!(strategy(on_host), rolling(0, 1));
}
