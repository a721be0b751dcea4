//! What the tests against a real API server stand on.

mod api_server;
mod rights;
mod tier;

use std::fmt::Debug;
use std::time::Duration;

use controller::{Config, crd};
use daemon::readiness::Readiness;
use daemon::shutdown::{Cause, Shutdown};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, StatefulSet};
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::{Namespace, Node, Pod};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::MutexGuard;

pub(crate) use tier::FakeTier;

const DEADLINE: Duration = Duration::from_secs(20);

/// A cluster for one story: an API server without nodes, a fake cache node, and the controller where it is started.
pub(crate) struct Story {
    turn: MutexGuard<'static, Option<api_server::ApiServer>>,
    /// Whoever may do everything.
    pub(crate) client: Client,
    /// The controllers, with the rights of the chart.
    pub(crate) controllers: Client,
    pub(crate) tier: FakeTier,
    pub(crate) namespace: String,
    config: Config,
    running: Vec<Shutdown>,
}

impl Story {
    /// Begins a story in namespaces of its own. Nothing where there is no API server.
    pub(crate) async fn begin(name: &str) -> Option<Self> {
        Self::begin_with(name, "").await
    }

    /// The same, with more settings of the controller.
    pub(crate) async fn begin_with(name: &str, settings: &str) -> Option<Self> {
        let (turn, client) = api_server::turn().await?;
        let (tier, address) = FakeTier::start().await;
        let namespace = format!("kuik-{name}");
        let file = tempfile::NamedTempFile::new().unwrap();
        let text = format!(
            "namespace = \"{namespace}\"\nfullname = \"f\"\nproxy_namespace = \"{namespace}-proxy\"\n\
             nodes = [ {{ ordinal = 0, grpc = \"http://{address}\" }} ]\n{settings}\n"
        );
        std::fs::write(file.path(), text).unwrap();
        let config = Config::load(file.path()).unwrap();
        let mut story = Self {
            turn,
            controllers: client.clone(),
            client,
            tier,
            namespace,
            config,
            running: Vec::new(),
        };
        story.empty().await;
        for name in [story.namespace.clone(), format!("{}-proxy", story.namespace)] {
            story.make::<Namespace>(json!({"metadata": {"name": name}})).await;
        }
        for definition in crd::definitions(true) {
            story
                .apply::<CustomResourceDefinition>(&definition.name_any(), &definition)
                .await;
        }
        story
            .until("definitions are served", async || {
                Api::<crd::CachedImage>::all(story.client.clone())
                    .list(&Default::default())
                    .await
                    .ok()
                    .map(drop)
            })
            .await;
        story.controllers = story.restricted().await;
        Some(story)
    }

    /// What earlier stories left that is the whole cluster's.
    async fn empty(&self) {
        let (now, all) = (DeleteParams::default().grace_period(0), Default::default());
        for namespace in Api::<Namespace>::all(self.client.clone()).list(&all).await.unwrap() {
            let namespace = namespace.name_any();
            self.empty_of::<Deployment>(&namespace).await;
            self.empty_of::<StatefulSet>(&namespace).await;
            self.empty_of::<DaemonSet>(&namespace).await;
            self.empty_of::<CronJob>(&namespace).await;
            self.empty_of::<Job>(&namespace).await;
            self.empty_of::<Pod>(&namespace).await;
        }
        Api::<Node>::all(self.client.clone())
            .delete_collection(&now, &all)
            .await
            .unwrap();
        let _no_definitions_yet = Api::<crd::CachedImage>::all(self.client.clone())
            .delete_collection(&now, &all)
            .await;
        let _no_definitions_yet = Api::<crd::Repository>::all(self.client.clone())
            .delete_collection(&now, &all)
            .await;
    }

    async fn empty_of<K>(&self, namespace: &str)
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
    {
        let objects: Api<K> = Api::namespaced(self.client.clone(), namespace);
        let now = DeleteParams::background().grace_period(0);
        objects.delete_collection(&now, &Default::default()).await.unwrap();
    }

    /// Starts a controller, as which it takes part in the election.
    pub(crate) fn start(&mut self, identity: &str) -> Shutdown {
        let shutdown = Shutdown::new();
        self.start_as(self.controllers.clone(), identity, &shutdown);
        shutdown
    }

    /// Ends the controllers that run, and starts one that knows nothing of what they did.
    pub(crate) async fn another_leads(&mut self) {
        for shutdown in self.running.drain(..) {
            shutdown.begin(Cause::Requested("another one leads"));
            shutdown.run(Duration::from_secs(5)).await;
        }
        self.start("the next");
    }

    /// Starts one that speaks to the API server as `client`.
    pub(crate) fn start_as(&mut self, client: Client, identity: &str, shutdown: &Shutdown) -> Readiness {
        let readiness = Readiness::new(shutdown);
        controller::start(self.config.clone(), client, identity, shutdown, &readiness);
        self.running.push(shutdown.clone());
        readiness
    }

    /// A client that may do nothing.
    pub(crate) async fn nobody(&self) -> Client {
        let server = self.turn.as_ref().expect("it runs");
        server.client_of("nobody").await
    }

    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    /// Makes an object in no namespace.
    pub(crate) async fn make<K>(&self, object: Value) -> K
    where
        K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Serialize,
    {
        let api: Api<K> = Api::all(self.client.clone());
        api.create(&PostParams::default(), &typed(object)).await.unwrap()
    }

    /// Makes an object in the story's namespace.
    pub(crate) async fn make_in<K>(&self, object: Value) -> K
    where
        K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
            + Clone
            + DeserializeOwned
            + Debug
            + Serialize,
    {
        self.inside::<K>()
            .create(&PostParams::default(), &typed(object))
            .await
            .unwrap()
    }

    pub(crate) fn inside<K>(&self) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    pub(crate) fn all<K: Resource<DynamicType = ()>>(&self) -> Api<K> {
        Api::all(self.client.clone())
    }

    async fn apply<K>(&self, name: &str, object: &K)
    where
        K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Serialize,
    {
        let api: Api<K> = Api::all(self.client.clone());
        api.patch(name, &PatchParams::apply("test").force(), &Patch::Apply(object))
            .await
            .unwrap();
    }

    /// A node that can be scheduled on by name.
    pub(crate) async fn node(&self, name: &str) {
        let labels = json!({"kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64"});
        self.make::<Node>(json!({"metadata": {"name": name, "labels": labels}}))
            .await;
    }

    /// Sets the status of a pod as a kubelet would.
    pub(crate) async fn pod_status(&self, name: &str, status: Value) {
        let patch = Patch::Merge(json!({"status": status}));
        self.inside::<Pod>()
            .patch_status(name, &PatchParams::default(), &patch)
            .await
            .unwrap();
    }

    /// Waits for something, and says what if it does not come.
    pub(crate) async fn until<T>(&self, what: &str, look: impl AsyncFn() -> Option<T>) -> T {
        let deadline = tokio::time::Instant::now() + DEADLINE;
        loop {
            if let Some(found) = look().await {
                return found;
            }
            assert!(tokio::time::Instant::now() < deadline, "waited in vain: {what}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Ends all controllers in order.
    pub(crate) async fn end(self) {
        for shutdown in &self.running {
            shutdown.begin(Cause::Requested("the story ends"));
            shutdown.run(Duration::from_secs(5)).await;
        }
    }
}

fn typed<K: DeserializeOwned + Resource<DynamicType = ()>>(mut object: Value) -> K {
    object["apiVersion"] = json!(K::api_version(&()));
    object["kind"] = json!(K::kind(&()));
    serde_json::from_value(object).unwrap()
}
