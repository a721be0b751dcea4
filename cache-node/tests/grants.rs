//! What the controller and the webhook are told about who may use what is private.

#![expect(clippy::unwrap_used, reason = "a test that meets an error is to stop there")]

mod support;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use proto::access::Role;
use proto::v1 as pb;
use proto::v1::control_client::ControlClient;
use proto::v1::{Admission, GrantOutcome, ImagePhase};
use support::private::{
    Cluster, PASSWORD, REPOSITORY, desire, grant_with, is_denied, live, place, private_source, secret_image,
    watch_until,
};
use support::{SOON, get};
use testkit::{FakeRegistry, Fault, On, eventually};
use tonic::transport::Channel;

async fn admit(control: &mut ControlClient<Channel>, namespace: &str, tag: &str) -> (Admission, String) {
    let request = pb::AdmitRequest {
        namespace: namespace.into(),
        references: vec![format!("{REPOSITORY}:{tag}")],
    };
    let mut reply = control.admit(request).await.unwrap().into_inner();
    (reply.admissions[0].try_into().unwrap(), reply.reasons.remove(0))
}

async fn admission(control: &mut ControlClient<Channel>, namespace: &str, tag: &str) -> Admission {
    admit(control, namespace, tag).await.0
}

async fn becomes(control: &ControlClient<Channel>, namespace: &str, tag: &str, wanted: Admission) {
    eventually(SOON, "it is admitted so", || {
        let mut control = control.clone();
        async move { (admission(&mut control, namespace, tag).await == wanted).then_some(()) }
    })
    .await;
}

