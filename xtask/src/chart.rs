//! The Helm chart's chores: its README is made from its values, and what it names exists.

mod readme;
#[cfg(test)]
mod tests;
mod values;

use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::metadata::workspace_root;

/// Checks that the chart's README is what its values make of it.
///
/// # Errors
/// If it is not; names the command that makes it so.
pub(crate) fn check() -> Result<()> {
    let (written, made) = readme()?;
    if written != made {
        bail!("charts/kube-image-keeper/README.md is not made from its values: run cargo xtask chart-readme");
    }
    Ok(())
}

/// Writes the chart's README anew.
///
/// # Errors
/// If a file cannot be read or written.
pub(crate) fn write_readme() -> Result<()> {
    let (_, made) = readme()?;
    let path = directory().join("README.md");
    std::fs::write(&path, made).with_context(|| format!("write {}", path.display()))
}

/// The README as it is, and as it should be.
fn readme() -> Result<(String, String)> {
    let written = read("README.md")?;
    let values = values::parse(&read("values.yaml")?)?;
    let made = readme::render(&written, &values, &read("templates/_warnings.tpl")?)?;
    Ok((written, made))
}

fn read(name: &str) -> Result<String> {
    let path = directory().join(name);
    std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))
}

fn directory() -> PathBuf {
    workspace_root().join("charts/kube-image-keeper")
}
