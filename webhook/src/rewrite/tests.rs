//! What becomes of pods, as kube-image-keeper v1 documents it, and where it was mended.

use serde_json::{Value, json};

use proto::v1::Admission;

use super::*;

pub(super) const PORT: u16 = 7439;

pub(super) fn rules(policy: &str) -> Rules {
    Rules {
        policy: Arc::new(Policy::parse(policy).unwrap()),
        proxy_port: PORT,
        proxies: Proxies::Everywhere,
    }
}

pub(super) fn parse(pod: &Value) -> Pod {
    serde_json::from_value(pod.clone()).unwrap()
}

pub(super) fn subject(pod: &Value, occasion: Occasion) -> Subject {
    Subject {
        pod: parse(pod),
        occasion,
        held: None,
    }
}

/// Everything asked for is admitted, but for what `refused` says.
fn admissions(subject: &Subject, rules: &Rules, refused: &[(&str, Admission)]) -> Admissions {
    let answers = references(subject, rules).into_iter().map(|reference| {
        let refused = refused.iter().find(|(image, _)| *image == reference);
        let admission = refused.map_or(Admission::Admitted, |(_, admission)| *admission);
        (reference, admission.into())
    });
    Admissions::Answered(answers.collect())
}

fn apply(pod: &Value, patch: &Patch) -> Value {
    let mut patched = pod.clone();
    json_patch::patch(&mut patched, patch).unwrap();
    patched
}

fn done(pod: &Value, occasion: Occasion, policy: &str, refused: &[(&str, Admission)]) -> Value {
    let (subject, rules) = (subject(pod, occasion), rules(policy));
    let admissions = admissions(&subject, &rules, refused);
    apply(pod, &rewrite(&subject, &rules, &admissions).patch)
}

fn created(pod: &Value) -> Value {
    done(pod, Occasion::Create, "", &[])
}

fn updated(old: &Value, pod: &Value) -> Value {
    let old = Box::new(parse(old));
    done(pod, Occasion::Update { old }, "", &[])
}

fn pod(image: &str) -> Value {
    json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "app", "image": image}]}})
}

fn add(pod: &mut Value, name: &str, image: &str) {
    let containers = pod["spec"]["containers"].as_array_mut().unwrap();
    containers.push(json!({"name": name, "image": image}));
}

fn image(pod: &Value) -> &str {
    pod["spec"]["containers"][0]["image"].as_str().unwrap()
}

fn annotation<'pod>(pod: &'pod Value, key: &str) -> Option<&'pod str> {
    pod["metadata"]["annotations"][key].as_str()
}

fn reason(pod: &Value, key: &str) -> Option<String> {
    let reasons: Value = serde_json::from_str(annotation(pod, ANNOTATION_NOT_REWRITTEN)?).unwrap();
    let reason = reasons[key].as_str()?;
    Some(reason.split_once(':').unwrap().0.to_owned())
}

#[test]
fn every_place_of_an_image_is_rewritten_and_keeps_its_original() {
    let pod = json!({
        "metadata": {"name": "p"},
        "spec": {
            "initContainers": [{"name": "setup", "image": "busybox", "unknown": {"kept": true}}],
            "containers": [
                {"name": "app", "image": "reg.io:5000/a/b:1"},
                {"name": "side", "image": format!("quay.io/s@{}", oci::Digest::sha256(b"x"))},
            ],
            "volumes": [{"name": "data", "image": {"reference": "ghcr.io/d/e:2"}}, {"name": "tmp", "emptyDir": {}}],
        }
    });
    let done = created(&pod);
    let spec = &done["spec"];
    assert_eq!(spec["initContainers"][0]["image"], "localhost:7439/busybox");
    assert_eq!(spec["initContainers"][0]["unknown"]["kept"], true);
    assert_eq!(spec["containers"][0]["image"], "localhost:7439/reg.io-5000/a/b:1");
    assert!(
        spec["containers"][1]["image"]
            .as_str()
            .unwrap()
            .starts_with("localhost:7439/quay.io/s@sha256:")
    );
    assert_eq!(spec["volumes"][0]["image"]["reference"], "localhost:7439/ghcr.io/d/e:2");
    assert_eq!(annotation(&done, "original-init-image-setup"), Some("busybox"));
    assert_eq!(annotation(&done, "original-image-app"), Some("reg.io:5000/a/b:1"));
    assert_eq!(annotation(&done, "original-volume-image-data"), Some("ghcr.io/d/e:2"));
    assert_eq!(annotation(&done, "kuik.enix.io/rewrite-images"), Some("true"));
    assert_eq!(annotation(&done, ANNOTATION_NOT_REWRITTEN), None);
    assert_eq!(done["metadata"]["labels"]["kuik.enix.io/managed"], "true");
}

