//! Checks licences, banned crates and sources of every dependency against `deny.toml`.
//!
//! The file is cargo-deny's, so cargo-deny can be run on it too; advisories are left to that, since they need
//! a database from outside (docs/adr/0003-dependency-rules.md).

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::licence;
use crate::metadata::{Graph, PATCHED, Package, workspace_root};

#[derive(Deserialize)]
struct Rules {
    licenses: Licences,
    bans: Bans,
}

#[derive(Deserialize)]
struct Licences {
    allow: Vec<String>,
}

#[derive(Deserialize)]
struct Bans {
    deny: Vec<Ban>,
}

#[derive(Deserialize)]
struct Ban {
    #[serde(rename = "crate")]
    name: String,
    reason: String,
}

/// Runs the check on the workspace's dependencies.
///
/// # Errors
/// Names every crate that breaks a rule.
pub(crate) fn check() -> Result<()> {
    let text = std::fs::read_to_string(workspace_root().join("deny.toml")).context("read deny.toml")?;
    let rules: Rules = toml::from_str(&text).context("parse deny.toml")?;
    let graph = Graph::load()?;
    let wrong: Vec<String> = graph.packages().filter_map(|package| judge(package, &rules)).collect();
    if !wrong.is_empty() {
        bail!("\n    {}", wrong.join("\n    "));
    }
    Ok(())
}

/// Why this package may not be in the tree, if so.
fn judge(package: &Package, rules: &Rules) -> Option<String> {
    let source = package.source.as_deref()?;
    let name = format!("{} {}", package.name, package.version);
    if !source.starts_with("registry+") && source != PATCHED {
        return Some(format!("{name}: comes from {source}, not from the registry"));
    }
    if let Some(ban) = rules.bans.deny.iter().find(|ban| ban.name == package.name) {
        return Some(format!("{name}: banned: {}", ban.reason));
    }
    let allowed = |licence: &str| rules.licenses.allow.iter().any(|allowed| allowed == licence);
    match package.licence.as_deref() {
        Some(expression) if licence::is_satisfied(expression, &allowed) => None,
        Some(expression) => Some(format!("{name}: licence not allowed: {expression}")),
        None => Some(format!("{name}: states no licence")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules() -> Rules {
        toml::from_str("licenses.allow = ['MIT']\nbans.deny = [{ crate = 'bad', reason = 'why' }]").unwrap()
    }

    fn package(name: &str, source: &str, licence: Option<&str>) -> Package {
        Package {
            name: name.to_owned(),
            version: "1.0.0".to_owned(),
            licence: licence.map(str::to_owned),
            source: Some(source.to_owned()),
            dependencies: Vec::new(),
        }
    }

    #[test]
    fn a_licensed_crate_of_the_registry_is_fine() {
        assert_eq!(
            judge(&package("good", "registry+index", Some("MIT OR GPL-3.0")), &rules()),
            None
        );
    }

    #[test]
    fn bans_sources_and_licences_are_each_refused() {
        assert!(
            judge(&package("bad", "registry+index", Some("MIT")), &rules())
                .unwrap()
                .contains("why")
        );
        assert!(judge(&package("good", "git+somewhere", Some("MIT")), &rules()).is_some());
        assert!(judge(&package("good", "registry+index", Some("GPL-3.0")), &rules()).is_some());
        assert!(judge(&package("good", "registry+index", None), &rules()).is_some());
    }
}
