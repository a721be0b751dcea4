//! What the controller and the webhook ask of a node, over gRPC, with a source registry that wants credentials.

#![expect(clippy::unwrap_used, reason = "a test that meets an error is to stop there")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use base64::Engine;
use http::Method;
use proto::v1 as pb;
use proto::v1::control_client::ControlClient;
use proto::v1::{Admission, GrantOutcome, ImagePhase};
use support::{Node, SOON};
use testkit::{Auth, FakeRegistry, Image, On, Pull, image};
use tonic::transport::Channel;

const USER: &str = "robot";
const PASSWORD: &str = "c4n4ry-pässword";

fn hello(tag: &str, seed: u64) -> Image {
    image("team/hello")
        .tag(tag)
        .platform("linux/amd64")
        .random_layer(300_000, seed)
        .platform("linux/arm64")
        .random_layer(200_000, seed + 1)
        .attested()
        .build()
}

fn reference(image: &Image) -> String {
    format!("source.example/{}:{}", image.repository(), image.tag())
}

async fn private_source(auth: Auth, image: &Image) -> FakeRegistry {
    let source = FakeRegistry::builder().auth(auth).start().await.unwrap();
    source.push(image);
    source
}

fn basic() -> Auth {
    Auth::Basic {
        user: USER.into(),
        password: PASSWORD.into(),
    }
}

fn tokens() -> Auth {
    Auth::Token {
        account: Some((USER.into(), PASSWORD.into())),
        lifetime: Duration::from_secs(300),
    }
}

/// A node with keys, and its control service.
async fn controlled(source: &FakeRegistry, settings: &str) -> (Node, ControlClient<Channel>, tempfile::TempDir) {
    let keys = tempfile::tempdir().unwrap();
    write_key(keys.path(), "k1", 1);
    let settings = format!("{settings}\n[access]\nkeys_dir = \"{}\"", keys.path().display());
    let node = Node::start(source, &settings).await;
    let control = ControlClient::connect(node.grpc.clone()).await.unwrap();
    (node, control, keys)
}

fn write_key(dir: &Path, id: &str, byte: u8) {
    let key = base64::engine::general_purpose::STANDARD.encode([byte; 32]);
    std::fs::write(dir.join(id), key).unwrap();
    std::fs::write(dir.join("active"), id).unwrap();
}

async fn desire(control: &mut ControlClient<Channel>, references: &[String], platforms: &[&str]) {
    let put = references.iter().map(|reference| pb::DesiredImage {
        reference: reference.clone(),
        retain: false,
    });
    let request = pb::ChangeDesiredRequest {
        put: put.collect(),
        replace: true,
        last: true,
        platforms: platforms.iter().map(|platform| (*platform).to_owned()).collect(),
        ..pb::ChangeDesiredRequest::default()
    };
    control.change_desired(request).await.unwrap();
}

async fn admit(control: &mut ControlClient<Channel>, namespace: &str, reference: &str) -> Admission {
    let request = pb::AdmitRequest {
        namespace: namespace.into(),
        references: vec![reference.into()],
    };
    let reply = control.admit(request).await.unwrap().into_inner();
    reply.admissions[0].try_into().unwrap()
}

async fn grant(
    control: &mut ControlClient<Channel>,
    namespace: &str,
    reference: &str,
    passwords: &[&str],
) -> (GrantOutcome, String) {
    let credential = |(number, password): (usize, &&str)| pb::Credential {
        username: USER.into(),
        password: (*password).into(),
        origin: format!("{namespace}/secret-{number}"),
    };
    let request = pb::GrantRequest {
        namespace: namespace.into(),
        reference: reference.into(),
        credentials: passwords.iter().enumerate().map(credential).collect(),
    };
    let reply = control.grant(request).await.unwrap().into_inner();
    (reply.outcome.try_into().unwrap(), reply.origin)
}