#[test]
fn what_is_left_says_why() {
    let policy = "ignored_images = [\"ignored\"]";
    let refused = [
        ("quay.io/private/a:1", Admission::NoGrant),
        ("quay.io/private/b:1", Admission::NeedsCredentials),
        ("gone.example/a:1", Admission::SourceUnreachable),
        ("quay.io/none:1", Admission::NotFound),
        ("quay.io/later:1", Admission::NotReady),
    ];
    let table = [
        ("quay.io/private/a:1", None, "NoGrant"),
        ("quay.io/private/b:1", None, "NeedsCredentials"),
        ("gone.example/a:1", None, "SourceUnreachable"),
        ("quay.io/none:1", None, "NotFound"),
        ("quay.io/later:1", None, "TierNotReady"),
        ("ignored/x", None, "Ignored"),
        ("nginx", Some("Never"), "PullPolicyNever"),
        ("no image", None, "Unreadable"),
        ("[::1]:5000/a", None, "RegistryOnNode"),
        ("[fd00::1]:5000/a", None, "Unreadable"),
        ("localhost/a", None, "RegistryOnNode"),
        ("localhost:5000/a", None, "RegistryOnNode"),
        ("127.0.0.1:5000/a", None, "RegistryOnNode"),
    ];
    for (written, pull_policy, why) in table {
        let mut pod = pod(written);
        pod["spec"]["containers"][0]["imagePullPolicy"] = json!(pull_policy);
        let done = done(&pod, Occasion::Create, policy, &refused);
        assert_eq!(image(&done), written);
        assert_eq!(reason(&done, "app").as_deref(), Some(why), "{written}");
        assert_eq!(annotation(&done, "kuik.enix.io/rewrite-images"), Some("false"));
        assert_eq!(annotation(&done, "original-image-app"), None);
    }
}

#[test]
fn one_image_that_is_left_does_not_keep_the_others() {
    let mut pod = pod("nginx");
    add(&mut pod, "other", "quay.io/private:1");
    pod["spec"]["volumes"] = json!([{"name": "v", "image": {"reference": "quay.io/v:1"}}]);
    let refused = [
        ("quay.io/private:1", Admission::NoGrant),
        ("quay.io/v:1", Admission::NotFound),
    ];
    let done = done(&pod, Occasion::Create, "", &refused);
    assert_eq!(image(&done), "localhost:7439/nginx");
    assert_eq!(reason(&done, "other").as_deref(), Some("NoGrant"));
    assert_eq!(reason(&done, "volume/v").as_deref(), Some("NotFound"));
    assert_eq!(reason(&done, "app"), None);
}

#[test]
fn nothing_is_rewritten_while_the_way_is_not_known_to_be_good() {
    let pod = pod("nginx");
    let subject = subject(&pod, Occasion::Create);
    let withheld = Admissions::Withheld(Kept::NoProxy);
    let done = apply(&pod, &rewrite(&subject, &rules(""), &withheld).patch);
    assert_eq!(image(&done), "nginx");
    assert_eq!(reason(&done, "app").as_deref(), Some("NoProxy"));
}

#[test]
fn pod_that_arrives_rewritten_gets_its_original_back_unless_admitted() {
    let admitted = created(&pod("localhost:7439/quay.io/a:1"));
    assert_eq!(image(&admitted), "localhost:7439/quay.io/a:1");
    assert_eq!(annotation(&admitted, "original-image-app"), Some("quay.io/a:1"));
    let refused = [("quay.io/a:1", Admission::NoGrant)];
    let given_back = done(&pod("localhost:7439/quay.io/a:1"), Occasion::Create, "", &refused);
    assert_eq!(image(&given_back), "quay.io/a:1");
    assert_eq!(reason(&given_back, "app").as_deref(), Some("NoGrant"));
}

