//! Policies from files, and what they leave alone.

use std::error::Error;

use serde_json::json;

use super::*;

fn pod(metadata: serde_json::Value) -> Pod {
    serde_json::from_value(json!({ "metadata": metadata, "spec": {} })).unwrap()
}

fn keeps(policy: &str, image: &str, pull_policy: Option<&str>) -> Option<Kept> {
    let slot = Slot {
        place: proto::pod::Place::Container,
        index: 0,
        name: "app",
        image,
        pull_policy,
    };
    let parsed = image.parse().unwrap();
    Policy::parse(policy).unwrap().keeps(&slot, image, &parsed)
}

#[test]
fn pull_policies_are_read_as_kubernetes_reads_them() {
    let always = "ignore_pull_policy_always = true";
    let digest = format!("nginx@{}", oci::Digest::sha256(b"x"));
    let table = [
        (always, "nginx:1", Some("Never"), Some(Kept::PullPolicyNever)),
        ("", "nginx", Some("Never"), Some(Kept::PullPolicyNever)),
        ("", "nginx", Some("Always"), None),
        ("", "nginx:latest", None, None),
        (always, "nginx:1", Some("Always"), Some(Kept::PullPolicyAlways)),
        (always, "nginx", None, Some(Kept::PullPolicyAlways)),
        (always, "nginx:latest", None, Some(Kept::PullPolicyAlways)),
        (always, "nginx:1", None, None),
        (always, "nginx", Some("IfNotPresent"), None),
        (always, &digest, None, None),
    ];
    for (policy, image, pull_policy, expected) in table {
        assert_eq!(
            keeps(policy, image, pull_policy),
            expected,
            "{policy} {image} {pull_policy:?}"
        );
    }
}

/// kube-image-keeper v1 took the `:` of the port for that of a tag.
#[test]
fn registry_with_a_port_and_no_tag_is_latest() {
    let always = "ignore_pull_policy_always = true";
    assert_eq!(keeps(always, "reg:5000/app", None), Some(Kept::PullPolicyAlways));
    assert_eq!(keeps(always, "reg:5000/app:1", None), None);
}

#[test]
fn patterns_match_anywhere_in_the_image_as_written() {
    let policy = r#"
        ignored_images = ["^nginx", "/secret/"]
        accepted_images = ["nginx", "quay\\.io/"]
    "#;
    let table = [
        ("nginx:1", Some(Kept::Ignored("^nginx".into()))),
        ("docker.io/nginx", None),
        ("quay.io/a/b", None),
        ("quay.io/secret/b", Some(Kept::Ignored("/secret/".into()))),
        ("ghcr.io/a/b", Some(Kept::NotAccepted)),
    ];
    for (image, expected) in table {
        assert_eq!(keeps(policy, image, None), expected, "{image}");
    }
}

#[test]
fn some_pods_are_not_looked_at() {
    let policy = Policy::parse(r#"ignored_namespaces = ["batch"]"#).unwrap();
    let own = ["kuik".to_owned(), "kuik-proxy".to_owned()];
    let untouched = |metadata, namespace| policy.untouched(&pod(metadata), namespace, &own);
    let namespace = Some(Untouched::Namespace);
    for name in ["kuik", "kuik-proxy", "kube-system", "batch"] {
        assert_eq!(untouched(json!({}), name), namespace, "{name}");
    }
    let opted_out = json!({"labels": {"kube-image-keeper.enix.io/image-caching-policy": "ignore"}});
    assert_eq!(untouched(opted_out, "default"), Some(Untouched::OptedOut));
    let mirror = json!({"annotations": {"kubernetes.io/config.mirror": "0123"}});
    assert_eq!(untouched(mirror, "default"), Some(Untouched::Mirror));
    let of_node = json!({"ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": "n", "uid": "u"}]});
    assert_eq!(untouched(of_node, "default"), Some(Untouched::Mirror));
    let ending = json!({"deletionTimestamp": "2026-01-01T00:00:00Z"});
    assert_eq!(untouched(ending, "default"), Some(Untouched::Ending));
    assert_eq!(untouched(json!({}), "default"), None);
}

#[test]
fn operators_that_compare_pods_are_known() {
    let owned = |api: &str, kind: &str| {
        pod(json!({"ownerReferences": [{"apiVersion": api, "kind": kind, "name": "x", "uid": "u"}]}))
    };
    let policy = Policy::default();
    let by_owner = policy.holds(&owned("postgresql.cnpg.io/v1", "Cluster"));
    assert_eq!(by_owner, Some(Kept::Operator("postgresql.cnpg.io/Cluster".into())));
    let by_label = policy.holds(&pod(json!({"labels": {"cnpg.io/podRole": "instance"}})));
    assert_eq!(by_label, Some(Kept::Operator("label cnpg.io/podRole".into())));
    assert_eq!(policy.holds(&owned("apps/v1", "ReplicaSet")), None);
}

#[test]
fn pods_that_run_where_no_proxy_does_are_left_alone() {
    let spec =
        |spec: serde_json::Value| -> Pod { serde_json::from_value(json!({"metadata": {}, "spec": spec})).unwrap() };
    let policy = Policy::default();
    let held = |pod: &Pod| policy.holds(pod);
    let fargate = pod(json!({"labels": {"eks.amazonaws.com/fargate-profile": "default"}}));
    let table = [
        (spec(json!({"os": {"name": "windows"}})), Some("Windows")),
        (
            spec(json!({"nodeSelector": {"kubernetes.io/os": "windows"}})),
            Some("Windows"),
        ),
        (
            spec(json!({"nodeSelector": {"type": "virtual-kubelet"}})),
            Some("virtual nodes"),
        ),
        (fargate, Some("Fargate")),
        (
            spec(json!({"os": {"name": "linux"}, "nodeSelector": {"kubernetes.io/os": "linux"}})),
            None,
        ),
    ];
    for (pod, place) in table {
        assert_eq!(held(&pod), place.map(Kept::NoProxyThere), "{pod:?}");
    }
}

#[test]
fn what_is_skipped_can_be_said_otherwise() {
    let policy = Policy::parse("skip_owners = []\nskip_labels = [\"team=db\"]").unwrap();
    let labelled = |value: &str| pod(json!({"labels": {"team": value, "cnpg.io/podRole": "instance"}}));
    assert!(policy.holds(&labelled("db")).is_some());
    assert!(policy.holds(&labelled("web")).is_none());
}

#[test]
fn mistakes_name_key_and_line() {
    let unknown = Policy::parse("ignored_images = []\nignored = []").unwrap_err();
    let text = unknown.to_string();
    assert!(text.contains("line 2") && text.contains("ignored"), "{text}");
    let pattern = Policy::parse("accepted_images = [\"(\"]").unwrap_err();
    assert!(pattern.to_string().contains("accepted_images"), "{pattern}");
    assert!(pattern.source().is_some());
}
