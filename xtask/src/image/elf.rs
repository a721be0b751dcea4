//! What a program or library says it needs, as `readelf` prints it; that works for any architecture.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

/// The names of the shared libraries that a file needs.
///
/// # Errors
/// If it is no ELF file, or binutils are not installed.
pub(crate) fn needed(file: &Path) -> Result<Vec<String>> {
    let output = Command::new("readelf")
        .arg("--dynamic")
        .arg("--wide")
        .arg(file)
        .output();
    let output = output.context("start readelf (package binutils)")?;
    if !output.status.success() {
        bail!(
            "{} is no program: {}",
            file.display(),
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(parse(&String::from_utf8_lossy(&output.stdout)))
}

fn parse(text: &str) -> Vec<String> {
    let lines = text.lines().filter(|line| line.contains("(NEEDED)"));
    let names = lines.filter_map(|line| Some(line.split_once('[')?.1.split_once(']')?.0.to_owned()));
    names.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_needed_libraries_are_listed() {
        let text = " 0x01 (NEEDED)  Shared library: [libm.so.6]\n 0x0e (SONAME)  Library soname: [libx.so.1]\n";
        assert_eq!(parse(text), ["libm.so.6"]);
    }
}
