//! The programs' configuration files, and what must fit together in them.

use super::chart;

fn urls(table: &toml::Table, list: &str, key: &str) -> Vec<String> {
    let entries = table[list].as_array().unwrap().iter();
    entries.map(|entry| entry[key].as_str().unwrap().to_owned()).collect()
}

#[test]
fn every_part_knows_every_cache_node_by_its_own_name() {
    let Some(chart) = chart() else { return };
    for n_nodes in [1_usize, 3, 5] {
        let objects = chart.clone().set(&format!("registry.replicas={n_nodes}")).render();
        let host = |ordinal| {
            format!("kuik-kube-image-keeper-registry-{ordinal}.kuik-kube-image-keeper-registry-peers.kuik-system.svc")
        };
        let grpc: Vec<String> = (0..n_nodes)
            .map(|ordinal| format!("https://{}:5001", host(ordinal)))
            .collect();
        let registry: Vec<String> = (0..n_nodes)
            .map(|ordinal| format!("https://{}:5000", host(ordinal)))
            .collect();
        let cache_node = objects.configuration("cache-node.toml");
        assert_eq!(
            (
                urls(&cache_node, "peers", "grpc"),
                urls(&cache_node, "peers", "registry")
            ),
            (grpc.clone(), registry.clone())
        );
        assert_eq!(
            urls(&objects.configuration("proxy.toml"), "nodes", "registry"),
            registry
        );
        for file in ["webhook.toml", "controller.toml"] {
            assert_eq!(urls(&objects.configuration(file), "nodes", "grpc"), grpc, "{file}");
        }
    }
}

#[test]
fn access_to_private_images_is_enforced() {
    let Some(chart) = chart() else { return };
    let access = chart.render().configuration("cache-node.toml")["access"].clone();
    assert_eq!(
        (access["enforce"].as_bool(), access["keys_dir"].as_str()),
        (Some(true), Some("/etc/kuik/kek"))
    );
}

#[test]
fn the_port_is_one_for_all() {
    let Some(chart) = chart() else { return };
    let objects = chart.set("proxy.hostPort=7555").render();
    let listen = objects.configuration("proxy.toml")["listen"].clone();
    let listen: Vec<&str> = listen
        .as_array()
        .unwrap()
        .iter()
        .map(|address| address.as_str().unwrap())
        .collect();
    assert_eq!(listen, ["127.0.0.1:7555", "[::1]:7555"]);
    for file in ["webhook.toml", "controller.toml"] {
        assert_eq!(
            objects.configuration(file)["proxy_port"].as_integer(),
            Some(7555),
            "{file}"
        );
    }
}

#[test]
fn what_users_write_stays_within_its_string() {
    let Some(chart) = chart() else { return };
    let odd = r#"^a"b\\.c$"#;
    let chart = chart.set(&format!("controllers.webhook.ignoredImages={{{odd}}}"));
    let policy = chart.render().configuration("policy.toml");
    assert_eq!(
        policy["ignored_images"].as_array().unwrap()[0].as_str(),
        Some(r#"^a"b\.c$"#)
    );
}

#[test]
fn certificates_of_others_are_mounted_and_not_made() {
    let Some(chart) = chart() else { return };
    let mode = |chart: &super::Chart| {
        chart.render().configuration("controller.toml")["certificates"]["mode"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    assert_eq!(mode(&chart), "self");
    for file in ["ci/cert-manager-values.yaml", "ci/own-certificates-values.yaml"] {
        let chart = chart.clone().file(file);
        assert_eq!(mode(&chart), "provided", "{file}");
        for (object, pod) in chart.render().pods() {
            let volumes = pod["spec"]["volumes"].as_array().unwrap();
            assert!(
                volumes.iter().any(|volume| volume["name"] == "tls"),
                "{file}: {}",
                object["metadata"]["name"]
            );
        }
    }
    let apart = chart.clone().set("certificates.mode=certManager").text().unwrap_err();
    assert!(apart.contains("ClusterIssuer"), "{apart}");
    let unnamed = chart
        .set("certificates.mode=existing")
        .set("certificates.caBundle=eA==");
    let error = unnamed.text().unwrap_err();
    assert!(error.contains("certificates.existingSecrets"), "{error}");
}
