//! Who may do what: pods are restricted, rights are few, and nothing of kuik waits for kuik.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::helm::{NAMESPACE, Objects};
use super::{Chart, chart};

fn texts(value: &Value) -> Vec<String> {
    let items = value.as_array().into_iter().flatten();
    items.map(|item| item.as_str().unwrap_or_default().to_owned()).collect()
}

#[test]
fn pods_are_what_pod_security_calls_restricted() {
    let Some(chart) = chart() else { return };
    let objects = chart.set("cleanup.enabled=true").render();
    assert_eq!(objects.pods().count(), 5);
    for (object, pod) in objects.pods() {
        let name = &object["metadata"]["name"];
        let (pod, container) = (&pod["spec"], &pod["spec"]["containers"][0]);
        assert_eq!(pod["securityContext"]["runAsNonRoot"], true, "{name}");
        assert_eq!(
            pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault",
            "{name}"
        );
        let expected = json!({ "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": { "drop": ["ALL"] } });
        assert_eq!(container["securityContext"], expected, "{name}");
        let volumes = pod["volumes"].as_array().unwrap();
        assert!(volumes.iter().all(|volume| volume["hostPath"].is_null()), "{name}");
        assert_eq!(pod["hostNetwork"] == true, object["kind"] == "DaemonSet", "{name}");
    }
}

#[test]
fn the_namespace_of_the_proxies_alone_is_privileged() {
    let Some(chart) = chart() else { return };
    let objects = chart.clone().render();
    let namespaces: Vec<&Value> = objects.of("Namespace").collect();
    assert_eq!(namespaces.len(), 1);
    assert_eq!(namespaces[0]["metadata"]["name"], "kuik-system-proxy");
    assert_eq!(
        namespaces[0]["metadata"]["labels"]["pod-security.kubernetes.io/enforce"],
        "privileged"
    );
    let none = |chart: Chart| assert_eq!(chart.render().of("Namespace").count(), 0);
    none(chart.clone().set("proxy.createNamespace=false"));
    none(chart.set(&format!("proxy.namespaceOverride={NAMESPACE}")));
}

#[test]
fn nothing_of_kuik_is_rewritten_or_waits_for_its_webhook() {
    let Some(chart) = chart() else { return };
    let objects = chart.set("controllers.webhook.ignoredNamespaces={other}").render();
    let registration = objects.of("MutatingWebhookConfiguration").next().unwrap();
    let selector = &registration["webhooks"][0]["namespaceSelector"]["matchExpressions"][0];
    assert_eq!(selector["operator"], "NotIn");
    let ignored: BTreeSet<String> = texts(&selector["values"]).into_iter().collect();
    assert_eq!(
        ignored,
        ["kube-system", NAMESPACE, "kuik-system-proxy", "other"]
            .map(str::to_owned)
            .into()
    );
    for (object, pod) in objects.pods() {
        let name = &object["metadata"]["name"];
        assert!(
            ignored.contains(object["metadata"]["namespace"].as_str().unwrap()),
            "{name}"
        );
        assert_eq!(
            pod["metadata"]["labels"]["kube-image-keeper.enix.io/image-caching-policy"], "ignore",
            "{name}"
        );
        assert!(
            pod["spec"]["priorityClassName"]
                .as_str()
                .unwrap()
                .starts_with("system-"),
            "{name}"
        );
    }
    for file in ["policy.toml", "controller.toml"] {
        let configured = objects.configuration(file)["ignored_namespaces"]
            .as_array()
            .unwrap()
            .clone();
        let configured: BTreeSet<String> = configured
            .iter()
            .map(|name| name.as_str().unwrap().to_owned())
            .collect();
        assert_eq!(configured, ignored, "{file}");
    }
}

/// Rules bound to a service account, each with the namespace it is good for (`*` for all).
fn rules_of(objects: &Objects, account: &str) -> Vec<(String, Value)> {
    let mut rules = Vec::new();
    let bindings = objects.of("ClusterRoleBinding").chain(objects.of("RoleBinding"));
    for binding in bindings.filter(|binding| binding["subjects"][0]["name"] == account) {
        let role = objects.get(
            binding["roleRef"]["kind"].as_str().unwrap(),
            binding["roleRef"]["name"].as_str().unwrap(),
        );
        let namespace = binding["metadata"]["namespace"].as_str().unwrap_or("*");
        rules.extend(
            role["rules"]
                .as_array()
                .unwrap()
                .iter()
                .map(|rule| (namespace.to_owned(), rule.clone())),
        );
    }
    rules
}

/// The rules as `namespace group/resource name,name: verb,verb`, one line for each resource.
fn printed(rules: &[(String, Value)]) -> BTreeSet<String> {
    let mut lines = BTreeSet::new();
    for (namespace, rule) in rules {
        let names = texts(&rule["resourceNames"])
            .join(",")
            .replace("kuik-kube-image-keeper", "F");
        for (group, resource) in texts(&rule["apiGroups"]).iter().flat_map(|group| {
            texts(&rule["resources"])
                .into_iter()
                .map(move |resource| (group, resource))
        }) {
            let line = format!(
                "{namespace} {group}/{resource} {names}: {}",
                texts(&rule["verbs"]).join(",")
            );
            assert!(lines.insert(line), "a right is given twice: {rule}");
        }
    }
    lines
}

