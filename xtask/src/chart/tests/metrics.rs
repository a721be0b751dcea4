//! Alerts and dashboard ask for metrics that a program has.

use std::collections::BTreeSet;
use std::path::Path;

use crate::chart::{directory, read};
use crate::metadata::workspace_root;

const PREFIX: &str = "kube_image_keeper_";

fn names_in(text: &str) -> BTreeSet<String> {
    let starts = text.match_indices(PREFIX).map(|(start, _)| &text[start..]);
    let name = |rest: &str| {
        rest.chars()
            .take_while(|c| c.is_ascii_alphanumeric() || *c == '_')
            .collect::<String>()
    };
    starts.map(name).collect()
}

/// Names in the sources of the programs, tests excepted.
fn names_in_sources() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for part in ["cache-node", "raft", "proxy", "webhook", "controller", "daemon"] {
        collect(&workspace_root().join(part).join("src"), &mut names);
    }
    names
}

fn collect(directory: &Path, names: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(directory).expect("sources") {
        let path = entry.expect("entry").path();
        if path.is_dir() {
            collect(&path, names);
        } else if path.extension().is_some_and(|extension| extension == "rs") && !path.ends_with("tests.rs") {
            names.extend(names_in(&std::fs::read_to_string(path).expect("source")));
        }
    }
}

#[test]
fn what_is_asked_for_exists() {
    let sources = names_in_sources();
    assert!(sources.contains("kube_image_keeper_raft_has_quorum"));
    let asked =
        names_in(&(read("files/alerts.yaml").unwrap() + &read("files/dashboards/kube-image-keeper.json").unwrap()));
    assert!(asked.len() > 10, "{asked:?}");
    let known = |name: &&String| {
        let bare = ["_bucket", "_sum", "_count"]
            .iter()
            .find_map(|suffix| name.strip_suffix(suffix))
            .unwrap_or(name);
        sources.contains(bare) || sources.contains(name.as_str())
    };
    let unknown: Vec<&String> = asked.iter().filter(|name| !known(name)).collect();
    assert!(unknown.is_empty(), "no program has {unknown:?}");
}

#[test]
fn the_dashboard_is_what_grafana_reads() {
    let text = std::fs::read_to_string(directory().join("files/dashboards/kube-image-keeper.json")).unwrap();
    let dashboard: serde_json::Value = serde_json::from_str(&text).unwrap();
    let ids: BTreeSet<i64> = dashboard["panels"]
        .as_array()
        .unwrap()
        .iter()
        .map(|panel| panel["id"].as_i64().unwrap())
        .collect();
    assert_eq!(ids.len(), dashboard["panels"].as_array().unwrap().len());
}
