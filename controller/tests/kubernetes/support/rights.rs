//! The rights that the chart gives the controllers, and a client that has no others.

use std::fmt::Debug;
use std::path::PathBuf;
use std::process::Command;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use kube::api::{Patch, PatchParams};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_yaml_ng::Value;

use super::Story;

const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../charts/kube-image-keeper");

/// Roles and bindings as the chart renders them. Nothing where there is no Helm: said aloud, as the stories then run with
/// all rights.
fn rendered(namespace: &str) -> Option<Vec<Value>> {
    let helm = std::env::var_os("KUIK_HELM3")
        .map(PathBuf::from)
        .filter(|path| path.exists());
    let Some(helm) = helm else {
        assert!(
            std::env::var_os("CI").is_none(),
            "KUIK_HELM3 names nothing: run tools/setup test"
        );
        eprintln!("SKIPPED: no KUIK_HELM3, so the controllers have all rights");
        return None;
    };
    let output = Command::new(helm)
        .args([
            "template",
            "f",
            CHART,
            "--namespace",
            namespace,
            "--kube-version",
            "1.34.0",
        ])
        .args(["--set", "fullnameOverride=f", "--show-only", "templates/rbac.yaml"])
        .env("KUBECONFIG", "/dev/null")
        .output()
        .expect("helm starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let documents = serde_yaml_ng::Deserializer::from_slice(&output.stdout);
    Some(
        documents
            .map(|document| Value::deserialize(document).unwrap())
            .collect(),
    )
}

trait Given: Resource<DynamicType = ()> + Clone + Debug + Serialize + DeserializeOwned {}

impl<K: Resource<DynamicType = ()> + Clone + Debug + Serialize + DeserializeOwned> Given for K {}

async fn give<K: Given>(api: &Api<K>, object: Value) {
    let object: K = serde_yaml_ng::from_value(object).unwrap();
    let parameters = PatchParams::apply("test").force();
    api.patch(&object.name_any(), &parameters, &Patch::Apply(&object))
        .await
        .unwrap();
}

impl Story {
    /// A client that may do what the chart lets the controllers do.
    pub(super) async fn restricted(&self) -> Client {
        let Some(objects) = rendered(&self.namespace) else {
            return self.client.clone();
        };
        for object in objects {
            self.give(object).await;
        }
        let account = format!("system:serviceaccount:{}:f-controllers", self.namespace);
        let server = self.turn.as_ref().expect("it runs");
        let client = server.client_of(&account).await;
        self.until("the rights are known", async || self.has_rights(&client).await.ok())
            .await;
        client
    }

    async fn give(&self, object: Value) {
        match object["kind"].as_str().unwrap() {
            "ClusterRole" => self.give_all::<ClusterRole>(object).await,
            "ClusterRoleBinding" => self.give_all::<ClusterRoleBinding>(object).await,
            "Role" => self.give_in::<Role>(object).await,
            "RoleBinding" => self.give_in::<RoleBinding>(object).await,
            kind => panic!("{kind} among the rights"),
        }
    }

    async fn give_all<K: Given>(&self, object: Value) {
        give::<K>(&Api::all(self.client.clone()), object).await;
    }

    async fn give_in<K>(&self, object: Value)
    where
        K: Given + Resource<Scope = NamespaceResourceScope>,
    {
        let namespace = object["metadata"]["namespace"].as_str().unwrap();
        give::<K>(&Api::namespaced(self.client.clone(), namespace), object.clone()).await;
    }

    /// One question for each role.
    async fn has_rights(&self, client: &Client) -> Result<(), kube::Error> {
        let webhooks: Api<MutatingWebhookConfiguration> = Api::all(client.clone());
        webhooks.get_opt("f-mutating-webhook").await?;
        let leases: Api<Lease> = Api::namespaced(client.clone(), &self.namespace);
        leases.get_opt("f-controllers").await?;
        let secrets: Api<Secret> = Api::namespaced(client.clone(), &format!("{}-proxy", self.namespace));
        secrets.get_opt("f-proxy-tls").await.map(drop)
    }
}
