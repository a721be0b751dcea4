//! Watches of Kubernetes objects, as changes to the state.
//!
//! A watch that breaks is begun anew with back-off, from a whole list; the state keeps what it knew until that list is
//! whole. Objects are cut down to what is remembered before they are passed on.

use std::fmt::Debug;

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as watch};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use daemon::task::TaskSet;

use crate::crd::{CachedImage, Repository};
use crate::pod::{ProxyPods, reduce};
use crate::state::{Change, Seen};
use crate::workload::{Workload, WorkloadKind};

/// Objects in one answer to a list: what a whole page of large pods holds is dropped as soon as it was reduced.
const PAGE: u32 = 100;
/// Where nodes say what they can run.
const LABEL_OS: &str = "kubernetes.io/os";
const LABEL_ARCHITECTURE: &str = "kubernetes.io/arch";

/// Watches everything until `tasks` stop.
pub(crate) fn start(client: &Client, proxies: ProxyPods, changes: &mpsc::Sender<Change>, tasks: &TaskSet) {
    let stop = tasks.stop_token();
    let run = |name, watch| tasks.spawn_critical(name, watch);
    run(
        "watch-images",
        Box::pin(follow(all::<CachedImage>(client), image, changes.clone(), stop.clone())) as Watch,
    );
    run(
        "watch-repositories",
        Box::pin(follow(
            all::<Repository>(client),
            repository,
            changes.clone(),
            stop.clone(),
        )),
    );
    run(
        "watch-nodes",
        Box::pin(follow(all::<Node>(client), node, changes.clone(), stop.clone())),
    );
    let pod = move |event| pod(event, &proxies);
    run(
        "watch-pods",
        Box::pin(follow(all::<Pod>(client), pod, changes.clone(), stop.clone())),
    );
    for kind in WorkloadKind::ALL {
        let api = Api::all_with(client.clone(), &kind.resource());
        let reduced = move |event| workload(kind, event);
        run(
            "watch-workloads",
            Box::pin(follow(api, reduced, changes.clone(), stop.clone())),
        );
    }
}

type Watch = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

fn all<K>(client: &Client) -> Api<K>
where
    K: Resource<DynamicType = ()>,
{
    Api::all(client.clone())
}

async fn follow<K>(
    api: Api<K>,
    reduced: impl Fn(Event<K>) -> Option<Change> + Send,
    changes: mpsc::Sender<Change>,
    stop: CancellationToken,
) where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let events = watch::watcher(api, watcher::Config::default().page_size(PAGE)).default_backoff();
    let mut events = std::pin::pin!(events.inspect_err(|error| {
        let error = daemon::runtime::one_line(error);
        tracing::warn!(error, "watch broke, beginning anew");
    }));
    while let Some(Some(event)) = stop.run_until_cancelled(events.next()).await {
        let Some(change) = event.ok().and_then(&reduced) else {
            continue;
        };
        if changes.send(change).await.is_err() {
            return;
        }
    }
}

fn image(event: Event<CachedImage>) -> Option<Change> {
    let slim = |mut object: CachedImage| {
        object.metadata.managed_fields = None;
        Some((object.name_any(), object))
    };
    seen(event, slim).map(Change::Image)
}

fn repository(event: Event<Repository>) -> Option<Change> {
    let slim = |mut object: Repository| {
        object.metadata.managed_fields = None;
        Some((object.name_any(), object))
    };
    seen(event, slim).map(Change::Repository)
}

fn node(event: Event<Node>) -> Option<Change> {
    let platform = |node: Node| {
        let labels = node.labels();
        let os = labels.get(LABEL_OS).map_or("linux", String::as_str);
        let architecture = labels.get(LABEL_ARCHITECTURE)?;
        Some((node.name_any(), format!("{os}/{architecture}")))
    };
    seen(event, platform).map(Change::Node)
}

fn pod(event: Event<Pod>, proxies: &ProxyPods) -> Option<Change> {
    seen(event, |pod| reduce(&pod, proxies)).map(Change::Pod)
}

fn workload(kind: WorkloadKind, event: Event<Workload>) -> Option<Change> {
    let seen = match event {
        Event::Init => Seen::ListBegins,
        Event::InitApply(object) => {
            let (key, template) = crate::workload::reduce(kind, object);
            Seen::Listed(key, template?)
        }
        Event::InitDone => Seen::ListEnds,
        Event::Apply(object) => match crate::workload::reduce(kind, object) {
            (key, Some(template)) => Seen::Changed(key, template),
            (key, None) => Seen::Gone(key),
        },
        Event::Delete(object) => Seen::Gone(crate::workload::reduce(kind, object).0),
    };
    Some(Change::Workload(kind, seen))
}

fn seen<O, K, V>(event: Event<O>, reduced: impl Fn(O) -> Option<(K, V)>) -> Option<Seen<K, V>> {
    Some(match event {
        Event::Init => Seen::ListBegins,
        Event::InitApply(object) => {
            let (key, object) = reduced(object)?;
            Seen::Listed(key, object)
        }
        Event::InitDone => Seen::ListEnds,
        Event::Apply(object) => {
            let (key, object) = reduced(object)?;
            Seen::Changed(key, object)
        }
        Event::Delete(object) => Seen::Gone(reduced(object)?.0),
    })
}
