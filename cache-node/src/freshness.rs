//! How fresh a tag must be before it is served, and what to do about it. Pure.
//!
//! The default asks the source at every pull, so that a pull through the cache sees what a direct pull would see.

use std::time::Duration;

use oci::{Repository, Tag};
use serde::Deserialize;

/// Rules a configuration may hold; each is tried in order for each uncached decision.
const RULES_MAX: usize = 1000;

/// When a cached tag is checked against its source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freshness {
    /// At every request; answers are shared for [`ANSWER_SHARED_FOR`].
    Always,
    /// When the last check is older than this.
    After(Duration),
    /// Never again once it is cached (kuik v1's way).
    Never,
}

/// How long one answer of a source to a tag check serves everyone who asks.
pub const ANSWER_SHARED_FOR: Duration = Duration::from_secs(1);

/// The policies of a configuration: the first rule whose pattern matches decides.
#[derive(Debug, Clone)]
pub struct FreshnessPolicies {
    default: Freshness,
    rules: Vec<(Pattern, Freshness)>,
}

/// A glob over `host/repository:tag`; `*` matches any run of characters, `/` included.
#[derive(Debug, Clone)]
struct Pattern(Vec<String>);

/// The `[freshness]` section as written.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawFreshness {
    default: Option<String>,
    #[serde(default)]
    rules: Vec<RawRule>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRule {
    pattern: String,
    policy: String,
}

/// Why a freshness section cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FreshnessError {
    /// Not `always`, `never` or `after: <duration>`.
    #[error("freshness policy {0:?} is not one of always, never, after: <number>s|m|h")]
    Policy(String),
    /// A pattern that can match nothing.
    #[error("freshness pattern is empty")]
    EmptyPattern,
    /// Too many rules.
    #[error("{0} freshness rules, at most {RULES_MAX} are allowed")]
    TooManyRules(usize),
}

/// What is known of a cached tag when someone asks for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CachedTag {
    /// Time since the source last confirmed it.
    pub checked_ago: Duration,
    /// Someone was given a newer image, which is not whole yet: what is cached is known to be old.
    pub is_outdated: bool,
}

/// What to do for a request of a tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TagDecision {
    /// Serve what is cached.
    ServeCached,
    /// Ask the source, and serve what is cached if it does not answer in time.
    CheckThenServe,
    /// The source is known to be down: serve what is cached, marked stale.
    ServeStale,
    /// Nothing is cached: the source decides, as it would for a direct pull.
    Ask,
}

impl FreshnessPolicies {
    /// The policy that applies to a tag.
    pub fn policy(&self, repository: &Repository, tag: &Tag) -> Freshness {
        if self.rules.is_empty() {
            return self.default;
        }
        let image = format!("{repository}:{tag}");
        let rule = self.rules.iter().find(|(pattern, _)| pattern.matches(&image));
        rule.map_or(self.default, |(_, freshness)| *freshness)
    }
}

impl Default for FreshnessPolicies {
    fn default() -> Self {
        Self {
            default: Freshness::Always,
            rules: Vec::new(),
        }
    }
}

/// Decides how to answer a request for a tag.
pub fn decide(policy: Freshness, cached: Option<CachedTag>, source_is_down: bool) -> TagDecision {
    let Some(cached) = cached else { return TagDecision::Ask };
    let due = match policy {
        // The source's answers are shared for a moment where it is asked, whatever the state says.
        Freshness::Always => true,
        Freshness::After(age) => cached.is_outdated || cached.checked_ago >= age,
        Freshness::Never => false,
    };
    match (due, source_is_down) {
        (false, _) => TagDecision::ServeCached,
        (true, true) => TagDecision::ServeStale,
        (true, false) => TagDecision::CheckThenServe,
    }
}

impl TryFrom<RawFreshness> for FreshnessPolicies {
    type Error = FreshnessError;

    fn try_from(raw: RawFreshness) -> Result<Self, FreshnessError> {
        if raw.rules.len() > RULES_MAX {
            return Err(FreshnessError::TooManyRules(raw.rules.len()));
        }
        let default = raw.default.map_or(Ok(Freshness::Always), |text| parse_policy(&text))?;
        let rule = |rule: RawRule| Ok((Pattern::parse(&rule.pattern)?, parse_policy(&rule.policy)?));
        let rules = raw.rules.into_iter().map(rule).collect::<Result<_, FreshnessError>>()?;
        Ok(Self { default, rules })
    }
}