#[test]
fn port_of_the_registry_comes_back_by_annotation_or_by_what_the_tier_knows() {
    let mut annotated = pod("localhost:7439/reg.io-5000/a:2");
    annotated["metadata"]["annotations"] = json!({"original-image-app": "reg.io:5000/a:1"});
    let refused = [("reg.io:5000/a:2", Admission::NoGrant)];
    assert_eq!(
        image(&done(&annotated, Occasion::Create, "", &refused)),
        "reg.io:5000/a:2"
    );

    let bare = pod("localhost:7439/reg.io-5000/a:2");
    assert_eq!(image(&done(&bare, Occasion::Create, "", &refused)), "reg.io:5000/a:2");
    let no_such_port = [
        ("reg.io:5000/a:2", Admission::SourceUnreachable),
        ("reg.io-5000/a:2", Admission::NoGrant),
    ];
    assert_eq!(
        image(&done(&bare, Occasion::Create, "", &no_such_port)),
        "reg.io-5000/a:2"
    );
}

#[test]
fn policy_that_refuses_one_reading_of_a_host_does_not_make_it_the_other() {
    type Row<'row> = (&'row str, &'row [(&'row str, Admission)], &'row str, Option<&'row str>);
    let bare = pod("localhost:7439/reg.io-5000/a:2");
    let only_dashed = [("reg.io:5000/a:2", Admission::SourceUnreachable)];
    let nowhere = [
        ("reg.io:5000/a:2", Admission::SourceUnreachable),
        ("reg.io-5000/a:2", Admission::SourceUnreachable),
    ];
    let with_port = r#"ignored_images = ["^reg\\.io:5000/"]"#;
    let dashed = r#"ignored_images = ["^reg\\.io-5000/"]"#;
    let either = r#"ignored_images = ["^reg\\.io"]"#;
    let rewritten = "localhost:7439/reg.io-5000/a:2";
    let table: [Row<'_>; 7] = [
        (with_port, &[], "reg.io:5000/a:2", Some("Ignored")),
        (with_port, &nowhere, "reg.io:5000/a:2", Some("Ignored")),
        (with_port, &only_dashed, rewritten, None),
        (dashed, &[], rewritten, None),
        (dashed, &only_dashed, "reg.io-5000/a:2", Some("Ignored")),
        (either, &only_dashed, "reg.io-5000/a:2", Some("Ignored")),
        (either, &[], "reg.io:5000/a:2", Some("Ignored")),
    ];
    for (policy, refused, expected, why) in table {
        let done = done(&bare, Occasion::Create, policy, refused);
        assert_eq!(image(&done), expected, "{policy} {refused:?}");
        assert_eq!(reason(&done, "app").as_deref(), why, "{policy} {refused:?}");
    }
}

/// Else who may name images at Docker Hub could reach a private registry through the proxy.
#[test]
fn private_image_is_not_reached_by_the_public_name_of_another() {
    let refused = [("team:5000/a:1", Admission::NoGrant)];
    let done = done(&pod("localhost:7439/team-5000/a:1"), Occasion::Create, "", &refused);
    assert_eq!(image(&done), "team:5000/a:1");
}

#[test]
fn rewritten_for_another_port_goes_to_the_port_of_now_if_it_was_ours() {
    let mut ours = pod("localhost:5555/nginx:1");
    ours["metadata"]["annotations"] = json!({"original-image-app": "nginx:1"});
    assert_eq!(image(&created(&ours)), "localhost:7439/nginx:1");
    assert_eq!(
        image(&created(&pod("localhost:5555/nginx:1"))),
        "localhost:5555/nginx:1"
    );
}

#[test]
fn container_another_webhook_adds_later_is_rewritten_and_the_first_stays() {
    let mut once = created(&pod("nginx:1"));
    add(&mut once, "proxy", "istio/proxy");
    let twice = created(&once);
    assert_eq!(image(&twice), "localhost:7439/nginx:1");
    assert_eq!(twice["spec"]["containers"][1]["image"], "localhost:7439/istio/proxy");
    assert_eq!(annotation(&twice, "original-image-app"), Some("nginx:1"));
    assert_eq!(annotation(&twice, "original-image-proxy"), Some("istio/proxy"));
}

#[test]
fn image_changed_after_the_first_pass_is_rewritten_anew() {
    let mut once = created(&pod("nginx:1"));
    once["spec"]["containers"][0]["image"] = json!("nginx:2");
    let twice = created(&once);
    assert_eq!(image(&twice), "localhost:7439/nginx:2");
    assert_eq!(annotation(&twice, "original-image-app"), Some("nginx:2"));
    once["spec"]["containers"][0]["image"] = json!("localhost:7439/nginx:3");
    assert_eq!(annotation(&created(&once), "original-image-app"), Some("nginx:3"));
}

