//! The programs' configuration files, and what must fit together in them.

use super::chart;
use super::helm::scenarios;

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

/// Writes a rendered file where a program can read it.
fn written(text: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().expect("file");
    std::fs::write(file.path(), text).expect("write");
    file
}

/// Authorities of the upstream section are read with it; those of the values are not on this machine.
fn programs_read(objects: &super::Objects) -> Result<(), Box<dyn std::error::Error>> {
    let text = |file: &str| objects.configuration_text(file).to_owned();
    // The pod's name says its ordinal.
    let cache_node = cache_node::Config::load(written(&format!("ordinal = 0\n{}", text("cache-node.toml"))).path())?;
    assert!(cache_node.access.enforce);
    proxy::Config::load(written(&text("proxy.toml")).path())?;
    webhook::Config::load(written(&text("webhook.toml")).path())?;
    webhook::policy::Policy::parse(&text("policy.toml"))?;
    controller::Config::load(written(&text("controller.toml")).path())?;
    Ok(())
}

#[test]
fn the_programs_read_what_the_chart_writes() {
    let Some(chart) = chart() else { return };
    for scenario in scenarios() {
        let objects = chart.clone().file(&scenario.display().to_string()).render();
        programs_read(&objects).unwrap_or_else(|error| panic!("{}: {error:?}", scenario.display()));
    }
}
