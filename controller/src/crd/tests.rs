use super::*;

fn columns(definition: &CustomResourceDefinition) -> Vec<(String, String, String)> {
    let columns = definition.spec.versions[0]
        .additional_printer_columns
        .clone()
        .unwrap_or_default();
    let shown = columns.into_iter().filter(|column| column.priority.unwrap_or(0) == 0);
    shown
        .map(|column| (column.name, column.type_, column.json_path))
        .collect()
}

fn named(table: &[(&str, &str, &str)]) -> Vec<(String, String, String)> {
    let owned = table
        .iter()
        .map(|(name, kind, path)| ((*name).to_owned(), (*kind).to_owned(), (*path).to_owned()));
    owned.collect()
}

#[test]
fn columns_are_those_of_v1() {
    let [images, repositories] = definitions(false);
    let expected = [
        ("Status", "string", ".status.phase"),
        ("Cached", "boolean", ".status.isCached"),
        ("Retain", "boolean", ".spec.retain"),
        // v1's controller wrote spec.expiresAt (defect 20); the same column tells what will happen, from the status.
        ("Expires at", "string", ".status.expiresAt"),
        ("Pods count", "integer", ".status.usedBy.count"),
        ("Age", "date", ".metadata.creationTimestamp"),
    ];
    assert_eq!(columns(&images), named(&expected));
    let expected = [
        ("Status", "string", ".status.phase"),
        ("Images", "string", ".status.images"),
        ("Age", "date", ".metadata.creationTimestamp"),
    ];
    assert_eq!(columns(&repositories), named(&expected));
}

#[test]
fn names_and_scope_are_those_of_v1() {
    let table = [
        ("CachedImage", "cachedimages", "ci"),
        ("Repository", "repositories", "repo"),
    ];
    for (definition, (kind, plural, short)) in definitions(false).iter().zip(table) {
        let names = &definition.spec.names;
        assert_eq!((names.kind.as_str(), names.plural.as_str()), (kind, plural));
        assert_eq!(names.short_names, Some(vec![short.to_owned()]));
        assert_eq!(names.categories, Some(vec!["kuik".to_owned()]));
        assert_eq!(definition.spec.scope, "Cluster");
        assert_eq!(definition.spec.group, "kuik.enix.io");
        let [version] = definition.spec.versions.as_slice() else {
            panic!("one version")
        };
        assert!(version.name == "v1alpha1" && version.served && version.storage);
        assert!(version.subresources.as_ref().is_some_and(|sub| sub.status.is_some()));
    }
}

#[test]
fn objects_of_v1_are_understood() {
    let text = r#"{"apiVersion":"kuik.enix.io/v1alpha1","kind":"CachedImage","metadata":{"name":"docker.io-library-nginx-1.25"},
        "spec":{"sourceImage":"nginx:1.25","expiresAt":"2024-01-01T00:00:00Z"},
        "status":{"phase":"Ready","isCached":true,"usedBy":{"pods":[{"namespacedName":"a/b"}],"count":1},"digest":"ab","upToDate":true}}"#;
    let image: CachedImage = serde_json::from_str(text).unwrap();
    assert_eq!(image.spec.source_image, "nginx:1.25");
    assert_eq!(image.status.unwrap().used_by.unwrap().pods[0].namespaced_name, "a/b");
    let text = r#"{"apiVersion":"kuik.enix.io/v1alpha1","kind":"Repository","metadata":{"name":"r"},
        "spec":{"name":"docker.io/library/nginx","pullSecretNames":["s"],"pullSecretsNamespace":"n","updateInterval":"1h0m0s","updateFilters":["x"]}}"#;
    let repository: Repository = serde_json::from_str(text).unwrap();
    assert_eq!(repository.spec.update_interval.as_deref(), Some("1h0m0s"));
}

#[test]
fn every_field_of_v1_is_kept_and_of_its_type() {
    // What a schema does not name, the API server drops from objects that v1 wrote.
    let images = [
        ("spec/sourceImage", "string"),
        ("spec/expiresAt", "string"),
        ("spec/retain", "boolean"),
        ("status/phase", "string"),
        ("status/isCached", "boolean"),
        ("status/usedBy/pods/[]/namespacedName", "string"),
        ("status/usedBy/count", "integer"),
        ("status/digest", "string"),
        ("status/upstreamDigest", "string"),
        ("status/upToDate", "boolean"),
        ("status/availableUpstream", "boolean"),
        ("status/lastSync", "string"),
        ("status/lastSuccessfulPull", "string"),
        ("status/lastSeenUpstream", "string"),
    ];
    let repositories = [
        ("spec/name", "string"),
        ("spec/pullSecretNames/[]", "string"),
        ("spec/pullSecretsNamespace", "string"),
        ("spec/updateInterval", "string"),
        ("spec/updateFilters/[]", "string"),
        ("status/images", "integer"),
        ("status/phase", "string"),
        ("status/lastUpdate", "string"),
        ("status/conditions/[]/type", "string"),
    ];
    for (definition, fields) in definitions(true).iter().zip([&images[..], &repositories[..]]) {
        let definition = serde_json::to_value(definition).unwrap();
        let schema = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
        for (path, kind) in fields {
            let found = path.split('/').fold(schema, |schema, part| match part {
                "[]" => &schema["items"],
                name => &schema["properties"][name],
            });
            assert_eq!(found["type"], *kind, "{path}");
        }
        let required = |of: &str| schema["properties"][of]["required"].as_array().map_or(0, Vec::len);
        assert_eq!((required("spec"), required("status")), (1, 0), "as in v1");
    }
}

#[test]
fn an_image_that_nobody_uses_any_more_loses_its_list_of_pods() {
    let unused = serde_json::to_value(UsedBy::default()).unwrap();
    assert_eq!(unused, serde_json::json!({"pods": [], "count": 0, "workloads": []}));
}

#[test]
fn rules_are_left_out_unless_asked_for() {
    assert!(!print(false).unwrap().contains("x-kubernetes-validations"));
    assert_eq!(print(true).unwrap().matches("x-kubernetes-validations").count(), 2);
}

#[test]
fn conditions_are_a_map_by_type() {
    let printed = print(false).unwrap();
    assert_eq!(printed.matches("x-kubernetes-list-type: map").count(), 2, "{printed}");
}

#[test]
fn the_chart_carries_these_definitions() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../charts/kube-image-keeper/files/crds");
    let carried =
        ["cachedimages", "repositories"].map(|name| std::fs::read_to_string(format!("{folder}/{name}.yaml")).unwrap());
    let printed = carried.map(|text| format!("---\n{text}")).concat();
    assert!(
        printed == print(true).unwrap(),
        "write what `kuik-controller crds --rules` prints to {folder}, one file for each definition"
    );
}
