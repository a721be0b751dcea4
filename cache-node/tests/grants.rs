//! What the controller and the webhook are told about who may use what is private.

#![expect(clippy::unwrap_used, reason = "a test that meets an error is to stop there")]

mod support;

use proto::access::Role;
use proto::v1 as pb;
use proto::v1::GrantOutcome;
use support::private::{Cluster, PASSWORD, REPOSITORY, grant_with, is_denied, place, private_source};

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
