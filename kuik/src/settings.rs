//! What a person sets for the whole cluster: the file of `kuik up --config`, and `--upstream` on top of it.
//!
//! Checked here, before anything starts, so that a wrong key is told with its line in the person's own file and
//! not in one of the files made from it.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use oci::SourceHost;
use serde::{Deserialize, Serialize};
use upstream::{BaseUrl, BaseUrlError, RawUpstreamConfig};

/// Settings that the children get as they are.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settings {
    /// Source registries, for nodes and proxy.
    #[serde(default)]
    pub(crate) upstream: RawUpstreamConfig,
    #[serde(default)]
    pub(crate) freshness: FreshnessSettings,
    #[serde(default)]
    pub(crate) fill: FillSettings,
    #[serde(default)]
    pub(crate) storage: StorageSettings,
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

/// Bounds of what each node keeps.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct StorageSettings {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) quota_bytes: Option<u64>,
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
    #[error(transparent)]
    Url(#[from] BaseUrlError),
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
    #[error("configuration key upstream")]
    Upstream(#[from] upstream::ConfigError),
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
            settings.add_rule(rule);
        }
        // The children do the same; here it is told before any of them starts.
        settings.upstream.load()?;
        Ok(settings)
    }

    /// Adds a rule; it wins over the file's URL for that host, whose other keys stay.
    pub(crate) fn add_rule(&mut self, rule: &UpstreamRule) {
        let hosts = &mut self.upstream.hosts;
        let same = |key: &&String| key.parse::<SourceHost>().is_ok_and(|host| host == rule.host);
        let key = hosts.keys().find(same).cloned();
        let host = hosts.entry(key.unwrap_or_else(|| rule.host.to_string())).or_default();
        host.url = Some(rule.url.clone());
    }

    fn read(path: &Path) -> Result<Self, SettingsError> {
        let text = std::fs::read_to_string(path).map_err(|source| SettingsError::Read {
            path: path.to_owned(),
            source,
        })?;
        toml::from_str(&text).map_err(|error| parse_error(path, &text, &error))
    }
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
        url.parse::<BaseUrl>()?;
        let url = url.to_owned();
        Ok(Self { host, url })
    }
}

impl fmt::Display for UpstreamRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.host, self.url)
    }
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
        let text = "[upstream.hosts.\"index.docker.io\"]\nurl = \"https://old.example\"\nrealms = [\"a.example\"]\n";
        let settings = settings_of(text, &[rule("docker.io=https://new.example")]).unwrap();
        assert_eq!(settings.upstream.hosts.len(), 1);
        let host = &settings.upstream.hosts["index.docker.io"];
        assert_eq!(host.url.as_deref(), Some("https://new.example"));
        assert_eq!(host.realms, ["a.example"]);
    }

    #[test]
    fn wrong_upstream_settings_are_told_before_anything_starts() {
        let error = settings_of("[upstream]\nhots = 1\n", &[]).unwrap_err().to_string();
        assert!(error.contains("line 2: unknown field `hots`"), "{error}");
        let error = settings_of("[upstream]\ncredentials_file = \"/nowhere\"\n", &[]).unwrap_err();
        let line = daemon::runtime::one_line(&error);
        assert!(
            line.starts_with("configuration key upstream: credentials_file: read \"/nowhere\": "),
            "{line}"
        );
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