async fn cache(controller: &mut ControlClient<Channel>) {
    desire(controller).await;
    let is_whole = |state: &pb::ImageState| matches!(state.phase(), ImagePhase::Complete | ImagePhase::Ready);
    watch_until(controller, Vec::new(), is_whole).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn grants_are_listed_with_their_origin_and_nothing_they_hold() {
    let source = private_source().await;
    let cluster = Cluster::of(1, &source).await;
    let mut controller = cluster.control(0, Role::Controller).await;
    for namespace in ["team", "other"] {
        let reply = grant_with(&mut controller, namespace, PASSWORD).await.unwrap();
        assert_eq!(reply.outcome(), GrantOutcome::Granted);
    }
    let listed = controller.list_grants(pb::ListGrantsRequest::default()).await.unwrap();
    let listed = listed.into_inner();
    let namespaces: Vec<_> = listed.grants.iter().map(|grant| grant.namespace.as_str()).collect();
    assert_eq!((namespaces, listed.more), (vec!["other", "team"], false));
    let first = &listed.grants[0];
    assert_eq!(first.repository, REPOSITORY);
    assert!(first.verified_at_ms > 0 && first.refused_since_ms == 0 && !first.sealed_with_lost_key);
    assert!(!format!("{listed:?}").contains(PASSWORD));

    let after = pb::ListGrantsRequest {
        after_repository: first.repository.clone(),
        after_namespace: first.namespace.clone(),
    };
    let rest = controller.list_grants(after).await.unwrap().into_inner();
    assert_eq!(rest.grants, listed.grants[1..]);

    let mut webhook = cluster.control(0, Role::Webhook).await;
    let refused = webhook.list_grants(pb::ListGrantsRequest::default()).await;
    assert_eq!(refused.unwrap_err().code(), tonic::Code::PermissionDenied);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_place_is_added_without_taking_away_what_a_new_controller_does_not_know_yet() {
    let source = private_source().await;
    let cluster = Cluster::of(1, &source).await;
    let mut controller = cluster.control(0, Role::Controller).await;
    grant_with(&mut controller, "team", PASSWORD).await.unwrap();
    place(&mut controller, "worker-1").await;
    let another = |add| pb::PlaceRequest {
        placements: vec![pb::Placement {
            node: "worker-1".into(),
            repositories: vec!["source.example/team/another".into()],
        }],
        add,
        ..pb::PlaceRequest::default()
    };
    controller.place(another(true)).await.unwrap();
    let proxy = cluster.proxy("worker-1");
    cluster.pull(&proxy, 0).await.expect("it is placed still");
    controller.place(another(false)).await.unwrap();
    assert!(is_denied(&cluster.pull(&proxy, 0).await));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_private_image_is_admitted_before_somebody_says_on_which_nodes_it_may_be_served() {
    let mut source = private_source().await;
    let cluster = Cluster::start(&source).await;
    let mut controller = cluster.control(0, Role::Controller).await;
    let mut webhook = cluster.control(2, Role::Webhook).await;
    grant_with(&mut controller, "team", PASSWORD).await.unwrap();
    becomes(&webhook, "team", "1", Admission::NotReady).await;
    let (_, why) = admit(&mut webhook, "team", "1").await;
    assert!(why.contains("no controller has placed"), "{why}");
    assert_eq!(admission(&mut webhook, "other", "1").await, Admission::NoGrant);

    // With the source away nothing else could serve it.
    cache(&mut controller).await;
    assert_eq!(admission(&mut webhook, "team", "1").await, Admission::NotReady);
    source.stop().await;
    becomes(&webhook, "team", "1", Admission::Admitted).await;
    source.restart().await.unwrap();
    becomes(&webhook, "team", "1", Admission::NotReady).await;

    // What one node hears all know.
    live(&mut controller).await;
    becomes(&webhook, "team", "1", Admission::Admitted).await;
}

// A leader whose disk is full answers reads and commits nothing: placements would be refused after the pod was admitted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sign_of_life_counts_once_something_was_committed() {
    const SIGNS: u64 = 100;
    let source = private_source().await;
    let cluster = Cluster::of(1, &source).await;
    let mut controller = cluster.control(0, Role::Controller).await;
    let applied = async || {
        let status: serde_json::Value = serde_json::from_str(&get(&cluster.nodes[0].admin, "/status").await).unwrap();
        status["applied_index"].as_u64().unwrap()
    };
    let before = applied().await;
    for _ in 0..SIGNS {
        live(&mut controller).await;
    }
    let after = applied().await;
    assert!(after >= before + SIGNS, "{before} {after}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repository_that_is_no_longer_public_keeps_what_is_cached_and_takes_in_no_pod_it_could_not_serve() {
    let source = FakeRegistry::start().await;
    source.push(&secret_image());
    let cluster = Cluster::of(1, &source).await;
    let mut controller = cluster.control(0, Role::Controller).await;
    live(&mut controller).await;
    cache(&mut controller).await;
    assert_eq!(admission(&mut controller, "team", "1").await, Admission::Admitted);

    let closed = source.fault(On::manifests(), Fault::Challenge);
    assert_eq!(admission(&mut controller, "team", "1").await, Admission::Admitted);
    assert_eq!(
        admission(&mut controller, "team", "2").await,
        Admission::NeedsCredentials
    );
    let anybody = cluster.proxy("worker-1");
    assert!(
        cluster.pull(&anybody, 0).await.unwrap(),
        "what was public is served, marked stale"
    );

    closed.lift();
    assert_eq!(admission(&mut controller, "team", "1").await, Admission::Admitted);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_private_repository_that_opens_is_admitted_without_a_grant_and_served() {
    let mut source = private_source().await;
    let cluster = Cluster::of(1, &source).await;
    let mut controller = cluster.control(0, Role::Controller).await;
    live(&mut controller).await;
    grant_with(&mut controller, "team", PASSWORD).await.unwrap();
    assert_eq!(admission(&mut controller, "other", "1").await, Admission::NoGrant);

    let address = source.address();
    source.stop().await;
    let open = FakeRegistry::builder().address(address).start().await.unwrap();
    open.push(&secret_image());
    becomes(&controller, "other", "1", Admission::Admitted).await;
    let anybody = cluster.proxy("worker-1");
    cluster.pull(&anybody, 0).await.expect("anyone may have it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_that_has_no_time_for_strangers_is_asked_with_credentials() {
    for fault in [Fault::Status(429), Fault::Status(503)] {
        let source = private_source().await;
        let cluster = Cluster::of(1, &source).await;
        let mut controller = cluster.control(0, Role::Controller).await;
        let busy = source.fault(On::manifests().times(1), fault.clone());
        let granted = grant_with(&mut controller, "team", PASSWORD).await.unwrap();
        assert_eq!(
            (granted.outcome(), busy.hits()),
            (GrantOutcome::Granted, 1),
            "{fault:?}"
        );
        let refused = grant_with(&mut controller, "other", "wrong").await.unwrap();
        assert_eq!(refused.outcome(), GrantOutcome::Refused);
        source.fault(On::manifests().times(1), fault.clone());
        let unheard = grant_with(&mut controller, "other", "wrong").await.unwrap();
        assert_eq!(unheard.outcome(), GrantOutcome::Unreachable, "{fault:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_grant_whose_key_is_gone_opens_what_is_cached_until_it_is_given_again() {
    let source = private_source().await;
    let cluster = Cluster::of(1, &source).await;
    let mut controller = cluster.control(0, Role::Controller).await;
    live(&mut controller).await;
    grant_with(&mut controller, "team", PASSWORD).await.unwrap();
    cache(&mut controller).await;

    let keys = cluster.dir("keys");
    std::fs::remove_file(keys.join("k1")).unwrap();
    std::fs::write(keys.join("k2"), STANDARD.encode([8; 32])).unwrap();
    std::fs::write(keys.join("active"), "k2").unwrap();
    becomes(&controller, "team", "not-cached", Admission::NoGrant).await;
    assert_eq!(admission(&mut controller, "team", "1").await, Admission::Admitted);
    let listed = controller.list_grants(pb::ListGrantsRequest::default()).await.unwrap();
    assert!(listed.into_inner().grants[0].sealed_with_lost_key);
    let admin = &cluster.nodes[0].admin;
    let counted = |count: u8| format!("kube_image_keeper_node_lost_key_credentials {count}\n");
    eventually(SOON, "it is counted", || async {
        get(admin, "/metrics").await.contains(&counted(1)).then_some(())
    })
    .await;

    grant_with(&mut controller, "team", PASSWORD).await.unwrap();
    assert_eq!(
        admission(&mut controller, "team", "not-cached").await,
        Admission::Admitted
    );
    eventually(SOON, "none is counted", || async {
        get(admin, "/metrics").await.contains(&counted(0)).then_some(())
    })
    .await;
}
