//! Names of objects: kube-image-keeper v1's, unless another image has taken that name or Kubernetes would refuse it.

use std::fmt::Write;

use ring::digest::{SHA256, digest};

/// Longest name of an object.
const NAME_BYTES_MAX: usize = 253;
/// Longest value of a label.
const LABEL_BYTES_MAX: usize = 63;
/// Of a hash in a name, in hexadecimal: two of a million images collide once in 500 000 clusters.
const HASH_CHARS: usize = 16;

/// Name of the object for `text`, an image or repository. `taken` says that another one's object has a name.
///
/// v1 mapped `a/b-c` and `a-b/c` to one name and let them overwrite each other; here the second gets a name of its own.
pub(crate) fn object_name(text: &str, taken: impl Fn(&str) -> bool) -> String {
    let plain = sanitized(text);
    if is_valid(&plain) && !taken(&plain) {
        return plain;
    }
    let mut name: String = plain.chars().take(NAME_BYTES_MAX - HASH_CHARS - 1).collect();
    name.truncate(name.trim_end_matches(['-', '.']).len());
    let name = name
        .trim_start_matches(['-', '.'])
        .replace("..", ".-")
        .replace(".-", "-")
        .replace("-.", "-");
    let hash = hex(&digest(&SHA256, text.as_bytes()).as_ref()[..HASH_CHARS / 2]);
    if name.is_empty() {
        hash
    } else {
        format!("{name}-{hash}")
    }
}

/// Value of a label that names an object: the name, or its SHA-224 as in v1 where it is too long.
pub(crate) fn label_value(name: &str) -> String {
    if name.len() <= LABEL_BYTES_MAX {
        return name.to_owned();
    }
    // Names this long were SHA-224 in v1; a label is only ever compared with what this function gives.
    hex(&digest(&SHA256, name.as_bytes()).as_ref()[..28])
}

/// v1's rule: lower case, every run of other characters than `a-z0-9.-` becomes one `-`.
fn sanitized(text: &str) -> String {
    let lower = text.to_lowercase();
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '.' || c == '-';
    let parts: Vec<&str> = lower.split(|c| !allowed(c)).filter(|part| !part.is_empty()).collect();
    parts.join("-")
}

/// Kubernetes' rule for names of objects: dot-separated labels that begin and end with a letter or digit.
fn is_valid(name: &str) -> bool {
    let label = |label: &str| !label.is_empty() && !label.starts_with('-') && !label.ends_with('-');
    !name.is_empty() && name.len() <= NAME_BYTES_MAX && name.split('.').all(label)
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a string cannot fail");
        text
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn free(_name: &str) -> bool {
        false
    }

    #[test]
    fn names_are_those_of_v1() {
        let table = [
            ("docker.io/library/nginx:1.25", "docker.io-library-nginx-1.25"),
            ("docker.io/library/nginx:latest", "docker.io-library-nginx-latest"),
            ("reg.io:5000/A/b_c:V1", "reg.io-5000-a-b-c-v1"),
            ("docker.io/library/nginx", "docker.io-library-nginx"),
        ];
        for (text, expected) in table {
            assert_eq!(object_name(text, free), expected);
        }
    }

    // Defect 15 of v1.
    #[test]
    fn images_that_v1_confused_have_two_names() {
        for (one, other) in [
            ("h.io/a/b-c:1", "h.io/a-b/c:1"),
            ("h.io/x_y:1", "h.io/x-y:1"),
            ("h.io/a:v1-RC", "h.io/a:v1-rc"),
        ] {
            let first = object_name(one, free);
            let second = object_name(other, |name| name == first);
            assert_eq!(first, sanitized(one));
            assert_ne!(first, second);
            assert!(second.starts_with(&first) && is_valid(&second), "{second}");
        }
    }

    #[test]
    fn names_kubernetes_would_refuse_are_not_used() {
        for text in [
            "h.io/a:v1-",
            "h.io/a:v1.-x",
            "h.io/a:1..2",
            &format!("h.io/{}:1", "a".repeat(300)),
        ] {
            let name = object_name(text, free);
            assert!(is_valid(&name), "{text}: {name}");
            assert_ne!(name, sanitized(text));
        }
    }

    #[test]
    fn labels_are_never_too_long() {
        assert_eq!(label_value("docker.io-library-nginx"), "docker.io-library-nginx");
        assert_eq!(label_value(&"a".repeat(64)).len(), 56);
    }

    proptest! {
        #[test]
        fn every_name_is_valid_and_never_a_taken_one(
            text in "[a-z0-9.]{1,9}(:[0-9]{1,5})?(/[a-zA-Z0-9._-]{1,90}){1,4}:[a-zA-Z0-9._-]{1,120}",
            taken in any::<bool>(),
        ) {
            let plain = sanitized(&text);
            let name = object_name(&text, |name| taken && name == plain);
            prop_assert!(is_valid(&name), "{}", name);
            prop_assert!(!(taken && name == plain));
        }
    }
}
