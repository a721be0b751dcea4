//! Rewriting as kube-image-keeper v1 documents it, and where it was wrong.

use proptest::prelude::*;

use super::*;
use crate::digest::Digest;

fn rewritten(image: &str) -> String {
    rewrite(image, 7439).unwrap()
}

#[test]
fn images_are_rewritten_as_they_were_written() {
    let table = [
        ("nginx", "localhost:7439/nginx"),
        ("nginx:1.27", "localhost:7439/nginx:1.27"),
        ("grafana/grafana", "localhost:7439/grafana/grafana"),
        ("docker.io/nginx", "localhost:7439/docker.io/nginx"),
        ("quay.io/a/b:1", "localhost:7439/quay.io/a/b:1"),
        ("reg.io:5000/a/b:1", "localhost:7439/reg.io-5000/a/b:1"),
        ("reg.io:5000/a/b", "localhost:7439/reg.io-5000/a/b"),
        ("registry:5000/app", "localhost:7439/registry-5000/app"),
        ("10.0.0.1:5000/app:v1", "localhost:7439/10.0.0.1-5000/app:v1"),
        ("Quay.io/a:V1", "localhost:7439/quay.io/a:V1"),
    ];
    for (image, expected) in table {
        assert_eq!(rewritten(image), expected, "{image}");
    }
}

#[test]
fn only_the_port_of_the_registry_becomes_a_dash() {
    let digest = Digest::sha256(b"x");
    assert_eq!(
        rewritten(&format!("reg.io:5000/a:5000@{digest}")),
        format!("localhost:7439/reg.io-5000/a:5000@{digest}")
    );
    assert_eq!(rewritten("reg.io:443/a:443"), "localhost:7439/reg.io-443/a:443");
    assert_eq!(rewritten("a:5000"), "localhost:7439/a:5000");
}

#[test]
fn what_looks_like_a_registry_with_a_port_and_is_not_says_whose_it_is() {
    assert_eq!(rewritten("team-5000/a:1"), "localhost:7439/docker.io/team-5000/a:1");
    assert_eq!(rewritten("team-5000"), "localhost:7439/team-5000");
    assert_eq!(
        rewritten("docker.io/team-5000/a"),
        "localhost:7439/docker.io/team-5000/a"
    );
}

#[test]
fn digests_stay_what_they_are() {
    let digest = Digest::sha256(b"x");
    assert_eq!(
        rewritten(&format!("nginx@{digest}")),
        format!("localhost:7439/nginx@{digest}")
    );
    assert_eq!(
        rewritten(&format!("quay.io/a:1@{digest}")),
        format!("localhost:7439/quay.io/a:1@{digest}")
    );
}

#[test]
fn what_is_rewritten_already_goes_to_the_port_of_now() {
    let table = [
        ("localhost:7439/nginx", "localhost:7439/nginx"),
        ("localhost:5000/reg.io-5000/a:1", "localhost:7439/reg.io-5000/a:1"),
        ("localhost:1/team-5000/a", "localhost:7439/team-5000/a"),
    ];
    for (image, expected) in table {
        assert_eq!(rewritten(image), expected, "{image}");
    }
}

#[test]
fn what_a_proxy_would_read_as_another_image_is_refused() {
    let long = format!("quay.io/{}", "a".repeat(250));
    for image in ["[::1]:5000/a", "[fd00::2]/a", "Team/app", &long] {
        let refused = rewrite(image, 7439);
        assert!(
            matches!(refused, Err(ReferenceError::NotRewritable { .. })),
            "{image}: {refused:?}"
        );
    }
    for malformed in ["", "a b", "a:", "localhost:7439/", "http://a/b", "a@sha256:0"] {
        assert!(rewrite(malformed, 7439).is_err(), "{malformed}");
    }
}

#[test]
fn the_proxy_is_stripped_and_nothing_else() {
    let table = [
        ("localhost:7439/nginx:1", Some("nginx:1")),
        ("localhost:1/reg.io-5000/a", Some("reg.io-5000/a")),
        ("localhost/nginx", None),
        ("localhost:/nginx", None),
        ("localhost:+1/nginx", None),
        ("localhost:99999/nginx", None),
        ("localhost:7439", None),
        ("localhost.corp:7439/nginx", None),
        ("nginx", None),
    ];
    for (image, expected) in table {
        assert_eq!(strip(image), expected, "{image}");
    }
}

#[test]
fn a_first_part_like_host_and_port_may_mean_both() {
    assert_eq!(originals("reg.io-5000/a:1"), ["reg.io:5000/a:1", "reg.io-5000/a:1"]);
    assert_eq!(originals("team-5000/a"), ["team:5000/a", "team-5000/a"]);
    for alone in ["nginx", "quay.io/a", "my-team/a", "a-70000/b", "nginx-1"] {
        assert_eq!(originals(alone), [alone]);
    }
}

const IMAGE: &str = "([a-z]{1,5}\\.[a-z]{1,3}(-[0-9]{1,3})?(:[1-9][0-9]{0,3})?/)?[a-z]{1,6}(-[0-9]{1,4})?(/[a-z]{1,6}){0,3}(:[a-zA-Z0-9_]{1,9})?";

proptest! {
    #[test]
    fn rewriting_twice_is_rewriting_once(image in IMAGE, first in 1u16.., second in 1u16..) {
        let once = rewrite(&image, second).unwrap();
        prop_assert_eq!(rewrite(&once, second).unwrap(), once.clone());
        prop_assert_eq!(rewrite(&rewrite(&image, first).unwrap(), second).unwrap(), once);
    }

    #[test]
    fn the_original_is_among_what_a_rewritten_image_may_mean(image in IMAGE, port in 1u16..) {
        let once = rewrite(&image, port).unwrap();
        let canonical = |image: &str| image.parse::<ImageReference>().unwrap().canonical();
        let meant: Vec<_> = originals(strip(&once).unwrap()).iter().map(|image| canonical(image)).collect();
        prop_assert!(meant.contains(&canonical(&image)), "{} not in {:?}", image, meant);
    }

    #[test]
    fn arbitrary_text_never_panics_and_what_comes_out_is_an_image(text in "\\PC{0,80}") {
        if let Ok(image) = rewrite(&text, 7439) {
            prop_assert!(image.parse::<ImageReference>().is_ok());
        }
        originals(&text);
    }
}
