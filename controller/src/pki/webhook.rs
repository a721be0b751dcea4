//! Tells the API server which authority to expect behind the webhook.

use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::json;

use crate::config::Install;

/// A field manager of its own, so that whoever applies the chart never fights over the bundle.
const FIELD_MANAGER: &str = "kuik-controller-ca-bundle";

/// Writes `bundle` into every webhook that calls our Service, where it is not there yet. Says whether it wrote.
pub(crate) async fn write_bundle(client: &Client, install: &Install, bundle: &str) -> Result<bool, kube::Error> {
    let api: Api<MutatingWebhookConfiguration> = Api::all(client.clone());
    let name = install.name("mutating-webhook");
    let Some(found) = api.get_opt(&name).await? else {
        return Ok(false);
    };
    let ours = outdated(&found, install, bundle);
    if ours.all_current {
        return Ok(false);
    }
    let bundle = ByteString(bundle.as_bytes().to_vec());
    let webhooks: Vec<_> = ours
        .names
        .iter()
        .map(|name| json!({"name": name, "clientConfig": {"caBundle": bundle}}))
        .collect();
    let patch = json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": name},
        "webhooks": webhooks,
    });
    api.patch(&name, &PatchParams::apply(FIELD_MANAGER).force(), &Patch::Apply(patch))
        .await?;
    Ok(true)
}

struct Ours {
    names: Vec<String>,
    all_current: bool,
}

fn outdated(found: &MutatingWebhookConfiguration, install: &Install, bundle: &str) -> Ours {
    let service = install.name("webhook");
    let webhooks = found.webhooks.iter().flatten().filter(|webhook| {
        let called = webhook.client_config.service.as_ref();
        called.is_some_and(|called| called.name == service && called.namespace == install.namespace)
    });
    let (mut names, mut all_current) = (Vec::new(), true);
    for webhook in webhooks {
        names.push(webhook.name.clone());
        let held = webhook.client_config.ca_bundle.as_ref();
        all_current &= held.is_some_and(|held| held.0 == bundle.as_bytes());
    }
    Ours { names, all_current }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn configuration() -> MutatingWebhookConfiguration {
        let webhook = |name: &str, service: &str| {
            json!({"name": name, "admissionReviewVersions": ["v1"], "sideEffects": "None",
                "clientConfig": {"service": {"name": service, "namespace": "kuik"}, "caBundle": "YQ=="}})
        };
        let document = json!({"metadata": {"name": "f-mutating-webhook"},
            "webhooks": [webhook("mpod.kb.io", "f-webhook"), webhook("other", "other")]});
        serde_json::from_value(document).unwrap()
    }

    #[test]
    fn only_webhooks_that_call_our_service_are_touched() {
        let install = Install {
            namespace: "kuik".to_owned(),
            proxy_namespace: "kuik".to_owned(),
            fullname: "f".to_owned(),
            cluster_domain: "c".to_owned(),
        };
        let ours = outdated(&configuration(), &install, "b");
        assert_eq!((ours.names, ours.all_current), (vec!["mpod.kb.io".to_owned()], false));
        assert!(outdated(&configuration(), &install, "a").all_current);
    }
}
