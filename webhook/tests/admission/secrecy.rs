//! Pods bring secrets along, and no log line shows one, whatever the level.

use serde_json::json;
use testkit::Log;

use crate::fake_control::{FakeControl, Mood};
use crate::harness::{image, pod, webhook};

const SECRET: &str = "canary-of-the-pod";

#[tokio::test]
async fn no_log_line_shows_what_stands_in_a_pod() {
    let log = Log::start();
    let node = FakeControl::start(Mood::Answers).await;
    let webhook = webhook(&[&node]).await;
    let mut secretive = pod("nginx");
    secretive["metadata"]["annotations"] = json!({"note": SECRET});
    secretive["spec"]["containers"][0]["env"] = json!([{"name": "PASSWORD", "value": SECRET}]);
    secretive["spec"]["containers"][0]["args"] = json!([format!("--password={SECRET}")]);
    for (mood, expected) in [
        (Mood::Answers, "localhost:7439/nginx"),
        (Mood::Refuses, "nginx"),
        (Mood::Hangs, "nginx"),
    ] {
        node.set(mood);
        let (created, _took) = webhook.create("default", &secretive).await;
        assert_eq!(image(&created), expected);
    }
    // A careless message would show what stands where something else belongs.
    let mut wrong = secretive.clone();
    wrong["spec"]["containers"] = json!(SECRET);
    webhook.create("default", &wrong).await;
    let review = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": SECRET}).to_string();
    let answer = webhook.request("POST /mutate-core-v1-pod", review.as_bytes());
    let answer = answer.await.unwrap();
    assert_eq!(answer.status, 400);
    assert!(!String::from_utf8(answer.body).unwrap().contains(SECRET));

    let text = log.text();
    assert!(
        text.contains("pod reviewed") && text.contains("no admission review"),
        "{text}"
    );
    log.assert_hides(SECRET);
}