fn parse_policy(text: &str) -> Result<Freshness, FreshnessError> {
    let wrong = || FreshnessError::Policy(text.to_owned());
    match text.trim() {
        "always" => Ok(Freshness::Always),
        "never" => Ok(Freshness::Never),
        other => {
            let age = other.strip_prefix("after:").ok_or_else(wrong)?.trim();
            let digits = age.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
            let count: u64 = age[..digits].parse().map_err(|_| wrong())?;
            let unit = match &age[digits..] {
                "s" => 1,
                "m" => 60,
                "h" => 3600,
                _ => return Err(wrong()),
            };
            Ok(Freshness::After(Duration::from_secs(
                count.checked_mul(unit).ok_or_else(wrong)?,
            )))
        }
    }
}

impl Pattern {
    fn parse(text: &str) -> Result<Self, FreshnessError> {
        if text.is_empty() {
            return Err(FreshnessError::EmptyPattern);
        }
        Ok(Self(text.split('*').map(str::to_owned).collect()))
    }

    fn matches(&self, text: &str) -> bool {
        let [first, middle @ .., last] = self.0.as_slice() else {
            return self.0.first().is_some_and(|whole| whole == text);
        };
        let Some(mut rest) = text.strip_prefix(first.as_str()) else {
            return false;
        };
        for part in middle {
            match rest.find(part.as_str()) {
                Some(at) => rest = &rest[at + part.len()..],
                None => return false,
            }
        }
        rest.ends_with(last.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policies(default: &str, rules: &[(&str, &str)]) -> Result<FreshnessPolicies, FreshnessError> {
        let rules = rules.iter().map(|(pattern, policy)| RawRule {
            pattern: (*pattern).into(),
            policy: (*policy).into(),
        });
        RawFreshness {
            default: Some(default.into()),
            rules: rules.collect(),
        }
        .try_into()
    }

    fn policy_of(policies: &FreshnessPolicies, image: &str) -> Freshness {
        let image: oci::ImageReference = image.parse().unwrap();
        policies.policy(&image.repository, &image.tag.unwrap())
    }

    #[test]
    fn the_first_matching_rule_decides() {
        let policies = policies(
            "always",
            &[
                ("docker.io/library/*:1.*", "never"),
                ("quay.io/*", "after: 5m"),
                ("*:latest", "always"),
            ],
        )
        .unwrap();
        assert_eq!(policy_of(&policies, "nginx:1.27"), Freshness::Never);
        assert_eq!(policy_of(&policies, "nginx:latest"), Freshness::Always);
        assert_eq!(
            policy_of(&policies, "quay.io/a/b:x"),
            Freshness::After(Duration::from_secs(300))
        );
        assert_eq!(policy_of(&policies, "ghcr.io/a:x"), Freshness::Always);
    }

    #[test]
    fn malformed_policies_are_refused() {
        for bad in [
            "",
            "sometimes",
            "after:",
            "after: 5",
            "after: 5d",
            "after: -1s",
            "after: 99999999999999999999s",
        ] {
            assert!(matches!(policies(bad, &[]), Err(FreshnessError::Policy(_))), "{bad}");
        }
        assert_eq!(
            policies("never", &[("", "never")]).unwrap_err(),
            FreshnessError::EmptyPattern
        );
    }

    #[test]
    fn decisions_follow_policy_age_and_source() {
        let old = Some(CachedTag {
            checked_ago: Duration::from_secs(100),
            is_outdated: false,
        });
        let new = Some(CachedTag {
            checked_ago: Duration::ZERO,
            is_outdated: false,
        });
        let outdated = Some(CachedTag {
            checked_ago: Duration::ZERO,
            is_outdated: true,
        });
        let table = [
            (Freshness::Always, None, false, TagDecision::Ask),
            (Freshness::Never, None, true, TagDecision::Ask),
            (Freshness::Always, old, false, TagDecision::CheckThenServe),
            (Freshness::Always, old, true, TagDecision::ServeStale),
            (Freshness::Always, new, false, TagDecision::CheckThenServe),
            (
                Freshness::After(Duration::from_secs(60)),
                outdated,
                false,
                TagDecision::CheckThenServe,
            ),
            (Freshness::Never, outdated, false, TagDecision::ServeCached),
            (
                Freshness::After(Duration::from_secs(60)),
                old,
                false,
                TagDecision::CheckThenServe,
            ),
            (
                Freshness::After(Duration::from_secs(600)),
                old,
                true,
                TagDecision::ServeCached,
            ),
            (Freshness::Never, old, true, TagDecision::ServeCached),
        ];
        for (policy, cached, down, expected) in table {
            assert_eq!(decide(policy, cached, down), expected, "{policy:?} {cached:?} {down}");
        }
    }
}
