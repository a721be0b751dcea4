//! What a person sets for the whole cluster: the file of `kuik up --config`, and `--upstream` on top of it.
//!
//! Checked here, before anything starts, so that a wrong key is told with its line in the person's own file and
//! not in one of the files made from it.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use http::Uri;
use http::uri::Scheme;
use oci::SourceHost;
use serde::{Deserialize, Serialize};

/// Settings that the children get as they are.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settings {
    /// Source registries, for nodes and proxy. Its keys are the `upstream` crate's.
    #[serde(default)]
    pub(crate) upstream: toml::Table,
    #[serde(default)]
    pub(crate) freshness: FreshnessSettings,
    #[serde(default)]
    pub(crate) fill: FillSettings,
}

/// When a cached tag is checked against its source. The nodes know the policies.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FreshnessSettings {
    /// `always`, `after: 60s` or `never`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) default: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) rules: Vec<FreshnessRule>,
}

/// A policy for the images that match a pattern.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FreshnessRule {
    pub(crate) pattern: String,
    pub(crate) policy: String,
}

/// Bounds of fills in each node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FillSettings {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) no_progress_seconds: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) in_flight_max: Option<usize>,
}

impl FreshnessSettings {
    pub(crate) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl FillSettings {
    pub(crate) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// `HOST=URL`: what is asked of HOST is fetched from URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UpstreamRule {
    pub(crate) host: SourceHost,
    pub(crate) url: String,
}

/// Why an upstream rule cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UpstreamRuleError {
    #[error("write HOST=URL, such as docker.io=https://mirror.example")]
    Form,
    #[error("{host:?} is no registry host, such as docker.io or quay.io:443")]
    Host { host: String },
    #[error("{url:?} is no URL such as https://mirror.example or http://127.0.0.1:5000")]
    Url { url: String },
}

/// Why the settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SettingsError {
    #[error("read configuration {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("configuration {} line {line}: {reason}", path.display())]
    Parse { path: PathBuf, line: usize, reason: String },
    #[error("upstream {host} is set twice")]
    SetTwice { host: SourceHost },
    #[error("configuration key upstream.hosts is no table")]
    HostsForm,
}

impl Settings {
    /// Reads the file, if there is one, and puts the rules on top of it.
    pub(crate) fn load(file: Option<&Path>, rules: &[UpstreamRule]) -> Result<Self, SettingsError> {
        let mut settings = file.map_or_else(|| Ok(Self::default()), Self::read)?;
        for (index, rule) in rules.iter().enumerate() {
            if rules[..index].iter().any(|earlier| earlier.host == rule.host) {
                return Err(SettingsError::SetTwice {
                    host: rule.host.clone(),
                });
            }
            settings.add_rule(rule)?;
        }
        Ok(settings)
    }

    /// Adds a rule; it wins over the file's URL for that host, whose other keys stay.
    pub(crate) fn add_rule(&mut self, rule: &UpstreamRule) -> Result<(), SettingsError> {
        let hosts = table_at(&mut self.upstream, "hosts").ok_or(SettingsError::HostsForm)?;
        let host = table_at(hosts, &rule.host.to_string()).ok_or(SettingsError::HostsForm)?;
        host.insert("url".to_owned(), rule.url.clone().into());
        Ok(())
    }

    fn read(path: &Path) -> Result<Self, SettingsError> {
        let text = std::fs::read_to_string(path).map_err(|source| SettingsError::Read {
            path: path.to_owned(),
            source,
        })?;
        toml::from_str(&text).map_err(|error| parse_error(path, &text, &error))
    }
}

fn table_at<'table>(table: &'table mut toml::Table, key: &str) -> Option<&'table mut toml::Table> {
    let empty = || toml::Table::new().into();
    table.entry(key).or_insert_with(empty).as_table_mut()
}

fn parse_error(path: &Path, text: &str, error: &toml::de::Error) -> SettingsError {
    let start = error.span().map_or(0, |span| span.start);
    let before = text.get(..start).unwrap_or_default();
    SettingsError::Parse {
        path: path.to_owned(),
        line: before.matches('\n').count() + 1,
        reason: error.message().replace('\n', " "),
    }
}

impl FromStr for UpstreamRule {
    type Err = UpstreamRuleError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (host, url) = text.split_once('=').ok_or(UpstreamRuleError::Form)?;
        let host = host
            .parse()
            .map_err(|_error| UpstreamRuleError::Host { host: host.to_owned() })?;
        if !is_base_url(url) {
            return Err(UpstreamRuleError::Url { url: url.to_owned() });
        }
        let url = url.trim_end_matches('/').to_owned();
        Ok(Self { host, url })
    }
}

impl fmt::Display for UpstreamRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.host, self.url)
    }
}

/// Credentials do not belong in a URL that is shown in process lists; the credentials file is for them.
fn is_base_url(url: &str) -> bool {
    let Ok(uri) = url.parse::<Uri>() else { return false };
    let web = uri.scheme() == Some(&Scheme::HTTP) || uri.scheme() == Some(&Scheme::HTTPS);
    let plain_authority = uri
        .authority()
        .is_some_and(|authority| !authority.as_str().contains('@'));
    web && plain_authority && uri.query().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings_of(text: &str, rules: &[UpstreamRule]) -> Result<Settings, SettingsError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kuik.toml");
        std::fs::write(&path, text).unwrap();
        Settings::load(Some(&path), rules)
    }

    fn rule(text: &str) -> UpstreamRule {
        text.parse().unwrap()
    }

    #[test]
    fn unknown_key_is_told_with_its_line() {
        let error = settings_of("[freshness]\ndefault = \"never\"\n[fil]\n", &[]).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("kuik.toml line 3: unknown field `fil`"), "{text}");
        let error = settings_of("[freshness]\n\nrule = 1\n", &[]).unwrap_err();
        assert!(error.to_string().contains("line 3: unknown field `rule`"), "{error}");
        assert_eq!(error.to_string().lines().count(), 1);
    }

    #[test]
    fn rule_wins_over_the_file_and_leaves_its_other_keys() {
        let text = "[upstream.hosts.\"docker.io\"]\nurl = \"https://old.example\"\ninsecure = true\n";
        let settings = settings_of(text, &[rule("docker.io=https://new.example/")]).unwrap();
        let host = settings.upstream["hosts"]["docker.io"].as_table().unwrap();
        assert_eq!(host["url"].as_str(), Some("https://new.example"));
        assert_eq!(host["insecure"].as_bool(), Some(true));
    }

    #[test]
    fn one_host_has_one_upstream() {
        let rules = [rule("quay.io=https://a.example"), rule("quay.io=https://b.example")];
        let error = Settings::load(None, &rules).unwrap_err();
        assert_eq!(error.to_string(), "upstream quay.io is set twice");
    }

    #[test]
    fn wrong_rules_are_refused() {
        for wrong in [
            "quay.io",
            "=https://a.example",
            "quay.io=",
            "quay.io=ftp://a.example",
            "quay.io=a.example",
        ] {
            assert!(wrong.parse::<UpstreamRule>().is_err(), "{wrong}");
        }
        let with_password = "quay.io=https://user:secret@a.example".parse::<UpstreamRule>();
        assert!(with_password.is_err());
    }
}
