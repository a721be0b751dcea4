//! The objects that tests make, stating only what matters.

use serde_json::{Value, json};

/// How long a test's pod may take to end: it has nothing to finish.
const GRACE_SECONDS: u32 = 1;

/// A pod that runs one image.
#[derive(Clone, Debug)]
pub struct Pod {
    name: String,
    namespace: String,
    image: String,
    node: Option<String>,
    pull_policy: Option<&'static str>,
    pull_secret: Option<String>,
    ends: bool,
    direct: bool,
}

impl Pod {
    /// A pod in the namespace `default`, wherever it fits.
    pub fn new(name: &str, image: &str) -> Self {
        Self {
            name: name.to_owned(),
            namespace: "default".to_owned(),
            image: image.to_owned(),
            node: None,
            pull_policy: None,
            pull_secret: None,
            ends: false,
            direct: false,
        }
    }

    /// In this namespace.
    #[must_use]
    pub fn namespace(mut self, namespace: &str) -> Self {
        self.namespace = namespace.to_owned();
        self
    }

    /// On this node, past the scheduler's other wishes.
    #[must_use]
    pub fn on(mut self, node: &str) -> Self {
        self.node = Some(node.to_owned());
        self
    }

    /// With the pull policy `Always`.
    #[must_use]
    pub fn always(mut self) -> Self {
        self.pull_policy = Some("Always");
        self
    }

    /// With this pull secret.
    #[must_use]
    pub fn pull_secret(mut self, name: &str) -> Self {
        self.pull_secret = Some(name.to_owned());
        self
    }

    /// That ends well as soon as it runs.
    #[must_use]
    pub fn ending(mut self) -> Self {
        self.ends = true;
        self
    }

    /// That is left as it is, and pulls past kuik.
    #[must_use]
    pub fn direct(mut self) -> Self {
        self.direct = true;
        self
    }

    /// Namespace and name.
    pub(crate) fn key(&self) -> (&str, &str) {
        (&self.namespace, &self.name)
    }

    /// The manifest.
    pub fn manifest(&self) -> Value {
        let mut labels = json!({"app": self.name});
        if self.direct {
            labels["kube-image-keeper.enix.io/image-caching-policy"] = json!("ignore");
        }
        json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": self.name, "namespace": self.namespace, "labels": labels},
            "spec": self.spec(),
        })
    }

    fn spec(&self) -> Value {
        let mut spec = json!({
            "terminationGracePeriodSeconds": GRACE_SECONDS,
            "containers": [{"name": "app", "image": self.image}],
        });
        if let Some(node) = &self.node {
            spec["nodeSelector"] = json!({"kubernetes.io/hostname": node});
        }
        if let Some(policy) = self.pull_policy {
            spec["containers"][0]["imagePullPolicy"] = json!(policy);
        }
        if let Some(secret) = &self.pull_secret {
            spec["imagePullSecrets"] = json!([{"name": secret}]);
        }
        if self.ends {
            spec["restartPolicy"] = json!("Never");
            spec["containers"][0]["args"] = json!(["true"]);
        }
        spec
    }
}

/// A Deployment whose pods are each on a node of their own where possible.
#[derive(Clone, Debug)]
pub struct Deployment {
    name: String,
    image: String,
    replicas: u32,
}

impl Deployment {
    /// In the namespace `default`.
    pub fn new(name: &str, image: &str, replicas: u32) -> Self {
        Self {
            name: name.to_owned(),
            image: image.to_owned(),
            replicas,
        }
    }

    /// The manifest.
    pub fn manifest(&self) -> Value {
        let labels = json!({"app": self.name});
        json!({
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": self.name, "namespace": "default"},
            "spec": {
                "replicas": self.replicas,
                "selector": {"matchLabels": labels},
                "template": {
                    "metadata": {"labels": labels},
                    "spec": {
                        "terminationGracePeriodSeconds": GRACE_SECONDS,
                        "topologySpreadConstraints": [{
                            "maxSkew": 1,
                            "topologyKey": "kubernetes.io/hostname",
                            "whenUnsatisfiable": "ScheduleAnyway",
                            "labelSelector": {"matchLabels": labels},
                        }],
                        "containers": [{"name": "app", "image": self.image}],
                    },
                },
            },
        })
    }
}

/// The password of `private.kuik.test`; nothing else contains it, so wherever it is found it has leaked.
pub const PASSWORD: &str = "canary-b81f5d0c7e";

/// A pull secret for `private.kuik.test`.
pub fn pull_secret(name: &str, namespace: &str) -> Value {
    pull_secret_of(name, namespace, PASSWORD)
}

/// As [`pull_secret`], with another password.
pub fn pull_secret_of(name: &str, namespace: &str, password: &str) -> Value {
    let registries = json!({"auths": {"private.kuik.test": {"username": "puller", "password": password}}});
    json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": namespace},
        "type": "kubernetes.io/dockerconfigjson",
        "stringData": {".dockerconfigjson": registries.to_string()},
    })
}