#[test]
fn pod_from_before_the_install_is_labelled_and_never_rewritten() {
    let old = pod("nginx");
    let done = updated(&old, &old);
    assert_eq!(image(&done), "nginx");
    assert_eq!(done["metadata"]["labels"]["kuik.enix.io/managed"], "true");
    assert_eq!(annotation(&done, "kuik.enix.io/rewrite-images"), Some("false"));
    let mut changed = old.clone();
    changed["spec"]["containers"][0]["image"] = json!("nginx:2");
    assert_eq!(image(&updated(&old, &changed)), "nginx:2");
}

#[test]
fn pod_whose_user_asks_for_it_is_rewritten_on_update() {
    let old = pod("nginx");
    let mut asking = old.clone();
    asking["metadata"]["annotations"] = json!({"kuik.enix.io/rewrite-images": "true"});
    let done = updated(&old, &asking);
    assert_eq!(image(&done), "localhost:7439/nginx");
    assert_eq!(annotation(&done, "original-image-app"), Some("nginx"));
}

#[test]
fn update_of_a_rewritten_pod_touches_only_the_image_it_changes() {
    let mut old = created(&pod("nginx:1"));
    add(&mut old, "other", "quay.io/left:1");
    let mut labelled = old.clone();
    labelled["metadata"]["labels"]["a"] = json!("b");
    assert_eq!(updated(&old, &labelled), labelled);
    let mut changed = old.clone();
    changed["spec"]["containers"][0]["image"] = json!("nginx:2");
    let done = updated(&old, &changed);
    assert_eq!(image(&done), "localhost:7439/nginx:2");
    assert_eq!(done["spec"]["containers"][1]["image"], "quay.io/left:1");
}

#[test]
fn what_the_controller_gave_back_is_not_rewritten_again() {
    let old = created(&pod("nginx:1"));
    let mut restored = old.clone();
    restored["spec"]["containers"][0]["image"] = json!("nginx:1");
    restored["metadata"]["annotations"][ANNOTATION_RESTORED] = json!("{\"app\": \"no proxy on its node\"}");
    assert_eq!(updated(&old, &restored), restored);
    restored["metadata"]["annotations"]["kuik.enix.io/rewrite-images"] = json!("false");
    add(&mut restored, "other", "localhost:7439/redis");
    restored["metadata"]["annotations"]["original-image-other"] = json!("redis");
    assert_eq!(
        updated(&restored, &restored),
        restored,
        "though another stays rewritten"
    );
    let anew = created(&restored);
    assert_eq!(
        image(&anew),
        "localhost:7439/nginx:1",
        "a new pod made from it starts afresh"
    );
    assert_eq!(annotation(&anew, ANNOTATION_RESTORED), None);
}

#[test]
fn image_set_to_a_private_one_behind_the_proxy_is_given_back() {
    let old = pod("nginx");
    let changed = pod("localhost:7439/quay.io/private:1");
    let refused = [("quay.io/private:1", Admission::NoGrant)];
    let old = Box::new(parse(&old));
    let done = done(&changed, Occasion::Update { old }, "", &refused);
    assert_eq!(image(&done), "quay.io/private:1");
}

#[test]
fn new_port_reaches_only_containers_that_have_not_pulled() {
    let mut old = pod("localhost:5555/nginx:1");
    old["metadata"]["annotations"] = json!({
        "kuik.enix.io/rewrite-images": "true", "original-image-app": "nginx:1",
    });
    assert_eq!(image(&updated(&old, &old)), "localhost:7439/nginx:1");
    old["status"] = json!({"containerStatuses": [{"name": "app", "imageID": "sha256:1"}]});
    assert_eq!(image(&updated(&old, &old)), "localhost:5555/nginx:1");
}

#[test]
fn ephemeral_containers_are_rewritten_when_they_are_added_and_nothing_else() {
    let mut old = pod("nginx");
    old["spec"]["ephemeralContainers"] = json!([{"name": "first", "image": "busybox"}]);
    let mut pod = old.clone();
    pod["spec"]["ephemeralContainers"] = json!([
        {"name": "first", "image": "busybox"},
        {"name": "second", "image": "alpine:3"},
    ]);
    let old = Box::new(parse(&old));
    let subject = subject(&pod, Occasion::Ephemeral { old });
    let rules = rules("");
    let patch = rewrite(&subject, &rules, &admissions(&subject, &rules, &[])).patch;
    let expected = json!([
        {"op": "replace", "path": "/spec/ephemeralContainers/1/image", "value": "localhost:7439/alpine:3"}
    ]);
    assert_eq!(serde_json::to_value(patch).unwrap(), expected);
}

