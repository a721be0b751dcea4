//! Pull secrets: what is in them, and which of it a kubelet would use for an image. Pure.
//!
//! Source of the rules: Kubernetes' documentation of `imagePullSecrets`, "Interpretation of config.json".

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use k8s_openapi::api::core::v1::Secret;
use oci::Repository;
use serde::Deserialize;

const CONFIG_JSON: &str = ".dockerconfigjson";
const CONFIG: &str = ".dockercfg";
/// What a login to Docker Hub is filed under.
const DOCKER_HUB_KEY: &str = "index.docker.io";

/// A text that is never shown.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Hidden(pub(crate) String);

impl std::fmt::Debug for Hidden {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("hidden")
    }
}

/// A user's name and password for a registry or a part of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Login {
    /// Host, and a path in it where only that part is meant.
    scope: String,
    pub(crate) username: Hidden,
    pub(crate) password: Hidden,
}

#[derive(Deserialize)]
struct ConfigJson {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: String,
    #[serde(default)]
    auth: String,
}

/// Logins in a pull secret for `repository`, those for the smallest part of a registry first.
pub(crate) fn logins(secret: &Secret, repository: &Repository) -> Vec<Login> {
    let mut found: Vec<Login> = entries(secret)
        .into_iter()
        .filter_map(|(key, entry)| login(&key, entry))
        .collect();
    found.retain(|login| is_for(&login.scope, repository));
    found.sort_by(|one, other| other.scope.cmp(&one.scope));
    found
}

fn entries(secret: &Secret) -> BTreeMap<String, Entry> {
    let data = |key: &str| {
        secret
            .data
            .as_ref()
            .and_then(|data| data.get(key))
            .map(|bytes| bytes.0.as_slice())
    };
    if let Some(bytes) = data(CONFIG_JSON) {
        return serde_json::from_slice(bytes)
            .map(|config: ConfigJson| config.auths)
            .unwrap_or_default();
    }
    data(CONFIG)
        .and_then(|bytes| serde_json::from_slice(bytes).ok())
        .unwrap_or_default()
}

fn login(key: &str, entry: Entry) -> Option<Login> {
    let (username, password) = if entry.auth.is_empty() {
        (entry.username, entry.password)
    } else {
        let decoded = STANDARD_NO_PAD.decode(entry.auth.trim().trim_end_matches('=')).ok()?;
        let decoded = String::from_utf8(decoded).ok()?;
        let (username, password) = decoded.split_once(':')?;
        (username.to_owned(), password.trim_end_matches('\0').to_owned())
    };
    (!username.is_empty()).then(|| Login {
        scope: scope(key),
        username: Hidden(username),
        password: Hidden(password),
    })
}

/// `https://host/v1/` and `https://host/v2/` mean the host; other paths mean a part of it.
fn scope(key: &str) -> String {
    let key = key.trim_start_matches("https://").trim_start_matches("http://");
    let (host, path) = key.split_once('/').unwrap_or((key, ""));
    let path = match path {
        "v1" | "v2" => "",
        _ => path
            .strip_prefix("v1/")
            .or_else(|| path.strip_prefix("v2/"))
            .unwrap_or(path),
    };
    let path = path.trim_end_matches('/');
    if path.is_empty() {
        host.to_lowercase()
    } else {
        format!("{}/{path}", host.to_lowercase())
    }
}

fn is_for(scope: &str, repository: &Repository) -> bool {
    let (host, path) = scope.split_once('/').unwrap_or((scope, ""));
    if repository.host.is_docker_hub() && host == DOCKER_HUB_KEY {
        return repository.name.as_str().starts_with(path);
    }
    host_matches(host, repository.host.as_str()) && repository.name.as_str().starts_with(path)
}

/// `*.example.com` stands for one label; the port must be the same.
fn host_matches(pattern: &str, host: &str) -> bool {
    let split = |text: &str| {
        let (name, port) = text
            .rsplit_once(':')
            .map_or((text, None), |(name, port)| (name, Some(port.to_owned())));
        (name.split('.').map(str::to_owned).collect::<Vec<_>>(), port)
    };
    let ((patterns, pattern_port), (labels, port)) = (split(pattern), split(host));
    let label_matches = |(pattern, label): (&String, &String)| glob(pattern, label);
    pattern_port == port && patterns.len() == labels.len() && patterns.iter().zip(&labels).all(label_matches)
}