/// Follows the states of images until one of them is as it should be.
struct Watched {
    stream: tonic::Streaming<pb::ImageChanges>,
    states: BTreeMap<String, pb::ImageState>,
    resume: Vec<u8>,
    phases: Vec<ImagePhase>,
}

impl Watched {
    async fn start(control: &mut ControlClient<Channel>, resume: &[u8]) -> Self {
        let request = pb::WatchImagesRequest {
            resume: resume.to_vec().into(),
        };
        Self {
            stream: control.watch_images(request).await.unwrap().into_inner(),
            states: BTreeMap::new(),
            resume: Vec::new(),
            phases: Vec::new(),
        }
    }

    async fn message(&mut self) -> pb::ImageChanges {
        let message = tokio::time::timeout(SOON, self.stream.message()).await;
        let changes = message.expect("a message in time").unwrap().expect("an open stream");
        self.resume = changes.resume.to_vec();
        for state in &changes.changed {
            self.phases.push(state.phase());
            self.states.insert(state.reference.clone(), state.clone());
        }
        for removed in &changes.removed {
            self.states.remove(removed);
        }
        changes
    }

    async fn until(&mut self, reference: &str, fits: impl Fn(&pb::ImageState) -> bool) -> pb::ImageState {
        let waited = tokio::time::timeout(SOON * 2, async {
            loop {
                if let Some(state) = self.states.get(reference).filter(|state| fits(state)) {
                    return state.clone();
                }
                self.message().await;
            }
        });
        match waited.await {
            Ok(state) => state,
            Err(_) => panic!("{reference} did not become so; last: {:?}", self.states.get(reference)),
        }
    }

