//! Three nodes with certificates that enforce access: private images are filled, served to whom they are placed with, and
//! refused to others; and the password that reads them is nowhere to be found.

#![expect(clippy::unwrap_used, reason = "a test that meets an error is to stop there")]

mod support;

use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use proto::access::{AUTHORIZATION_PATH, Role, SourceAuthorization};
use proto::v1 as pb;
use proto::v1::{Admission, GrantOutcome, ImagePhase};
use support::private::{
    Cluster, PASSWORD, REPOSITORY, USER, admit, desire, grant, grant_with, is_denied, live, place, private_source,
    watch_until,
};
use support::{SOON, get};
use testkit::eventually;
use upstream::UpstreamError;

#[derive(Clone, Default)]
struct Logs(Arc<Mutex<Vec<u8>>>);

impl Write for Logs {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The password as it may stand somewhere.
fn spellings() -> [String; 3] {
    let login = format!("{USER}:{PASSWORD}");
    [PASSWORD.to_owned(), STANDARD.encode(&login), STANDARD.encode(PASSWORD)]
}

fn assert_hidden(place: &str, bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    for needle in spellings() {
        assert!(!text.contains(&needle), "the password stands in {place}");
    }
}

fn assert_files_hide(dir: &Path) -> usize {
    let mut count = 0;
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            count += assert_files_hide(&path);
        } else if let Ok(bytes) = std::fs::read(&path) {
            assert_hidden(&path.display().to_string(), &bytes);
            count += 1;
        }
    }
    count
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_private_image_reaches_whom_it_is_placed_with_and_its_password_nobody() {
    let logs = Logs::default();
    let writer = logs.clone();
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone())
        .init();
    let mut source = private_source().await;
    let cluster = Cluster::start(&source).await;
    let mut controller = cluster.control(0, Role::Controller).await;

    // Who may ask what.
    let mut webhook = cluster.control(1, Role::Webhook).await;
    assert_eq!(
        grant(&mut webhook).await.unwrap_err().code(),
        tonic::Code::PermissionDenied
    );
    let mut proxy = cluster.control(1, Role::Proxy).await;
    assert_eq!(
        admit(&mut proxy, "team").await.unwrap_err().code(),
        tonic::Code::PermissionDenied
    );
    eventually(SOON, "the source is heard", || {
        let mut webhook = webhook.clone();
        async move { (admit(&mut webhook, "team").await.unwrap() == Admission::NeedsCredentials).then_some(()) }
    })
    .await;

    // Granted at one node, admitted at another, filled on all.
    assert_eq!(grant(&mut controller).await.unwrap(), GrantOutcome::Granted);
    live(&mut controller).await;
    let mut webhook_at_another = cluster.control(2, Role::Webhook).await;
    eventually(SOON, "the grant is known everywhere", || {
        let mut webhook = webhook_at_another.clone();
        async move { (admit(&mut webhook, "team").await.unwrap() == Admission::Admitted).then_some(()) }
    })
    .await;
    assert_eq!(
        admit(&mut webhook_at_another, "other").await.unwrap(),
        Admission::NoGrant
    );
    desire(&mut controller).await;
    let is_ready = |state: &pb::ImageState| state.phase() == ImagePhase::Ready && state.copies == 3 && state.private;
    let (_, resume) = watch_until(&mut controller, Vec::new(), is_ready).await;

    // Served to the proxy of the node the pod is on, also when it asks a moment too early.
    let (placed, other) = (cluster.proxy("worker-1"), cluster.proxy("worker-2"));
    let (early, ()) = tokio::join!(cluster.pull(&placed, 1), async {
        tokio::time::sleep(Duration::from_millis(700)).await;
        place(&mut controller, "worker-1").await;
    });
    early.expect("the placement came in time");
    assert!(is_denied(&cluster.pull(&other, 1).await));
    assert!(is_denied(&cluster.pull(&cluster.client(Role::Proxy, None), 1).await));
    assert!(is_denied(
        &cluster.pull(&cluster.client(Role::Webhook, Some("worker-1")), 1).await
    ));

    // A short-lived way to ask the source itself, for the same proxies.
    let path = format!("{AUTHORIZATION_PATH}?repository={REPOSITORY}");
    let told = placed.get_document(&cluster.url(1), &path, 65_536, SOON).await.unwrap();
    let told: SourceAuthorization = serde_json::from_slice(&told).unwrap();
    let header = told.authorization.expect("the registry wants one");
    assert!(header.starts_with("Bearer ") && told.seconds > 0 && told.seconds <= 300);
    let refused = other.get_document(&cluster.url(1), &path, 65_536, SOON).await;
    assert!(matches!(refused, Err(UpstreamError::Denied { .. })));

    // The source goes away: stale for the same, nothing for others.
    source.stop().await;
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert!(cluster.pull(&placed, 1).await.unwrap(), "the answer is marked stale");
    assert!(is_denied(&cluster.pull(&other, 1).await));

    // A node dies: the watch goes on at another.
    cluster.nodes[0].shutdown.abort();
    let mut elsewhere = cluster.control(2, Role::Controller).await;
    let is_here = |state: &pb::ImageState| matches!(state.phase(), ImagePhase::Complete | ImagePhase::Ready);
    let (anew, _) = watch_until(&mut elsewhere, resume, is_here).await;
    assert!(anew, "another node knows nothing of that place");
    place(&mut elsewhere, "worker-2").await;
    cluster.pull(&other, 2).await.expect("placed by now");

    // The canary is nowhere: not in what the tier answers, logs, counts, or keeps.
    let wrong = grant_with(&mut elsewhere, "team", &format!("{PASSWORD}x"))
        .await
        .unwrap();
    assert_eq!(wrong.outcome(), GrantOutcome::Unreachable);
    let listed = elsewhere.list_grants(pb::ListGrantsRequest::default()).await.unwrap();
    assert_eq!(listed.get_ref().grants.len(), 1);
    assert_hidden("answers", format!("{wrong:?} {listed:?} {refused:?}").as_bytes());
    for path in [
        proto::access::FACTS_PATH,
        "/v2/",
        &format!("/v2/{REPOSITORY}/manifests/1"),
    ] {
        let answer = other.get_document(&cluster.url(2), path, 65_536, SOON).await;
        assert_hidden(path, format!("{answer:?}").as_bytes());
    }
    for node in &cluster.nodes[1..] {
        for path in [
            "/metrics",
            "/status",
            "/images",
            "/explain?image=source.example/team/secret:1",
        ] {
            assert_hidden(path, get(&node.admin, path).await.as_bytes());
        }
    }
    let logged = logs.0.lock().unwrap().clone();
    assert!(logged.len() > 10_000, "everything is logged");
    assert_hidden("the logs", &logged);
    assert!(assert_files_hide(cluster.data.path()) > 20);
}