/// `*` stands for any characters within a label.
fn glob(pattern: &str, label: &str) -> bool {
    let Some((head, tail)) = pattern.split_once('*') else {
        return pattern == label;
    };
    let Some(rest) = label.strip_prefix(head) else {
        return false;
    };
    (0..=rest.len())
        .filter(|at| rest.is_char_boundary(*at))
        .any(|at| glob(tail, &rest[at..]))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::ByteString;
    use serde_json::{Value, json};

    use super::*;

    fn secret(key: &str, config: &Value) -> Secret {
        let data = [(key.to_owned(), ByteString(config.to_string().into_bytes()))];
        Secret {
            data: Some(data.into()),
            ..Secret::default()
        }
    }

    fn users(secret: &Secret, repository: &str) -> Vec<String> {
        let (host, name) = repository.split_once('/').unwrap();
        let repository = Repository::new(host.parse().unwrap(), name.parse().unwrap());
        logins(secret, &repository)
            .into_iter()
            .map(|login| login.username.0)
            .collect()
    }

    fn auth(user: &str) -> Value {
        json!({"auth": base64::engine::general_purpose::STANDARD.encode(format!("{user}:p:w"))})
    }

    #[test]
    fn auth_is_read_with_padding_and_without() {
        for auth in ["dTpwdw==", "dTpwdw"] {
            let secret = secret(CONFIG_JSON, &json!({"auths": {"reg.io": {"auth": auth}}}));
            assert_eq!(users(&secret, "reg.io/a"), ["u"], "{auth}");
        }
    }

    #[test]
    fn a_login_is_for_its_host_and_path_as_kubelets_take_it() {
        let all = secret(
            CONFIG_JSON,
            &json!({"auths": {
                "https://index.docker.io/v1/": auth("hub"),
                "quay.io": auth("quay"),
                "quay.io/team": auth("team"),
                "https://reg.io:5000/v2/": auth("port"),
                "*.example.com": auth("wild"),
            }}),
        );
        let table: [(&str, &[&str]); 8] = [
            ("docker.io/library/nginx", &["hub"]),
            ("quay.io/other/app", &["quay"]),
            ("quay.io/team/app", &["team", "quay"]),
            ("reg.io:5000/app", &["port"]),
            ("reg.io/app", &[]),
            ("a.example.com/app", &["wild"]),
            ("a.b.example.com/app", &[]),
            ("example.com/app", &[]),
        ];
        for (repository, expected) in table {
            assert_eq!(users(&all, repository), expected, "{repository}");
        }
    }

    #[test]
    fn both_formats_and_both_ways_to_write_a_login_are_read() {
        let plain = json!({"username": "u", "password": "p"});
        let old = secret(CONFIG, &json!({"reg.io": plain}));
        let new = secret(CONFIG_JSON, &json!({"auths": {"reg.io": plain}}));
        assert_eq!(users(&old, "reg.io/a"), ["u"]);
        assert_eq!(users(&new, "reg.io/a"), ["u"]);
        let coded = secret(CONFIG_JSON, &json!({"auths": {"reg.io": auth("u")}}));
        let repository = Repository::new("reg.io".parse().unwrap(), "a".parse().unwrap());
        assert_eq!(logins(&coded, &repository)[0].password.0, "p:w");
    }

    #[test]
    fn what_cannot_be_read_gives_no_login() {
        for config in [
            json!({"auths": {"reg.io": {"auth": "%%"}}}),
            json!([]),
            json!({"auths": {"reg.io": {}}}),
        ] {
            assert_eq!(users(&secret(CONFIG_JSON, &config), "reg.io/a"), Vec::<String>::new());
        }
        assert_eq!(users(&Secret::default(), "reg.io/a"), Vec::<String>::new());
    }

    #[test]
    fn a_login_is_never_shown() {
        let secret = secret(
            CONFIG_JSON,
            &json!({"auths": {"reg.io": {"username": "canary-u", "password": "canary-p"}}}),
        );
        let repository = Repository::new("reg.io".parse().unwrap(), "a".parse().unwrap());
        let shown = format!("{:?}", logins(&secret, &repository));
        assert!(!shown.contains("canary"), "{shown}");
    }
}
