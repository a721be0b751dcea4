//! Which of an image's platforms a person asks about.

use std::fmt;
use std::str::FromStr;

/// One platform, or all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum AskedPlatform {
    /// `os/architecture`, with a variant or without.
    One(String),
    All,
}

/// The text is no platform.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("write os/architecture, such as linux/arm64, or all")]
pub(crate) struct PlatformError;

impl AskedPlatform {
    /// What containers on this machine are.
    pub(crate) fn of_this_machine() -> Self {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            "powerpc64" => "ppc64le",
            "x86" => "386",
            other => other,
        };
        Self::One(format!("linux/{architecture}"))
    }

    /// Whether an image for `platform` is asked about: `linux/arm64` also means its variants.
    pub(crate) fn matches(&self, platform: &str) -> bool {
        match self {
            Self::All => true,
            Self::One(asked) => {
                let rest = platform.strip_prefix(asked.as_str());
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            }
        }
    }
}

impl FromStr for AskedPlatform {
    type Err = PlatformError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "all" {
            return Ok(Self::All);
        }
        let parts: Vec<_> = text.split('/').collect();
        let well_formed = (2..=3).contains(&parts.len()) && parts.iter().all(|part| !part.is_empty());
        well_formed.then(|| Self::One(text.to_owned())).ok_or(PlatformError)
    }
}

impl fmt::Display for AskedPlatform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One(platform) => f.write_str(platform),
            Self::All => f.write_str("all"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variants_are_meant_by_their_architecture() {
        let arm: AskedPlatform = "linux/arm64".parse().unwrap();
        assert!(arm.matches("linux/arm64") && arm.matches("linux/arm64/v8"));
        assert!(!arm.matches("linux/arm") && !arm.matches("linux/amd64"));
        let old: AskedPlatform = "linux/arm".parse().unwrap();
        assert!(!old.matches("linux/arm64"));
        assert!(AskedPlatform::All.matches("windows/amd64"));
    }

    #[test]
    fn what_is_no_platform_is_refused() {
        for wrong in ["amd64", "linux/", "a/b/c/d", ""] {
            assert_eq!(wrong.parse::<AskedPlatform>(), Err(PlatformError), "{wrong}");
        }
    }
}
