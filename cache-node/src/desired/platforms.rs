//! Platforms that are wanted, and the children of an index that are for them. Pure.

use meta::{ChildReference, Platform};

/// What BuildKit calls the platform of an attestation.
const UNKNOWN: &str = "unknown";

/// Why a text is no platform.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not os/architecture[/variant]")]
pub struct PlatformError(String);

/// Reads `linux/arm64/v8`.
///
/// # Errors
/// [`PlatformError`] naming the text.
pub fn parse(text: &str) -> Result<Platform, PlatformError> {
    let wrong = || PlatformError(text.chars().take(80).collect());
    let parts: Vec<&str> = text.split('/').collect();
    if parts.iter().any(|part| part.is_empty()) {
        return Err(wrong());
    }
    match parts.as_slice() {
        [os, architecture] => Ok(platform(os, architecture, None)),
        [os, architecture, variant] => Ok(platform(os, architecture, Some(variant))),
        _ => Err(wrong()),
    }
}

/// What this node runs on, for a tier that was not told what the cluster's nodes are.
pub fn own() -> Platform {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    platform("linux", architecture, None)
}

fn platform(os: &str, architecture: &str, variant: Option<&str>) -> Platform {
    Platform {
        os: os.to_owned(),
        architecture: architecture.to_owned(),
        variant: variant.map(str::to_owned),
    }
}

/// The children to fill: those for a wanted platform, and those that do not say what they are for. Of an index with none
/// of them everything but attestations, since somebody desired it all the same.
pub(super) fn children<'a>(listed: &'a [ChildReference], wanted: &[Platform]) -> Vec<&'a ChildReference> {
    let fits = |child: &&ChildReference| match &child.platform {
        Some(platform) => wanted.iter().any(|wanted| serves(platform, wanted)),
        None => true,
    };
    let fitting: Vec<_> = listed.iter().filter(fits).collect();
    if !fitting.is_empty() {
        return fitting;
    }
    let is_content = |child: &&ChildReference| child.platform.as_ref().is_none_or(|platform| platform.os != UNKNOWN);
    listed.iter().filter(is_content).collect()
}

/// Whether an image for `platform` runs where `wanted` is asked for; a variant counts where both name one.
fn serves(platform: &Platform, wanted: &Platform) -> bool {
    let variants = platform.variant.as_ref().zip(wanted.variant.as_ref());
    platform.os == wanted.os
        && platform.architecture == wanted.architecture
        && variants.is_none_or(|(own, wanted)| own == wanted)
}

#[cfg(test)]
mod tests {
    use oci::Digest;

    use super::*;

    fn child(name: &str) -> ChildReference {
        ChildReference {
            digest: Digest::sha256(name.as_bytes()),
            size: 1,
            media_type: oci::MediaType::OCI_MANIFEST.parse().unwrap(),
            platform: (!name.is_empty()).then(|| parse(name).unwrap()),
        }
    }

    fn chosen(listed: &[&str], wanted: &[&str]) -> Vec<String> {
        let listed: Vec<_> = listed.iter().map(|name| child(name)).collect();
        let wanted: Vec<_> = wanted.iter().map(|name| parse(name).unwrap()).collect();
        let name = |child: &ChildReference| {
            let platform = child.platform.as_ref().unwrap();
            let variant = platform.variant.as_ref().map(|variant| format!("/{variant}"));
            format!(
                "{}/{}{}",
                platform.os,
                platform.architecture,
                variant.unwrap_or_default()
            )
        };
        children(&listed, &wanted).into_iter().map(name).collect()
    }

    #[test]
    fn children_for_wanted_platforms_are_filled() {
        let listed = [
            "linux/amd64",
            "linux/arm64/v8",
            "linux/arm/v6",
            "linux/arm/v7",
            "unknown/unknown",
        ];
        assert_eq!(chosen(&listed, &["linux/amd64"]), ["linux/amd64"]);
        assert_eq!(chosen(&listed, &["linux/arm64"]), ["linux/arm64/v8"]);
        assert_eq!(chosen(&listed, &["linux/arm/v7"]), ["linux/arm/v7"]);
        assert_eq!(chosen(&listed, &["linux/arm"]), ["linux/arm/v6", "linux/arm/v7"]);
        let both = ["linux/amd64", "linux/arm64/v8"];
        assert_eq!(chosen(&listed, &both), both);
    }

    #[test]
    fn an_index_without_a_wanted_platform_is_filled_but_for_attestations() {
        let listed = ["windows/amd64", "unknown/unknown"];
        assert_eq!(chosen(&listed, &["linux/amd64"]), ["windows/amd64"]);
    }

    #[test]
    fn malformed_platforms_are_refused() {
        for text in ["", "linux", "linux/", "/amd64", "linux/arm/v7/x"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