    async fn until_ready(&mut self, reference: &str) -> pb::ImageState {
        self.until(reference, |state| state.phase() == ImagePhase::Ready).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_desired_image_is_filled_for_the_wanted_platforms_without_any_pull() {
    let (source, image) = (FakeRegistry::start().await, hello("1", 1));
    source.push(&image);
    let (node, mut control, _keys) = controlled(&source, "").await;
    let mut watched = Watched::start(&mut control, b"").await;
    desire(&mut control, &[reference(&image)], &["linux/amd64", "linux/arm64"]).await;
    let state = watched.until_ready(&reference(&image)).await;
    assert_eq!(state.digest, image.root().as_str());
    assert_eq!(state.source_digest, image.root().as_str());
    assert_eq!((state.percent, state.copies, state.copies_wanted), (100, 1, 1));
    assert!(!state.private && !state.stale && state.error.is_empty());
    assert!(state.completed_at_ms > 0 && state.checked_at_ms > 0);
    let expected: usize = image.blobs().values().map(|blob| blob.len()).sum();
    assert!((state.size_bytes as usize) < expected, "attestations are not filled");

    // It is there: a pull works without the source, which nobody has asked more than once for anything.
    for digest in image.blobs().keys() {
        assert!(source.count(&On::blob(digest)) <= 2, "{digest}");
    }
    let heads = || source.count(&On::manifests().method(Method::HEAD));
    let asked = heads();
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(heads(), asked, "a complete tag is not asked for in the background");
    drop(source);
    node.pull(&image, image.tag())
        .platform("linux/arm64")
        .run()
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_desired_digest_is_filled_and_what_is_desired_no_more_is_gone_from_the_watch() {
    let (source, image) = (FakeRegistry::start().await, hello("1", 1));
    source.push(&image);
    let (_node, mut control, _keys) = controlled(&source, "").await;
    let by_digest = format!("source.example/team/hello@{}", image.root());
    let mut watched = Watched::start(&mut control, b"").await;
    desire(&mut control, std::slice::from_ref(&by_digest), &["linux/amd64"]).await;
    let state = watched.until_ready(&by_digest).await;
    assert_eq!(state.digest, image.root().as_str());
    desire(&mut control, &[], &[]).await;
    while watched.states.contains_key(&by_digest) {
        watched.message().await;
    }
}

// Defect 5 of v1: a node pulled a cold image from its source, and the controller pulled it again.
#[tokio::test(flavor = "multi_thread")]
async fn a_cold_image_that_a_pod_pulls_and_the_controller_wants_is_fetched_once() {
    let (source, image) = (FakeRegistry::start().await, hello("1", 1));
    source.push(&image);
    let (node, mut control, _keys) = controlled(&source, "").await;
    let mut watched = Watched::start(&mut control, b"").await;
    let pull = node.pull(&image, image.tag()).platform("linux/amd64");
    let name = [reference(&image)];
    let (pulled, ()) = tokio::join!(pull.run(), desire(&mut control, &name, &["linux/amd64"]));
    pulled.unwrap();
    watched.until_ready(&name[0]).await;
    for digest in image.blobs().keys() {
        assert!(source.count(&On::blob(digest).method(Method::GET)) <= 1, "{digest}");
    }
    let manifests = source.count(&On::manifests().method(Method::GET));
    assert!(manifests <= image.manifests().len(), "{manifests}");
}

// Defect 9 of v1: an index lost what was not of a wanted architecture, attestations always, and with it its digest.
#[tokio::test(flavor = "multi_thread")]
async fn an_index_is_its_sources_and_all_of_it_is_served_whatever_platform_is_wanted() {
    let (source, image) = (FakeRegistry::start().await, hello("1", 1));
    source.push(&image);
    let (node, mut control, _keys) = controlled(&source, "").await;
    let mut watched = Watched::start(&mut control, b"").await;
    desire(&mut control, &[reference(&image)], &["linux/arm64"]).await;
    watched.until_ready(&reference(&image)).await;
    let pulled = node.pull(&image, image.tag()).run().await.unwrap();
    assert_eq!(pulled.root.as_ref(), Some(image.root()));
    let all = image.manifests().keys().chain(image.blobs().keys());
    assert_eq!(pulled.digests(), all.cloned().collect::<BTreeSet<_>>());
}

// Defect 21 of v1: an image that expired took every other tag of its digest along.
#[tokio::test(flavor = "multi_thread")]
async fn a_tag_that_is_desired_no_more_leaves_the_other_tags_of_its_image() {
    let (mut source, gone, kept) = (FakeRegistry::start().await, hello("1", 1), hello("2", 1));
    assert_eq!(gone.root(), kept.root());
    source.push(&gone);
    source.push(&kept);
    let (node, mut control, _keys) = controlled(&source, "").await;
    let names = [reference(&gone), reference(&kept)];
    let mut watched = Watched::start(&mut control, b"").await;
    desire(&mut control, &names, &["linux/amd64"]).await;
    for name in &names {
        watched.until_ready(name).await;
    }
    desire(&mut control, &names[1..], &["linux/amd64"]).await;
    while watched.states.contains_key(&names[0]) {
        watched.message().await;
    }
    source.stop().await;
    assert_eq!(watched.states[&names[1]].phase(), ImagePhase::Ready);
    node.pull(&kept, kept.tag())
        .platform("linux/amd64")
        .run()
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_cannot_be_fetched_says_why_and_comes_when_it_can() {
    let (source, image) = (FakeRegistry::start().await, hello("1", 1));
    let (_node, mut control, _keys) = controlled(&source, "").await;
    let mut watched = Watched::start(&mut control, b"").await;
    desire(&mut control, &[reference(&image)], &["linux/amd64"]).await;
    let failed = |state: &pb::ImageState| state.phase() == ImagePhase::Failed;
    let state = watched.until(&reference(&image), failed).await;
    assert!(state.error.contains("not found"), "{}", state.error);
    source.push(&image);
    let state = watched.until_ready(&reference(&image)).await;
    assert_eq!(state.error, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn content_that_is_lost_shows_and_is_filled_again() {
    let (source, image) = (FakeRegistry::start().await, hello("1", 1));
    source.push(&image);
    let (node, mut control, _keys) = controlled(&source, "").await;
    desire(&mut control, &[reference(&image)], &["linux/amd64"]).await;
    let mut watched = Watched::start(&mut control, b"").await;
    watched.until_ready(&reference(&image)).await;
    watched.phases.clear();
    remove_blobs(&node.data.path().join("node/store"));
    let begun = tokio::time::Instant::now();
    let not_ready = |state: &pb::ImageState| state.phase() != ImagePhase::Ready;
    watched.until(&reference(&image), not_ready).await;
    watched.until_ready(&reference(&image)).await;
    assert!(
        watched.phases.contains(&ImagePhase::Lost),
        "{:?} in {:?}",
        watched.phases,
        begun.elapsed()
    );
}

fn remove_blobs(dir: &Path) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            remove_blobs(&path);
        } else if path.metadata().unwrap().len() > 0 {
            std::fs::remove_file(path).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn refresh_asks_the_source_whatever_the_policy_and_fills_what_moved() {
    let (source, old, new) = (FakeRegistry::start().await, hello("1", 1), hello("1", 7));
    source.push(&old);
    let (_node, mut control, _keys) = controlled(&source, "[freshness]\ndefault = \"never\"").await;
    desire(&mut control, &[reference(&old)], &["linux/amd64"]).await;
    let mut watched = Watched::start(&mut control, b"").await;
    watched.until_ready(&reference(&old)).await;
    source.push(&new);
    let request = || pb::RefreshRequest {
        references: vec![reference(&old)],
    };
    control.refresh(request()).await.unwrap();
    let moved = |state: &pb::ImageState| state.digest == new.root().as_str() && state.phase() == ImagePhase::Ready;
    let state = watched.until(&reference(&old), moved).await;
    let served: Vec<_> = state.served.iter().map(|served| served.digest.as_str()).collect();
    assert_eq!(served, [new.root().as_str(), old.root().as_str()]);
    drop(source);
    tokio::time::sleep(Duration::from_millis(1100)).await;
    control.refresh(request()).await.unwrap();
    watched.until(&reference(&old), |state| state.stale).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_that_broke_off_goes_on_where_it_was() {
    let (source, image) = (FakeRegistry::start().await, hello("1", 1));
    source.push(&image);
    let (_node, mut control, _keys) = controlled(&source, "").await;
    let mut first = Watched::start(&mut control, b"").await;
    let beginning = first.message().await;
    assert!(beginning.from_beginning && beginning.synced && beginning.changed.is_empty());
    let resume = first.resume.clone();
    drop(first);
    desire(&mut control, &[reference(&image)], &["linux/amd64"]).await;
    let mut second = Watched::start(&mut control, &resume).await;
    let missed = second.message().await;
    assert!(!missed.from_beginning && missed.synced);
    second.until_ready(&reference(&image)).await;
    let mut third = Watched::start(&mut control, b"of another node").await;
    assert!(third.message().await.from_beginning);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_private_image_is_granted_admitted_and_filled() {
    for auth in [basic(), tokens()] {
        let image = hello("1", 1);
        let source = private_source(auth, &image).await;
        let (node, mut control, _keys) = controlled(&source, "").await;
        let name = reference(&image);
        assert_eq!(admit(&mut control, "team-a", &name).await, Admission::NeedsCredentials);
        let refused = grant(&mut control, "team-a", &name, &["wrong"]).await;
        assert_eq!(refused.0, GrantOutcome::Refused);
        let granted = grant(&mut control, "team-a", &name, &["wrong", PASSWORD]).await;
        assert_eq!(granted, (GrantOutcome::Granted, "team-a/secret-1".to_owned()));
        assert_eq!(admit(&mut control, "team-a", &name).await, Admission::Admitted);
        assert_eq!(admit(&mut control, "team-b", &name).await, Admission::NoGrant);

        desire(&mut control, std::slice::from_ref(&name), &["linux/amd64"]).await;
        let mut watched = Watched::start(&mut control, b"").await;
        let state = watched.until_ready(&name).await;
        assert!(state.private);
        drop(source);
        node.pull(&image, image.tag())
            .platform("linux/amd64")
            .run()
            .await
            .unwrap();

        let revoke = pb::RevokeRequest {
            namespace: "team-a".into(),
            repository: String::new(),
        };
        control.revoke(revoke).await.unwrap();
        assert_eq!(admit(&mut control, "team-a", &name).await, Admission::NoGrant);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_anyone_may_pull_needs_no_grant() {
    let (source, image) = (FakeRegistry::start().await, hello("1", 1));
    source.push(&image);
    let (_node, mut control, _keys) = controlled(&source, "").await;
    let name = reference(&image);
    assert_eq!(admit(&mut control, "team-a", &name).await, Admission::Admitted);
    let granted = grant(&mut control, "team-a", &name, &["whatever"]).await;
    assert_eq!(granted.0, GrantOutcome::Public);
    let missing = "source.example/team/missing:1";
    assert_eq!(admit(&mut control, "team-a", missing).await, Admission::NotFound);
    drop(source);
    assert_eq!(
        admit(&mut control, "team-b", &name).await,
        Admission::Admitted,
        "it is known to be public"
    );
    let unknown = "source.example/team/other:1";
    assert_eq!(
        admit(&mut control, "team-a", unknown).await,
        Admission::SourceUnreachable
    );
    let granted = grant(&mut control, "team-a", unknown, &["whatever"]).await;
    assert_eq!(granted.0, GrantOutcome::Unreachable);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_old_key_sealed_is_sealed_with_the_new_one() {
    let image = hello("1", 1);
    let source = private_source(basic(), &image).await;
    let (_node, mut control, keys) = controlled(&source, "").await;
    let name = reference(&image);
    grant(&mut control, "team-a", &name, &[PASSWORD]).await;
    write_key(keys.path(), "k2", 2);
    // Keys are read, and credentials looked at, every five seconds each.
    tokio::time::sleep(Duration::from_secs(11)).await;
    std::fs::remove_file(keys.path().join("k1")).unwrap();
    tokio::time::sleep(Duration::from_secs(6)).await;
    desire(&mut control, std::slice::from_ref(&name), &["linux/amd64"]).await;
    let mut watched = Watched::start(&mut control, b"").await;
    watched.until_ready(&name).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_key_nothing_is_stored() {
    let image = hello("1", 1);
    let source = private_source(basic(), &image).await;
    let node = Node::start(&source, "").await;
    let mut control = ControlClient::connect(node.grpc.clone()).await.unwrap();
    let granted = grant(&mut control, "team-a", &reference(&image), &[PASSWORD]).await;
    assert_eq!(granted.0, GrantOutcome::NoKey);
    let admitted = admit(&mut control, "team-a", &reference(&image)).await;
    assert_eq!(admitted, Admission::NeedsCredentials);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_with_a_port_is_understood_right_after_admission() {
    let (source, image) = (FakeRegistry::start().await, hello("1", 1));
    source.push(&image);
    let settings = format!("upstream.hosts.\"reg.example:5000\" = {{ url = \"{}\" }}", source.url());
    let (node, mut control, _keys) = controlled(&source, &settings).await;
    let _ = admit(&mut control, "team-a", "127.0.0.2:5000/team/hello:1").await;
    // Not understood, it is a name nobody resolves; understood, an address of this machine, to which nobody is led.
    let name = "127.0.0.2-5000/team/hello";
    let pulled = Pull::new(&node.url, name, "1").within(SOON).run().await;
    let error = pulled.expect_err("a host of this machine").to_string();
    assert!(error.contains("403"), "{error}");
    let facts = node.get("/kuik/v1/facts").await;
    assert!(
        facts.contains("127.0.0.2:5000") && facts.contains("reg.example:5000"),
        "{facts}"
    );
    let configured = Pull::new(&node.url, "reg.example-5000/team/hello", image.tag());
    configured.platform("linux/amd64").run().await.unwrap();
}
