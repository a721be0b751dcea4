//! The rule that nothing is called cached that no living node holds, case by case.

use proto::report::BlobHeld;

use super::*;
use crate::admin_client::AskError;

const INDEX: &str = "sha256:index";
const AMD64: &str = "sha256:amd64";
const ARM64: &str = "sha256:arm64";

fn blob(digest: &str, here: bool) -> BlobHeld {
    BlobHeld {
        digest: digest.to_owned(),
        size_bytes: 10,
        here,
        source: here.then(|| "upstream".to_owned()),
        fetched_at_ms: here.then_some(1000),
        reason: None,
    }
}

fn manifest(digest: &str, platform: Option<&str>, here: bool, blobs: Vec<BlobHeld>) -> ManifestHeld {
    ManifestHeld {
        digest: digest.to_owned(),
        media_type: "application/vnd.oci.image.manifest.v1+json".to_owned(),
        platform: platform.map(str::to_owned),
        is_index: platform.is_none(),
        here,
        blobs,
    }
}

/// A node with an index, an amd64 image of which it has the given blobs, and an arm64 one nobody asked for.
fn node(name: &str, has_config: bool, has_layer: bool) -> Answer<ExplainReport> {
    let blobs = vec![blob("sha256:config", has_config), blob("sha256:layer", has_layer)];
    let report = ExplainReport {
        image: "docker.io/library/nginx:1".to_owned(),
        applied_index: 5,
        digest: Some(INDEX.to_owned()),
        checked_at_ms: None,
        stale: false,
        desired: false,
        private: false,
        manifests: vec![
            manifest(INDEX, None, true, Vec::new()),
            manifest(AMD64, Some("linux/amd64"), true, blobs),
            manifest(ARM64, Some("linux/arm64/v8"), false, Vec::new()),
        ],
    };
    Answer {
        node: name.to_owned(),
        result: Ok(report),
    }
}

fn report_of(answer: &mut Answer<ExplainReport>) -> &mut ExplainReport {
    answer.result.as_mut().unwrap()
}

fn gone(name: &str) -> Answer<ExplainReport> {
    let result = Err(AskError::Unreachable("connection refused".to_owned()));
    Answer {
        node: name.to_owned(),
        result,
    }
}

fn explain(answers: &[Answer<ExplainReport>], platform: &str) -> Explanation {
    merge("docker.io/library/nginx:1", &platform.parse().unwrap(), answers)
}

#[test]
fn blobs_spread_over_living_nodes_are_cached() {
    let explained = explain(
        &[node("node-0", true, false), node("node-1", false, true)],
        "linux/amd64",
    );
    assert!(explained.cached, "{}", explained.reason);
    assert_eq!(explained.manifests[1].blobs[0].held_by, ["node-0"]);
    assert_eq!(explained.manifests[1].blobs[1].held_by, ["node-1"]);
}

#[test]
fn never_cached_when_the_only_holder_is_gone() {
    let explained = explain(&[node("node-0", true, false), gone("node-1")], "linux/amd64");
    assert!(!explained.cached);
    assert_eq!(explained.reason, "1 of 2 blobs are held by no node that answers");
    assert_eq!(explained.unreachable, ["node-1"]);
}

#[test]
fn never_cached_when_no_node_has_the_manifest_itself() {
    let mut only = node("node-0", true, true);
    report_of(&mut only).manifests[1].here = false;
    assert!(!explain(&[only], "linux/amd64").cached);
    let mut only = node("node-0", true, true);
    report_of(&mut only).manifests[0].here = false;
    assert!(
        !explain(&[only], "linux/amd64").cached,
        "without its index a tag cannot be pulled"
    );
}

#[test]
fn never_cached_when_the_blobs_are_not_known() {
    let mut only = node("node-0", true, true);
    report_of(&mut only).manifests[1].blobs.clear();
    let explained = explain(&[only], "linux/amd64");
    assert!(!explained.cached);
    assert_eq!(explained.reason, "no node that answers lists the blobs of a manifest");
}

#[test]
fn only_the_platform_asked_about_counts() {
    let answers = [node("node-0", true, true)];
    assert!(explain(&answers, "linux/amd64").cached);
    assert!(!explain(&answers, "linux/arm64").cached);
    assert!(!explain(&answers, "all").cached);
    let other = explain(&answers, "windows/amd64");
    assert_eq!(
        (other.cached, other.reason.as_str()),
        (false, "it has no manifest for windows/amd64")
    );
}

#[test]
fn image_without_an_index_is_judged_whatever_its_platform() {
    let mut only = node("node-0", true, true);
    let report = report_of(&mut only);
    report.manifests.retain(|manifest| manifest.digest == AMD64);
    report.manifests[0].platform = None;
    report.manifests[0].is_index = false;
    assert!(explain(&[only], "linux/riscv64").cached);
}

#[test]
fn node_that_is_behind_does_not_decide_what_the_tag_means() {
    let mut behind = node("node-0", true, true);
    let report = report_of(&mut behind);
    report.applied_index = 3;
    report.digest = Some("sha256:old".to_owned());
    report.manifests[0].digest = "sha256:old".to_owned();
    let explained = explain(&[behind, node("node-1", true, false)], "linux/amd64");
    assert_eq!(explained.digest.as_deref(), Some(INDEX));
    // Its blobs count all the same: they are served by digest.
    assert!(explained.cached, "{}", explained.reason);
}

#[test]
fn image_nobody_knows_is_not_cached() {
    let unknown = Answer {
        node: "node-0".to_owned(),
        result: Err(AskError::NotFound),
    };
    let explained = explain(&[unknown, gone("node-1")], "linux/amd64");
    assert!(!explained.cached);
    assert_eq!(explained.reason, "no node that answers knows it");
    assert_eq!(explained.unreachable, ["node-1"]);
    assert_eq!(explained.image, "docker.io/library/nginx:1");
}

#[test]
fn text_says_the_verdict_first() {
    let text = explain(
        &[node("node-0", true, false), node("node-1", false, true)],
        "linux/amd64",
    )
    .to_string();
    assert!(
        text.starts_with("docker.io/library/nginx:1 is cached for linux/amd64: every blob"),
        "{text}"
    );
    let text = explain(&[gone("node-0"), node("node-1", false, true)], "linux/amd64").to_string();
    assert!(
        text.starts_with("docker.io/library/nginx:1 is NOT cached for linux/amd64: 1 of 2"),
        "{text}"
    );
    assert!(text.contains("not asked, because they do not answer: node-0"), "{text}");
}

#[test]
fn what_is_kept_and_what_is_private_is_said() {
    let mut answer = node("node-0", true, true);
    let report = report_of(&mut answer);
    (report.desired, report.private) = (true, true);
    let explained = explain(&[answer], "linux/amd64");
    let text = explained.to_string();
    assert!(
        text.contains("desired  it is kept") && text.contains("private  only namespaces"),
        "{text}"
    );
    let json = serde_json::to_value(&explained).unwrap();
    assert_eq!((&json["desired"], &json["private"]), (&true.into(), &true.into()));
}
