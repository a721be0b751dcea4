use super::*;
use crate::image::Image;

fn with_template(mut cluster: Cluster, kind: WorkloadKind, namespace: &str, image: &str) -> Cluster {
    let key = WorkloadKey {
        kind,
        namespace: namespace.to_owned(),
        name: "w".to_owned(),
    };
    let template = Template {
        images: [(Image::parse(image).unwrap(), image.to_owned())].into(),
        pull_secrets: vec!["one".to_owned()],
        service_account: "default".to_owned(),
    };
    cluster.0.apply(Change::Workload(kind, Seen::Changed(key, template)));
    cluster
}

fn desired(cluster: &Cluster) -> Vec<String> {
    let desired = cluster.plan().into_iter().find_map(|action| match action {
        Action::Desire(request) => Some(request.put),
        _ => None,
    });
    let desired = desired.unwrap_or_default().into_iter();
    desired.map(|image| image.reference).collect()
}

#[test]
fn an_image_of_a_workload_without_pods_is_kept_and_its_status_says_for_whom() {
    for kind in WorkloadKind::ALL {
        let cluster = Cluster::new().image_with("i", "nginx", unused_for(99));
        assert_eq!(cluster.deleted(), ["i"]);
        let cluster = with_template(cluster, kind, "n", "nginx");
        assert!(cluster.deleted().is_empty(), "{kind:?}");
        let (status, _) = cluster.status("i").unwrap();
        assert_eq!((status.expires_at, status.unused_since), (None, None));
        let used_by = status.used_by.unwrap();
        assert_eq!((used_by.count, used_by.pods.len()), (0, 0), "no pod is made up");
        let [workload] = used_by.workloads.as_slice() else {
            panic!("one workload")
        };
        assert_eq!(
            (workload.kind.as_str(), workload.namespaced_name.as_str()),
            (kind.as_str(), "n/w")
        );
    }
}

#[test]
fn an_image_is_fetched_before_its_first_pod() {
    let cluster = with_template(
        Cluster::new().repository("r", "docker.io/library/nginx"),
        WorkloadKind::CronJob,
        "n",
        "nginx:1",
    );
    assert_eq!(desired(&cluster), ["docker.io/library/nginx:1"]);
    let created = cluster.created();
    assert_eq!(
        created,
        [("docker.io-library-nginx-1".to_owned(), "nginx:1".to_owned())]
    );
}

#[test]
fn templates_of_ignored_namespaces_keep_nothing() {
    let cluster = Cluster::new().image_with("i", "nginx", unused_for(99));
    let cluster = with_template(cluster, WorkloadKind::Deployment, "ignored", "nginx");
    let policy = Policy {
        ignored_namespaces: BTreeSet::from(["ignored".to_owned()]),
        ..policy()
    };
    let actions = plan(&cluster.0, &policy, now()).actions;
    assert!(
        actions
            .iter()
            .any(|action| matches!(action, Action::DeleteImage { .. }))
    );
}

#[test]
fn nothing_expires_before_all_workloads_are_known() {
    let mut cluster = Cluster::new().image_with("i", "nginx", unused_for(99));
    cluster.0.workloads = crate::workload::Workloads::default();
    for kind in WorkloadKind::ALL {
        assert!(cluster.deleted().is_empty(), "{kind:?}");
        for list in [Seen::ListBegins, Seen::ListEnds] {
            cluster.0.apply(Change::Workload(kind, list));
        }
    }
    assert_eq!(cluster.deleted(), ["i"]);
}

#[test]
fn a_workload_without_pods_asks_for_its_grant_and_keeps_it() {
    let cluster = with_template(Cluster::new(), WorkloadKind::StatefulSet, "n", "quay.io/team/app:1");
    let later = plan(&cluster.0, &policy(), now() + 48.hours());
    let asked = later.actions.iter().find_map(|action| match action {
        Action::Grant {
            key, images, secrets, ..
        } => Some((key, images, secrets)),
        _ => None,
    });
    let (key, images, secrets) = asked.unwrap();
    assert_eq!(
        (key.namespace.as_str(), images.as_slice()),
        ("n", ["quay.io/team/app:1".to_owned()].as_slice())
    );
    assert_eq!(secrets[0].to_string(), "n/one");
    assert!(later.used_grants.contains(key));
}