#[test]
fn what_nobody_can_put_back_is_rewritten_only_where_every_node_has_a_proxy() {
    let mut pod = pod("nginx");
    pod["spec"]["volumes"] = json!([
        {"name": "plain", "image": {"reference": "quay.io/d:1"}},
        {"name": "copied", "image": {"reference": "localhost:7439/quay.io/e:1"}},
    ]);
    let volume = |pod: &Value, index: usize| pod["spec"]["volumes"][index]["image"]["reference"].clone();
    let subject = subject(&pod, Occasion::Create);
    for (proxies, expected, why) in [
        (Proxies::Somewhere, ["quay.io/d:1", "quay.io/e:1"], Some("NotEveryNode")),
        (
            Proxies::Everywhere,
            ["localhost:7439/quay.io/d:1", "localhost:7439/quay.io/e:1"],
            None,
        ),
    ] {
        let rules = Rules { proxies, ..rules("") };
        let done = apply(
            &pod,
            &rewrite(&subject, &rules, &admissions(&subject, &rules, &[])).patch,
        );
        assert_eq!(
            image(&done),
            "localhost:7439/nginx",
            "a container's image can be put back"
        );
        assert_eq!([volume(&done, 0), volume(&done, 1)], expected, "{proxies:?}");
        assert_eq!(reason(&done, "volume/plain").as_deref(), why);
        assert_eq!(reason(&done, "volume/copied").as_deref(), why);
    }
}

#[test]
fn ephemeral_container_is_left_where_a_node_lacks_its_proxy() {
    let mut debugged = pod("nginx");
    debugged["spec"]["ephemeralContainers"] = json!([{"name": "debug", "image": "alpine:3"}]);
    let old = Box::new(parse(&pod("nginx")));
    let subject = subject(&debugged, Occasion::Ephemeral { old });
    let rules = Rules {
        proxies: Proxies::Somewhere,
        ..rules("")
    };
    let rewriting = rewrite(&subject, &rules, &admissions(&subject, &rules, &[]));
    assert!(rewriting.patch.0.is_empty(), "{:?}", rewriting.patch);
    assert_eq!(rewriting.decisions[1], Decision::Kept(Kept::NotEveryNode));
}

#[test]
fn held_pod_is_left_but_a_private_image_behind_the_proxy_is_still_checked() {
    let mut pod = pod("nginx");
    add(&mut pod, "other", "localhost:7439/quay.io/private:1");
    let mut subject = subject(&pod, Occasion::Create);
    subject.held = Some(Kept::Operator("x/Y".into()));
    let rules = rules("");
    let admissions = admissions(&subject, &rules, &[("quay.io/private:1", Admission::NoGrant)]);
    let done = apply(&pod, &rewrite(&subject, &rules, &admissions).patch);
    assert_eq!(image(&done), "nginx");
    assert_eq!(reason(&done, "app").as_deref(), Some("Operator"));
    assert_eq!(done["spec"]["containers"][1]["image"], "quay.io/private:1");
}

#[test]
fn label_that_another_webhook_adds_later_takes_the_rewriting_back() {
    let once = created(&pod("nginx"));
    let mut subject = subject(&once, Occasion::Create);
    subject.held = Some(Kept::NoProxyThere("Fargate"));
    let rules = rules("");
    let done = apply(
        &once,
        &rewrite(&subject, &rules, &admissions(&subject, &rules, &[])).patch,
    );
    assert_eq!(image(&done), "nginx");
    assert_eq!(reason(&done, "app").as_deref(), Some("NoProxyThere"));
    assert_eq!(annotation(&done, "original-image-app"), None);
}

#[test]
fn patch_is_small_and_escapes_names() {
    let mut pod = pod("nginx");
    pod["metadata"]["labels"] = json!({"kuik.enix.io/managed": "true"});
    pod["metadata"]["annotations"] = json!({"a": "b"});
    let subject = subject(&pod, Occasion::Create);
    let rules = rules("");
    let patch = rewrite(&subject, &rules, &admissions(&subject, &rules, &[])).patch;
    let expected = json!([
        {"op": "replace", "path": "/spec/containers/0/image", "value": "localhost:7439/nginx"},
        {"op": "add", "path": "/metadata/annotations/kuik.enix.io~1rewrite-images", "value": "true"},
        {"op": "add", "path": "/metadata/annotations/original-image-app", "value": "nginx"},
    ]);
    assert_eq!(serde_json::to_value(patch).unwrap(), expected);
}