// That this is enough is shown by the controller's stories (controller/tests/kubernetes), which run with these rights.
// Each line is a call in controller/src; v1's controllers could read and change everything about pods and list all secrets.
#[test]
fn the_controllers_may_do_what_they_do_and_nothing_else() {
    let Some(chart) = chart() else { return };
    let account = "kuik-kube-image-keeper-controllers";
    let expected = [
        "* /pods : get,list,watch,patch",
        "* /serviceaccounts : get",
        "* /secrets : get",
        "* apps/daemonsets : list,watch",
        "* apps/deployments : list,watch",
        "* apps/statefulsets : list,watch",
        "* batch/cronjobs : list,watch",
        "* batch/jobs : list,watch",
        "* /nodes : list,watch",
        "* events.k8s.io/events : get,create,patch",
        "* kuik.enix.io/cachedimages : get,list,watch,create,patch",
        "* kuik.enix.io/repositories : get,list,watch,create,patch",
        "* kuik.enix.io/cachedimages : delete",
        "* kuik.enix.io/cachedimages/status : patch",
        "* kuik.enix.io/repositories/status : patch",
        "* admissionregistration.k8s.io/mutatingwebhookconfigurations F-mutating-webhook: get,patch,delete",
        "kuik-system coordination.k8s.io/leases : create",
        "kuik-system coordination.k8s.io/leases F-controllers: get,update,delete",
        "kuik-system apps/deployments F-controllers: get,delete",
        "kuik-system /secrets : create",
        "kuik-system /secrets F-kek: get",
        "kuik-system /secrets F-ca,F-registry-tls,F-webhook-tls: get,update,delete",
        "kuik-system-proxy /secrets : create",
        "kuik-system-proxy /secrets F-proxy-tls: get,update,delete",
    ];
    let expected: BTreeSet<String> = expected.map(str::to_owned).into();
    assert_eq!(printed(&rules_of(&chart.clone().render(), account)), expected);

    let without = chart.clone().set("rbac.pullSecrets=false").render();
    let rules = printed(&rules_of(&without, account));
    assert_eq!(
        expected.difference(&rules).collect::<Vec<_>>(),
        ["* /secrets : get"],
        "pull secrets are not read"
    );

    // Where others make the certificates, only the key that seals credentials is made.
    let provided = chart.file("ci/own-certificates-values.yaml").render();
    let secrets = printed(&rules_of(&provided, account));
    let secrets: Vec<&String> = secrets.iter().filter(|line| line.contains("/secrets")).collect();
    assert_eq!(
        secrets,
        [
            "* /secrets : get",
            "kuik-system /secrets : create",
            "kuik-system /secrets F-kek: get"
        ]
    );
}

#[test]
fn proxies_and_cache_nodes_have_no_rights_and_no_token() {
    let Some(chart) = chart() else { return };
    let objects = chart.render();
    for part in ["proxy", "registry"] {
        let name = format!("kuik-kube-image-keeper-{part}");
        assert!(rules_of(&objects, &name).is_empty(), "{part}");
        assert_eq!(
            objects.get("ServiceAccount", &name)["automountServiceAccountToken"],
            false,
            "{part}"
        );
        let (_, pod) = objects
            .pods()
            .find(|(object, _)| object["metadata"]["name"] == name.as_str())
            .unwrap();
        assert_eq!(
            (
                &pod["spec"]["serviceAccountName"],
                &pod["spec"]["automountServiceAccountToken"]
            ),
            (&json!(name), &json!(false))
        );
    }
}

#[test]
fn the_webhook_watches_one_daemonset_and_nothing_else() {
    let Some(chart) = chart() else { return };
    let rules = rules_of(&chart.render(), "kuik-kube-image-keeper-webhook");
    let expected = json!({
        "apiGroups": ["apps"], "resources": ["daemonsets"], "resourceNames": ["kuik-kube-image-keeper-proxy"], "verbs": ["list", "watch"],
    });
    assert_eq!(rules, [("kuik-system-proxy".to_owned(), expected)]);
}

#[test]
fn control_ports_are_closed_and_what_others_need_is_open() {
    let Some(chart) = chart() else { return };
    let objects = chart.render();
    // Port, and whether just anyone may reach it.
    let table = [
        ("registry", vec![(5000, true), (5001, false), (8080, true)]),
        ("webhook", vec![(9443, true), (8080, true)]),
        ("controllers", vec![(8080, true)]),
    ];
    for (part, ports) in table {
        let policy = objects.get("NetworkPolicy", &format!("kuik-kube-image-keeper-{part}"));
        let ingress = policy["spec"]["ingress"].as_array().unwrap();
        let found: Vec<_> = ingress
            .iter()
            .map(|rule| (rule["ports"][0]["port"].as_i64().unwrap(), rule["from"].is_null()))
            .collect();
        assert_eq!(found, ports, "{part}");
        assert_eq!(policy["spec"]["policyTypes"], json!(["Ingress"]), "{part}");
    }
    assert_eq!(objects.of("NetworkPolicy").count(), 3);
}
