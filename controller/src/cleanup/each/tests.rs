//! Against an API server that is a few routes in this process.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Client;
use serde_json::Value;

use super::*;

const OURS: &str = "ours/finalizer";

fn object(name: &str, version: &str, finalizers: &[&str]) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata":
        {"name": name, "namespace": "n", "uid": "u", "resourceVersion": version, "finalizers": finalizers}})
}

fn failure(code: StatusCode) -> (StatusCode, Json<Value>) {
    let reason = if code == StatusCode::CONFLICT {
        "Conflict"
    } else {
        "Expired"
    };
    let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": "no", "reason": reason,
        "code": code.as_u16()});
    (code, Json(status))
}

fn client(routes: Router) -> Api<ConfigMap> {
    Api::namespaced(Client::new(routes, "n"), "n")
}

/// Lists two pages; `forgotten` times the second one is answered with 410.
fn pages(forgotten: usize) -> Api<ConfigMap> {
    let left = Arc::new(Mutex::new(forgotten));
    let list = async |State(left): State<Arc<Mutex<usize>>>, Query(asked): Query<BTreeMap<String, String>>| {
        let list = |names: &[&str], token: &str| {
            let items: Vec<Value> = names.iter().map(|name| object(name, "1", &[])).collect();
            let list =
                json!({"apiVersion": "v1", "kind": "ConfigMapList", "metadata": {"continue": token}, "items": items});
            (StatusCode::OK, Json(list))
        };
        if !asked.contains_key("continue") {
            return list(&["a", "b"], "second");
        }
        let mut left = left.lock().unwrap();
        if *left > 0 {
            *left -= 1;
            return failure(StatusCode::GONE);
        }
        list(&["c"], "")
    };
    client(
        Router::new()
            .route("/api/v1/namespaces/n/configmaps", get(list))
            .with_state(left),
    )
}

async fn heard(api: &Api<ConfigMap>) -> (Vec<(String, bool)>, Result<(), CleanupError>) {
    let mut heard = Vec::new();
    let act = async |object: ConfigMap| {
        if object.name_any() == "a" {
            std::future::pending::<()>().await;
        }
        Ok(())
    };
    let listed = each(api, act, |name, done| heard.push((name, done.is_ok()))).await;
    heard.sort();
    (heard, listed)
}

#[tokio::test(start_paused = true)]
async fn one_object_that_hangs_holds_up_no_other() {
    let (heard, listed) = heard(&pages(0)).await;
    listed.unwrap();
    let expected = [("n/a", false), ("n/b", true), ("n/c", true)];
    assert_eq!(heard, expected.map(|(name, done)| (name.to_owned(), done)));
}

#[tokio::test(start_paused = true)]
async fn a_list_that_the_server_forgot_is_begun_anew() {
    let (heard, listed) = heard(&pages(LISTS_MAX - 1)).await;
    listed.unwrap();
    assert_eq!(heard.last().unwrap(), &("n/c".to_owned(), true));
}

#[tokio::test(start_paused = true)]
async fn a_list_that_is_always_forgotten_comes_to_an_end() {
    let (_, listed) = heard(&pages(LISTS_MAX)).await;
    assert!(matches!(listed, Err(CleanupError::Api(kube::Error::Api(status))) if status.code == 410));
}

/// One object, which somebody changes after each of `changes` looks at it. It takes patches of its own version alone.
fn changing(changes: usize) -> (Api<ConfigMap>, Arc<Mutex<Value>>) {
    let stored = Arc::new(Mutex::new(object("o", "2", &[OURS, "other/finalizer"])));
    let left = Arc::new(Mutex::new(changes));
    let look = async |State(stored): State<Arc<Mutex<Value>>>| Json(stored.lock().unwrap().clone());
    let patch = async move |State(stored): State<Arc<Mutex<Value>>>, body: String| {
        let mut stored = stored.lock().unwrap();
        let mut left = left.lock().unwrap();
        if *left > 0 {
            *left -= 1;
            stored["metadata"]["resourceVersion"] = json!(format!("changed-{left}"));
        }
        let patch: Value = serde_json::from_str(&body).unwrap();
        let version = &patch["metadata"]["resourceVersion"];
        if !version.is_null() && *version != stored["metadata"]["resourceVersion"] {
            return failure(StatusCode::CONFLICT);
        }
        stored["metadata"]["finalizers"] = patch["metadata"]["finalizers"].clone();
        (StatusCode::OK, Json(stored.clone()))
    };
    let routes = Router::new().route("/api/v1/namespaces/n/configmaps/o", get(look).patch(patch));
    (client(routes.with_state(Arc::clone(&stored))), stored)
}

async fn released(api: &Api<ConfigMap>) -> Result<Option<ConfigMap>, CleanupError> {
    // As it was listed before another finalizer was added.
    let listed: ConfigMap = serde_json::from_value(object("o", "1", &[OURS])).unwrap();
    decided_anew(api, listed, async |object| release(api, object, OURS).await).await
}

#[tokio::test]
async fn a_finalizer_that_another_added_meanwhile_stays() {
    let (api, stored) = changing(0);
    released(&api).await.unwrap();
    let finalizers = &stored.lock().unwrap()["metadata"]["finalizers"];
    assert_eq!(finalizers, &json!(["other/finalizer"]));
}

#[tokio::test]
async fn an_object_that_never_stays_the_same_is_given_up() {
    let (api, stored) = changing(TRIES_MAX - 1);
    released(&api).await.unwrap();
    assert_eq!(
        stored.lock().unwrap()["metadata"]["finalizers"],
        json!(["other/finalizer"])
    );
    let (api, _) = changing(TRIES_MAX);
    assert!(released(&api).await.is_err());
}
